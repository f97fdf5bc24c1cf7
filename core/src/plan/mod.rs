//! `(Snapshot, policies, now, seed) → (Plan, Report)`: every decision and its reason.

mod step;

pub use step::{MigrateStep, MoveReason, Plan, Step, SuspendStep, WakeReason, WakeStep};
