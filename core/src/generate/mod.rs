//! Made-up clusters for tests and benchmarks: plausible ones of any size, and nasty ones.
//!
//! Only built with the feature `generate`. Everything follows from a seed, so a failure names the cluster it failed
//! on.

mod cluster;
mod damage;
mod dice;
mod night;
mod passage;
mod policies;
mod workload;

pub use cluster::{Cluster, Shape};
pub use dice::Dice;
