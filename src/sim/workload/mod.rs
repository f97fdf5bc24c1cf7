//! Load over time: what each VM wants, what it gets on a node that it shares, and what is measured of both.
//!
//! ```text
//! Pattern ──demand(seed, vm, t)──▶ share ──capacity──▶ Measured ──▶ wire samples ──▶ LoadStore
//! ```
//!
//! Demand is a pure function of seed, VM and time, so a run can be repeated, and asked about any moment.

mod chance;
mod feed;
mod meter;
mod pattern;
mod share;

pub(crate) use chance::Chance;
pub use feed::Feeder;
pub use meter::{Measured, MeasuredNode, MeasuredVm, Meter, PlacedNode, PlacedVm, Placement};
pub use pattern::{Pattern, Workload};
pub use share::share_capacity;
