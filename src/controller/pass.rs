//! One pass, as far as it is thinking: what `core::pass` decided, with the objects that are to be written.

use crate::act::plan_object;
use crate::observe::convert;
use miyako_api::ConsolidationPlan;
use miyako_core::carry::Next;
use miyako_core::check::Violation;
use miyako_core::model::{MigrationMode, PlanRecord, Policies, Snapshot, Timestamp, Uid, VmKey};
use miyako_core::pass::{self, Aborted, Known};
use miyako_core::plan::Report;

/// A plan to lead on, and how.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    pub(super) record: PlanRecord,
    pub(super) next: Next,
    /// The object, if it is new and must be written first.
    pub(super) new: Option<ConsolidationPlan>,
}

/// What a pass found to do.
#[derive(Debug, Default)]
pub(super) struct Thoughts {
    pub(super) aborts: Vec<Aborted>,
    pub(super) carried: Vec<Carried>,
    /// VMs to take our label off.
    pub(super) stray_labels: Vec<(VmKey, Uid)>,
    /// Modes whose MigrationPolicy of ours somebody changed.
    pub(super) drifted: Vec<MigrationMode>,
    pub(super) violations: Vec<Violation>,
    pub(super) report: Report,
}

/// Thinks, and turns new plans into objects.
pub(super) fn think(snapshot: &Snapshot, policies: &Policies, known: &Known, now: Timestamp, seed: u64) -> Thoughts {
    let pass::Thoughts { aborts, carried, stray_labels, violations, report } =
        pass::think(snapshot, policies, known, now, seed);
    let with_object = |pass::Carried { record, next, new }: pass::Carried| {
        let new = new.map(|new| plan_object(&new, policies.policies.get(&new.policy), &snapshot.load));
        if let Some(object) = &new {
            // What is thought of a plan before it is written holds once it is read.
            debug_assert_eq!(convert::plan::convert(object).value, record, "a new plan reads as it was thought");
        }
        Carried { record, next, new }
    };
    let carried = carried.into_iter().map(with_object).collect();
    Thoughts { aborts, carried, stray_labels, drifted: Vec::new(), violations, report }
}
