//! What is measured, and how often.
//!
//! The figures' source stands behind [`LoadReader`]. [`ProcFiles`] reads what the kernel says of the node as a
//! whole; what each VM uses is in its launcher's cgroup, and a reader of those takes the same place.

mod proc_files;
mod proc_text;
mod sampling;

pub use proc_files::ProcFiles;
pub use sampling::{LoadReader, Measured, ReadError, sample_for_ever};
