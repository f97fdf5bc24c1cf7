//! `(Snapshot, policies, now, seed) → (Plan, Report)`: every decision and its reason.
//!
//! [`decide`] lists the steps of one decision in their order. Each looks at the [`draft::Draft`], adds what should
//! be done to its plan and why to its report, and reserves what it took, so that later steps count on it.
//!
//! **Architecture invariant**: nothing in here reads a clock, a file or a random number, and nothing iterates in an
//! order that is not sorted. The same arguments give the same plan.

mod awake;
mod blockers;
mod candidate;
mod coming;
mod draft;
mod gate;
mod identity;
mod idle;
mod joint_load;
mod lasting;
mod overload;
mod place;
mod proposals;
mod renew;
mod report;
mod ruled;
mod shelf;
mod stays;
mod suspend;
mod troubled;
mod wake;

pub use awake::AwakeBecause;
pub use blockers::SuspendBlockers;
pub(crate) use candidate::attempt;
pub use gate::Gate;
pub use identity::{migration_name, plan_name};
pub(crate) use renew::renew;
pub use report::{
    CountedBy, NodeReport, NodeVerdict, PolicyReport, ProposalVerdict, RankedBlocker, ReplacedBy, Report, VmReport,
    VmReports, VmVerdict,
};
pub use stays::{NoPlace, StayReason};
pub use suspend::{FailoverProof, Need, Stranded, SuspendProof};

use crate::model::{Plan, Policies, Snapshot, Timestamp};

#[cfg(test)]
mod tests;

/// Decides what to do now, and says why about everything it looked at.
#[must_use]
pub fn decide(snapshot: &Snapshot, policies: &Policies, now: Timestamp, seed: u64) -> (Plan, Report) {
    let mut draft = draft::Draft::open(snapshot, policies, now, seed);
    troubled::abort(&mut draft);
    proposals::review(&mut draft);
    overload::relieve(&mut draft);
    idle::bring_back(&mut draft);
    wake::wake(&mut draft);
    blockers::judge(&mut draft);
    blockers::note_health_checks(&mut draft);
    blockers::note_machine_checks(&mut draft);
    suspend::suspend(&mut draft);
    lasting::note(&mut draft);
    draft.close()
}
