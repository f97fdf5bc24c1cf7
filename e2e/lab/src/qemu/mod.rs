//! Stock QEMU processes and what is said to them through QMP.
//!
//! [`Spec`] says what to start, [`Machine`] is a QEMU that runs, [`Migration`] leads one VM from a machine to another.
//! A machine's end is its [`Machine`]'s: dropping it kills QEMU, and a crash of ours does too ([`crate::child`]).
//! QEMU may die or freeze at any moment: each operation then ends in an error that says so, and nothing waits for ever.

mod machine;
pub mod migration;
pub mod qmp;
mod spec;

pub use machine::{LaunchError, Machine, OLDEST};
pub use migration::Migration;
pub use spec::{BadSpec, Spec};
