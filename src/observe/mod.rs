//! From the cluster to a [`Snapshot`](miyako_core::model::Snapshot): watches, agents' samples, Prometheus.
//!
//! * [`convert`]: Kubernetes objects → model values; pure.
//! * `watch`: lists and follows each kind and prunes objects at once.
//! * `world`: the one owner of what is known; joins what changed.
//! * [`Observer`]: the two together.
//! * [`load`]: what agents and Prometheus measure.

pub mod convert;
pub mod load;
mod observer;
mod pool;
mod seen;
mod watch;
mod world;

#[cfg(test)]
mod tests;

pub use observer::{Expected, Observer, Settings};
pub use seen::{Kind, ObjectKey};
pub(crate) use watch::Lenient;
pub(crate) use world::some;
pub use world::{Declared, EXPECTED_WITHIN, TOO_LONG};
