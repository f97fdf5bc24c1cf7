//! The thinking part of Miyako, with no client, clock, file, randomness or async: the compiler keeps it so.
//!
//! * [`model`]: what the rooms say to each other as plain values: the cluster, plan steps, power records, blockers.
//! * [`fit`]: what the Kubernetes scheduler would answer about one pod and one node.
//! * [`plan`]: `(Snapshot, policies, now, seed) → (Plan, Report)`; every decision and its reason.
//! * [`check`]: the safety rules over any plan, whoever made it.
//! * [`carry`]: a recorded plan led to its end, step by step.
//! * [`power`]: how one node goes to sleep and comes back.
//! * [`energy`]: what nodes draw and what sleeping saves.
//! * [`cost`]: what a migration costs, and what that says about whom to move and how.
//! * [`pass`]: what one pass decides from a snapshot: plans to write, and what each plan needs next.
//! * `generate` (a feature): made-up clusters for tests and benchmarks.
//!
//! Time and randomness come in as arguments and all maps are ordered, so one seed gives one result.

pub mod carry;
pub mod check;
pub mod cost;
pub mod energy;
pub mod fit;
#[cfg(feature = "generate")]
pub mod generate;
pub mod model;
pub mod pass;
pub mod plan;
pub mod power;
