//! Migrations of ours whose target will not come up: each would hold one of KubeVirt's slots for up to five minutes, and
//! five of them would block every evacuation of the cluster (`docs/design/0001-kubevirt-facts.md`, "The five
//! slots"); one whose target can't be created would hold a slot of ours for as long as the cause lasts.

use super::draft::Draft;
use crate::model::{Migration, RecordedStep, Snapshot, Span, Step, StepOutcome, TakenBack};

/// A plan that can't be written to, because its status is refused, keeps a troubled migration no longer than this.
const NOTED_WITHIN: Span = Span::from_secs(60);

/// Asks for the deletion of every such migration that has not begun to move memory, once its plan has noted why: after
/// the deletion nothing else would tell.
pub(super) fn abort(draft: &mut Draft<'_>) {
    for migration in draft.snapshot.migrations.values() {
        let Some(trouble) = &migration.trouble else { continue };
        if migration.plan.is_none() || !migration.waits_for_target() || migration.deleting {
            continue;
        }
        let late = draft.now.since(migration.created) >= NOTED_WITHIN;
        let unnoted = late.then(|| TakenBack::because_of(trouble));
        let noted = noted(draft.snapshot, migration, || TakenBack::because_of(trouble));
        let Some(reason) = noted.or(unnoted) else { continue };
        let (migration, uid) = (migration.name.clone(), migration.uid.clone());
        draft.plan.steps.push(Step::Abort { migration, uid, reason: reason.message });
    }
}

/// Why its plan says that the migration is taken back; none while it does not say so yet. A migration whose plan is gone
/// has nobody to tell.
fn noted(snapshot: &Snapshot, migration: &Migration, now: impl FnOnce() -> TakenBack) -> Option<TakenBack> {
    let steps = snapshot.plans.values().flat_map(|plan| &plan.steps);
    let mut follows = steps.filter_map(|step| match step {
        RecordedStep::Migrate { migration: name, outcome, taken_back, .. } if *name == migration.name => {
            matches!(outcome, StepOutcome::Waiting | StepOutcome::Running).then_some(taken_back)
        }
        _ => None,
    });
    match follows.next() {
        Some(noted) => noted.clone(),
        None => Some(now()),
    }
}
