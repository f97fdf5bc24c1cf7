//! The simulated cluster: everything that stands in for a real one.

pub mod apiserver;
mod at;
pub mod cluster;
pub mod demo;
pub mod kubevirt;
pub mod neighbours;
pub mod oracle;
pub mod simulate;
pub mod simulation;
mod watched;
pub mod workload;
pub mod world;
