//! Why a node is how it is, and what keeps it awake.

use super::{Explanation, Past, Seen, change};
use miyako_core::model::{Blocker, NodeName, PowerState, WindowAverage};
use miyako_core::plan::NodeVerdict;

/// So many VMs are listed.
const LISTED: usize = 50;

pub(super) fn explain(name: &NodeName, seen: &Seen<'_>, past: &Past) -> Option<Explanation> {
    let node = seen.snapshot.nodes.get(name)?;
    let report = seen.report.nodes.get(name)?;
    let mut told = Explanation { title: format!("node {name}"), ..Explanation::default() };
    let named = |name: Option<String>| name.unwrap_or_else(|| "none".to_owned());
    told.fact("Class", named(report.class.as_ref().map(ToString::to_string)));
    told.fact("Role", named(report.role.map(|role| format!("{role:?}"))));
    told.fact("Policy", named(report.policy.as_ref().map(ToString::to_string)));
    let ready = if node.ready { "Ready" } else { "not Ready" };
    let handler = if node.virt_handler_ready { "" } else { ", virt-handler is not ready" };
    told.fact("State", format!("{:?}, {ready}{handler}", node.power));
    if let Some(power) = seen.snapshot.powers.get(name).filter(|power| power.noted) {
        let since = power.since.map(|since| format!("since {since}: ")).unwrap_or_default();
        if let Some(message) = power.message.as_ref().filter(|_| node.power != PowerState::Awake) {
            told.fact("Power", format!("{since}{message}"));
        }
        if let Some(tested) = power.wake_tested {
            told.fact("Wake test", format!("woke at {tested}"));
        }
        if let Some(failed) = power.wake_failed {
            told.fact("Wake test", format!("failed to wake at {failed}"));
        }
    }
    told.fact("CPU for VMs", format!("{} cores", report.capacity.value()));
    if let Some(empty) = report.empty_cores {
        told.fact("Empty cores", empty.to_string());
    }
    if let WindowAverage::Full(load) = report.load {
        told.fact("Load", format!("{:.2} cores over the policy's window", load.value()));
    }
    let (reason, says, would_change) = change::of_node(&report.verdict);
    told.reason = Some(reason.to_owned());
    told.says = says;
    told.would_change = would_change.map(str::to_owned);
    if report.verdict == NodeVerdict::LoadUnknown && !seen.knows_load() {
        told.reason = Some("DependsOnLoad".to_owned());
        let policy = report.policy.as_ref().and_then(|policy| seen.policies.policies.get(policy));
        told.says = "Whether it is overloaded only the operator knows (--operator-url asks it).".to_owned();
        told.would_change = policy.map(|policy| {
            let thresholds = &policy.thresholds;
            let window = thresholds.overload_window.as_secs();
            format!("a VM leaves when its load is at {} or more over {window} s", thresholds.overload)
        });
        if let Some(operator) = &past.operator {
            told.says.clone_from(&operator.says);
            told.would_change.clone_from(&operator.would_change);
        }
    }
    let untested = report.blockers == [Blocker::NoWakeTest];
    if (report.can_sleep() || untested) && node.power == PowerState::Awake && past.operator.is_none() {
        told.says.push_str(if untested {
            " Nothing keeps it awake but that nobody knows whether it wakes."
        } else {
            " Nothing keeps it awake: it could sleep."
        });
        if let Some(because) = &report.awake_because {
            told.says.push_str(&format!(" It is awake because {because}."));
        }
    }
    let awake = report
        .blockers
        .iter()
        .filter(|_| node.power == PowerState::Awake)
        .map(|blocker| format!("{blocker}; {}", blocker.advice()));
    told.list("What keeps it awake", awake.collect());
    let here = || seen.snapshot.vms.values().filter(|vm| vm.node.as_ref() == Some(name));
    let mut vms: Vec<String> = here().take(LISTED).map(|vm| format!("{}: {} vCPUs", vm.key, vm.vcpus)).collect();
    let more = here().count().saturating_sub(LISTED);
    if more > 0 {
        vms.push(format!("and {more} more"));
    }
    told.list("VMs on it", vms);
    let touches = |step: &miyako_api::consolidation_plan::PlanStep| {
        step.target_node == name.as_str() || step.source_node.as_deref() == Some(name.as_str())
    };
    told.list("Last plans from, to or about it", past.plans(|_, step| touches(step)));
    told.list("Its last Events", past.events());
    Some(told)
}
