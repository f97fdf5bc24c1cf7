//! What was recorded: plans, Events, a policy's status, and what the operator says itself.

use k8s_openapi::api::core::v1::Event;
use miyako_api::ConsolidationPlan;
use miyako_api::consolidation_plan::PlanStep;
use miyako_api::consolidation_policy::ConsolidationPolicyStatus;
use serde::Deserialize;
use std::collections::BTreeMap;

/// So many plans and Events are told of each.
const TOLD: usize = 5;

/// What was recorded.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// ConsolidationPlans, in any order.
    pub plans: Vec<ConsolidationPlan>,
    /// Events about the subject.
    pub events: Vec<Event>,
    /// Status of policies, by name.
    pub statuses: BTreeMap<String, ConsolidationPolicyStatus>,
    /// What the running operator, which knows the loads, says about the subject.
    pub operator: Option<OperatorSays>,
}

/// The running operator's own explanation, as its page shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorSays {
    /// What becomes of it, and why.
    pub says: String,
    /// What would change that.
    #[serde(default)]
    pub would_change: Option<String>,
}

impl Past {
    /// The newest plans with a step like this, each in a sentence.
    pub(super) fn plans(&self, wanted: impl Fn(&ConsolidationPlan, &PlanStep) -> bool) -> Vec<String> {
        let mut plans: Vec<&ConsolidationPlan> =
            self.plans.iter().filter(|plan| plan.spec.steps.iter().any(|step| wanted(plan, step))).collect();
        plans.sort_by(|a, b| {
            b.spec.decided_at.0.cmp(&a.spec.decided_at.0).then_with(|| a.metadata.name.cmp(&b.metadata.name))
        });
        plans.into_iter().take(TOLD).map(sentence).collect()
    }

    /// The newest Events, each in a sentence.
    pub(super) fn events(&self) -> Vec<String> {
        let mut events = self.events.clone();
        Self::keep_newest(&mut events);
        let sentence = |event: &Event| {
            let at = when(event).map(|at| format!("{at:.0}: ")).unwrap_or_default();
            let [reason, message] = [&event.reason, &event.message].map(|text| text.as_deref().unwrap_or_default());
            format!("{at}{reason}: {message}")
        };
        events.iter().map(sentence).collect()
    }

    /// So many Events are told.
    pub const EVENTS_TOLD: usize = TOLD;

    /// Keeps the newest Events, as many as are told, the newest first.
    pub fn keep_newest(events: &mut Vec<Event>) {
        events.sort_by_key(|event| std::cmp::Reverse(when(event)));
        events.truncate(TOLD);
    }

    /// The conditions that the operator last wrote about a policy.
    pub(super) fn conditions(&self, policy: &str) -> Vec<String> {
        let conditions = self.statuses.get(policy).into_iter().flat_map(|status| &status.conditions);
        let told = conditions.map(|condition| {
            let message = if condition.message.is_empty() { "" } else { ": " };
            format!("{} is {} ({}){message}{}", condition.type_, condition.status, condition.reason, condition.message)
        });
        told.collect()
    }
}

/// When an Event was told last.
fn when(event: &Event) -> Option<jiff::Timestamp> {
    let seconds = event.last_timestamp.as_ref().map(|time| time.0);
    event.event_time.as_ref().map(|time| time.0).or(seconds)
}

fn sentence(plan: &ConsolidationPlan) -> String {
    let name = plan.metadata.name.as_deref().unwrap_or_default();
    let phase = plan.status.as_ref().and_then(|status| status.phase);
    let phase = phase.map_or_else(|| "Proposed".to_owned(), |phase| format!("{phase:?}"));
    let why = plan.spec.steps.iter().map(|step| step.message.as_str()).find(|message| !message.is_empty());
    let said = plan.status.as_ref().and_then(|status| status.message.as_deref());
    let mut text = format!("{:.0}: {} – {phase}", plan.spec.decided_at.0, plan.spec.summary);
    if let Some(by) = &plan.spec.approved_by {
        text.push_str(&format!(", approved by {by}"));
    }
    text.push_str(&format!(" (plan {name}"));
    for more in why.into_iter().chain(said) {
        text.push_str(&format!("; {more}"));
    }
    text.push(')');
    text
}
