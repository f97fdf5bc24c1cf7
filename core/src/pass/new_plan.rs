//! A plan that is to be written, and what will be read back of it.

use crate::{
    model::{
        NodeName, Plan, PlanName, PlanPhase, PlanRecord, Policy, PolicyMode, PolicyName, RecordedStep, Span, Step,
        Timestamp,
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
            steps: self.plan.steps.iter().filter_map(RecordedStep::of).collect(),
            refusals: Vec::new(),
        }
    }
}
