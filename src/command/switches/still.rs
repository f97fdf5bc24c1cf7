//! What holds policies back besides the switches, as the operator last said in their statuses. What it said of the switches
//! themselves is old by now.

use kube::Client;
use kube::api::{Api, ListParams};
use miyako_api::ConsolidationPolicy;
use miyako_api::consolidation_policy::{ConsolidationPolicyStatus, HoldReason, Mode};
use miyako_api::names::{condition, reason};

/// So many policies are looked at.
const MOST: u32 = 100;
/// What else keeps a policy from starting anything, as its condition Degraded names it.
const GATES: [&str; 4] = ["Incomplete", "KubeVirtUnusable", "RivalDescheduler", "HourSpent"];

/// What holds each policy back.
///
/// # Errors
/// The policies can't be listed.
pub(super) async fn holds(client: &Client) -> Result<Vec<String>, kube::Error> {
    let policies: Api<ConsolidationPolicy> = Api::all(client.clone());
    let found = policies.list(&ListParams::default().limit(MOST)).await?;
    let mut still = Vec::new();
    for policy in found.items {
        let name = policy.metadata.name.clone().unwrap_or_default();
        still.extend(of(&policy).into_iter().map(|what| format!("policy {name}: {what}")));
    }
    Ok(still)
}

fn of(policy: &ConsolidationPolicy) -> Vec<String> {
    if policy.spec.mode == Mode::Off {
        return vec!["its mode is Off".to_owned()];
    }
    let Some(status) = &policy.status else {
        return vec!["the operator has said nothing about it yet: see whether it runs".to_owned()];
    };
    let condition = |kind: &str, value: &str| {
        status.conditions.iter().find(|condition| condition.type_ == kind && condition.status == value)
    };
    let mut still = Vec::new();
    if let Some(ready) = condition(condition::READY, "False") {
        still.push(format!("not ready ({}): {}", ready.reason, ready.message));
    }
    if policy.spec.mode == Mode::Recommend {
        still.push("its mode is Recommend: what it proposes waits for `miyako approve`".to_owned());
    }
    still.extend(
        status
            .holds
            .iter()
            .filter(|hold| hold.holds_all && waits_for(policy, &hold.reason))
            .map(|hold| format!("{}: {}", hold.reason, hold.message)),
    );
    if let Some(degraded) =
        condition(condition::DEGRADED, "True").filter(|found| GATES.contains(&found.reason.as_str()))
    {
        still.push(format!("{}: {}", degraded.reason, degraded.message));
    }
    if !holds_by_switch(status)
        && let Some(held) = condition(condition::HELD, "True")
        && still.is_empty()
    {
        still.push(format!("{}: {}", reason::HELD, held.message));
    }
    still
}

/// A rollout of KubeVirt holds every policy, as do its evacuations.
fn waits_for(policy: &ConsolidationPolicy, kind: &str) -> bool {
    let asked = |reason: HoldReason| policy.spec.hold_when.contains(&reason);
    match kind {
        "ClusterUpgrade" => asked(HoldReason::ClusterUpgrade),
        "Backup" => asked(HoldReason::Backup),
        _ => true,
    }
}

/// The condition Held speaks of a switch, which is off by now.
fn holds_by_switch(status: &ConsolidationPolicyStatus) -> bool {
    status.switches.is_some()
}
