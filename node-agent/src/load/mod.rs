//! What is measured, and how often.
//!
//! ```text
//!  pods (API server) ── which pod is which VM ──┐
//!  cgroups, /proc ── counters, once a second ───┴─▶ KernelReader ── usage (pure) ─▶ sampling ─▶ stream
//! ```
//!
//! The figures' source stands behind [`LoadReader`]. Files stay open between readings; what a reading costs is in
//! `benches/load.rs`.

mod cgroups;
mod complaints;
pub mod dirty_rate;
mod files;
mod interfaces;
mod kernel_reader;
mod kernel_text;
mod launcher_processes;
mod node;
pub mod pods;
mod rapl;
pub mod report;
mod sampling;
mod usage;

pub use files::FileError;
pub use kernel_reader::{KernelReader, Sources};
pub use node::Capacity;
pub use sampling::{LoadReader, Measured, ReadError, sample_for_ever};
