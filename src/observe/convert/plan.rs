//! ConsolidationPlans, and the history folded from them.

use super::{Converted, Problems, objects};
use miyako_api::consolidation_plan::{self as api, ConsolidationPlan, PlanStep, StepKind, StepPhase, StepStatus};
use miyako_core::carry::MODE_IGNORED;
use miyako_core::model::{
    MigrationMode, MigrationName, MoveFailure, MoveKind, NodeName, PlanName, PlanPhase, PlanRecord, PolicyName,
    RecordedStep, Refusal, Span, StepOutcome, SuspendReason, TakenBack, Timestamp, Uid, VmKey, VmMoves, WakeKind,
};

/// Converts a ConsolidationPlan.
#[must_use]
pub fn convert(plan: &ConsolidationPlan) -> Converted<PlanRecord> {
    let mut problems = Problems::default();
    let spec = &plan.spec;
    let status = plan.status.clone().unwrap_or_default();
    let mut steps = Vec::new();
    for (index, step) in spec.steps.iter().enumerate() {
        let status = status.steps.iter().find(|status| usize::try_from(status.index) == Ok(index));
        let outcome = outcome(status);
        let step = read_step(step, status, outcome).unwrap_or_else(|| {
            problems
                .note(format!("spec.steps[{index}]"), "a move without its VM, source, mode or name; not carried out");
            RecordedStep::Unreadable { outcome }
        });
        steps.push(step);
    }
    let refusals = refusals(&steps, &status.steps);
    let record = PlanRecord {
        name: PlanName::new(objects::name(&plan.metadata).as_str()),
        policy: PolicyName::new(&spec.policy),
        needs_approval: spec.mode != miyako_api::consolidation_policy::Mode::Automatic,
        approved: spec.approved,
        decided: objects::timestamp(&spec.decided_at),
        expires: objects::timestamp(&spec.expires_at),
        ended: status.ended_at.as_ref().map(objects::timestamp),
        phase: match status.phase {
            None | Some(api::PlanPhase::Proposed) => PlanPhase::Proposed,
            Some(api::PlanPhase::Running) => PlanPhase::Running,
            Some(api::PlanPhase::Succeeded) => PlanPhase::Succeeded,
            Some(api::PlanPhase::Failed) => PlanPhase::Failed,
            Some(api::PlanPhase::Expired) => PlanPhase::Expired,
            Some(api::PlanPhase::Superseded) => PlanPhase::Superseded,
            Some(api::PlanPhase::Refused) => PlanPhase::Refused,
        },
        steps,
        refusals,
    };
    Converted::new(record, problems)
}

/// Reasons of a failed move whose migration was taken back before it moved memory: by us, because its target was
/// unschedulable, or by a person, who will have had a reason.
const TAKEN_BACK: [&str; 2] = ["TargetUnschedulable", "MigrationDeleted"];

/// The targets that were refused. Where the VM's own selector, affinity or tolerations say so we would not have asked:
/// it is something that we do not see, and does not go away by asking again.
fn refusals(steps: &[RecordedStep], statuses: &[StepStatus]) -> Vec<Refusal> {
    let refused = statuses.iter().filter(|status| {
        status.phase == StepPhase::Failed && status.reason.as_deref().is_some_and(|reason| TAKEN_BACK.contains(&reason))
    });
    let of = |status: &StepStatus| {
        let RecordedStep::Migrate { uid, target, .. } = steps.get(usize::try_from(status.index).ok()?)? else {
            return None;
        };
        let at = status.ended_at.as_ref().or(status.started_at.as_ref()).map(objects::timestamp)?;
        Some(Refusal { vm: uid.clone(), node: target.clone(), at })
    };
    refused.filter_map(of).collect()
}

fn outcome(status: Option<&StepStatus>) -> StepOutcome {
    match status.map(|status| status.phase) {
        None | Some(StepPhase::Waiting) => StepOutcome::Waiting,
        Some(StepPhase::Running) => StepOutcome::Running,
        Some(StepPhase::Succeeded) => StepOutcome::Succeeded,
        Some(StepPhase::Failed) => StepOutcome::Failed,
        Some(StepPhase::Skipped) => StepOutcome::Skipped,
    }
}

fn read_step(step: &PlanStep, status: Option<&StepStatus>, outcome: StepOutcome) -> Option<RecordedStep> {
    let target = NodeName::new(&step.target_node);
    let started = status.and_then(|status| status.started_at.as_ref()).map(objects::timestamp);
    match step.kind {
        StepKind::Wake => {
            let reason = WakeKind::of_name(&step.reason);
            let pod = step.pod.as_ref().map(|pod| Uid::new(&pod.uid));
            return Some(RecordedStep::Wake { node: target, reason, pod, started, outcome });
        }
        StepKind::Suspend => {
            let reason = SuspendReason::of_name(&step.reason);
            return Some(RecordedStep::Suspend { node: target, reason, started, outcome });
        }
        StepKind::Migrate => {}
    }
    let vm = step.vm.as_ref()?;
    let said =
        status.and_then(|status| Some((status.reason.as_deref()?, status.message.as_deref().unwrap_or_default())));
    Some(RecordedStep::Migrate {
        vm: VmKey::new(&vm.namespace, &vm.name),
        uid: Uid::new(&vm.uid),
        source: NodeName::new(step.source_node.as_ref()?),
        target,
        mode: match step.migration_mode? {
            api::MigrationMode::PreCopy => MigrationMode::PreCopy,
            api::MigrationMode::PostCopy => MigrationMode::PostCopy,
        },
        migration: MigrationName::new(&vm.namespace, step.migration_name.as_ref()?),
        reason: MoveKind::of_name(&step.reason),
        migration_uid: status.and_then(|status| status.migration_uid.as_deref()).map(Uid::new),
        started,
        ended: status.and_then(|status| status.ended_at.as_ref()).map(objects::timestamp),
        outcome,
        mode_ignored: status.and_then(|status| status.reason.as_deref()) == Some(MODE_IGNORED),
        taken_back: said
            .filter(|_| outcome == StepOutcome::Running)
            .and_then(|(why, words)| TakenBack::read(why, words)),
        failure: said
            .filter(|_| outcome == StepOutcome::Failed)
            .map(|(why, words)| MoveFailure { reason: why.to_owned(), message: words.to_owned() }),
    })
}

/// One move of one VM, as a plan recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedMove {
    /// The VMI's uid.
    pub vm: Uid,
    /// When it began.
    pub started: Timestamp,
    /// When it was over.
    pub ended: Option<Timestamp>,
    /// How it went.
    pub outcome: StepOutcome,
    /// The mode that was asked for, if KubeVirt did not apply it.
    pub ignored: Option<MigrationMode>,
    /// Why it failed.
    pub failure: Option<MoveFailure>,
}

/// The moves that a plan began.
#[must_use]
pub fn moves(plan: &PlanRecord) -> Vec<RecordedMove> {
    let begun = plan.steps.iter().filter_map(|step| match step {
        RecordedStep::Migrate { uid, started: Some(started), ended, outcome, mode, mode_ignored, failure, .. } => {
            let (vm, ignored, failure) = (uid.clone(), mode_ignored.then_some(*mode), failure.clone());
            Some(RecordedMove { vm, started: *started, ended: *ended, outcome: *outcome, ignored, failure })
        }
        // A step can fail before it began: its request was refused.
        RecordedStep::Migrate {
            uid, started: None, ended: Some(ended), outcome: StepOutcome::Failed, failure, ..
        } => {
            let (vm, outcome, failure) = (uid.clone(), StepOutcome::Failed, failure.clone());
            Some(RecordedMove { vm, started: *ended, ended: Some(*ended), outcome, ignored: None, failure })
        }
        _ => None,
    });
    begun.collect()
}

/// Notes who refused this VM within the last day, the newest word of each node.
pub fn note_refusals<'a>(moves: &mut VmMoves, refusals: impl IntoIterator<Item = &'a Refusal>, now: Timestamp) {
    let day_ago = now - Span::from_secs(24 * 3600);
    for Refusal { node, at, .. } in refusals.into_iter().filter(|refusal| refusal.at > day_ago) {
        let newest = moves.refused_by.entry(node.clone()).or_insert(*at);
        *newest = (*newest).max(*at);
    }
}

/// Folds the recorded moves of one VM. The order they come in does not matter, so a restart folds the same.
#[must_use]
pub fn fold<'a>(moves: impl IntoIterator<Item = &'a RecordedMove>, now: Timestamp) -> VmMoves {
    let mut moves: Vec<_> = moves.into_iter().collect();
    moves.sort_by_key(|one| (one.ended.unwrap_or(one.started), one.started));
    let day_ago = now - Span::from_secs(24 * 3600);
    let mut folded = VmMoves::default();
    for one in moves {
        if one.started > day_ago {
            folded.moves.push(one.started);
            folded.ignored.extend(one.ignored);
        }
        match one.outcome {
            StepOutcome::Succeeded => (folded.failures, folded.last_failure, folded.failure) = (0, None, None),
            StepOutcome::Failed => {
                folded.failures = folded.failures.saturating_add(1);
                folded.failure.clone_from(&one.failure);
                folded.last_failure = Some(one.ended.unwrap_or(one.started));
            }
            StepOutcome::Waiting | StepOutcome::Running | StepOutcome::Skipped => {}
        }
    }
    folded.moves.sort();
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(started: i64, ended: i64, outcome: StepOutcome) -> RecordedMove {
        let [started, ended] = [started, ended].map(Timestamp::from_secs);
        RecordedMove { vm: Uid::new("u"), started, ended: Some(ended), outcome, ignored: None, failure: None }
    }

    #[test]
    fn failures_count_since_the_last_success_in_any_order() {
        let now = Timestamp::from_secs(100_000);
        let mut moves = vec![
            one(99_000, 99_010, StepOutcome::Failed),
            one(99_100, 99_110, StepOutcome::Succeeded),
            one(99_200, 99_210, StepOutcome::Failed),
            one(99_300, 99_310, StepOutcome::Failed),
            one(10_000, 10_010, StepOutcome::Succeeded),
        ];
        let folded = fold(&moves, now);
        assert_eq!((folded.failures, folded.last_failure), (2, Some(Timestamp::from_secs(99_310))));
        assert_eq!(folded.moves.len(), 4, "the one of more than a day ago is forgotten");
        assert!(folded.moves.is_sorted());
        moves.reverse();
        assert_eq!(fold(&moves, now), folded);
    }
}
