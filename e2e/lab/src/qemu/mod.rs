//! Stock QEMU processes and what is said to them through QMP.
//!
//! [`Spec`] says what to start, [`Machine`] is a QEMU that runs, [`Migration`] leads one VM from a machine to another.
//! QEMU may die or freeze at any moment: each operation then ends in an error that says so, and nothing waits for ever.

mod machine;
pub mod migration;
mod process;
pub mod qmp;
mod spec;

pub use machine::{LaunchError, Machine};
pub use migration::Migration;
pub use process::Process;
pub use spec::{BadSpec, Spec};
