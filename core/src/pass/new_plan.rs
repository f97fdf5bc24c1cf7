//! A plan that is to be written, and what will be read back of it.

use crate::{
    model::{
        NodeName, Plan, PlanName, PlanPhase, PlanRecord, Policy, PolicyMode, PolicyName, RecordedStep, Span, Step,
        StepOutcome, Timestamp, WakeReason,
    },
    plan::{Report, SuspendProof},
};
use std::collections::BTreeMap;

/// An automatic plan that was not begun within this time is void: the load that it answers has changed.
const AUTOMATIC_TTL: Span = Span::from_secs(60);

/// The steps of one policy, to be written as one ConsolidationPlan.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPlan {
    /// The policy.
    pub policy: PolicyName,
    /// Its mode: in `Recommend` people are asked.
    pub mode: PolicyMode,
    /// The plan's name, a digest of what it wishes.
    pub name: PlanName,
    /// Its steps. None is an abort.
    pub plan: Plan,
    /// What its suspends rest on, by node.
    pub proofs: BTreeMap<NodeName, SuspendProof>,
    /// When it was decided.
    pub decided: Timestamp,
    /// When it is void unless begun.
    pub expires: Timestamp,
}

impl NewPlan {
    pub(super) fn of(policy: &Policy, name: PlanName, plan: Plan, report: &Report, now: Timestamp) -> Self {
        let ttl = if policy.mode == PolicyMode::Recommend { policy.plan_ttl } else { AUTOMATIC_TTL };
        let suspended = plan.steps.iter().filter_map(|step| match step {
            Step::Suspend(step) => report.proofs.get_key_value(&step.node),
            _ => None,
        });
        let proofs = suspended.map(|(node, proof)| (node.clone(), proof.clone())).collect();
        let policy_name = policy.name.clone();
        Self { policy: policy_name, mode: policy.mode, name, plan, proofs, decided: now, expires: now + ttl }
    }

    /// What the plan is once it is written.
    #[must_use]
    pub fn record(&self) -> PlanRecord {
        PlanRecord {
            name: self.name.clone(),
            policy: self.policy.clone(),
            needs_approval: self.mode != PolicyMode::Automatic,
            approved: false,
            decided: self.decided,
            expires: self.expires,
            ended: None,
            phase: PlanPhase::Proposed,
            steps: self.plan.steps.iter().filter_map(recorded).collect(),
            refusals: Vec::new(),
        }
    }
}

fn recorded(step: &Step) -> Option<RecordedStep> {
    let (started, outcome) = (None, StepOutcome::Waiting);
    match step {
        Step::Migrate(step) => Some(RecordedStep::Migrate {
            vm: step.vm.clone(),
            uid: step.uid.clone(),
            source: step.source.clone(),
            target: step.target.clone(),
            mode: step.mode,
            migration: step.migration.clone(),
            reason: step.reason.kind(),
            migration_uid: None,
            started,
            ended: None,
            outcome,
            mode_ignored: false,
            taken_back: None,
            failure: None,
        }),
        Step::Wake(step) => {
            let pod = match &step.reason {
                WakeReason::PendingPod { uid, .. } => Some(uid.clone()),
                _ => None,
            };
            Some(RecordedStep::Wake { node: step.node.clone(), reason: step.reason.kind(), pod, started, outcome })
        }
        Step::Suspend(step) => {
            Some(RecordedStep::Suspend { node: step.node.clone(), reason: step.reason, started, outcome })
        }
        Step::Abort { .. } => None,
    }
}
