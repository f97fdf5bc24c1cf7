//! How a policy is doing, and all of them together.

use super::{Explanation, Past, Seen, change};
use miyako_core::model::{Hold, PolicyName};
use miyako_core::plan::{PolicyReport, VmVerdict};
use std::collections::BTreeMap;

pub(super) fn explain(name: &PolicyName, seen: &Seen<'_>, past: &Past) -> Option<Explanation> {
    let policy = seen.policies.policies.get(name)?;
    let report = seen.report.policies.get(name)?;
    let mut told = Explanation { title: format!("policy {name}"), ..Explanation::default() };
    told.fact("Mode", format!("{:?}", policy.mode));
    let classes: Vec<String> = policy.classes.iter().map(ToString::to_string).collect();
    told.fact("Classes", classes.join(", "));
    told.fact("Nodes", nodes(report));
    told.fact("VMs", report.vms.to_string());
    let thresholds = &policy.thresholds;
    let (overload, idle) = (thresholds.overload_window.as_secs(), thresholds.idle_window.as_secs());
    told.fact("Overloaded", format!("at {} over {overload} s", thresholds.overload));
    told.fact("Idle", format!("below {} over {idle} s", thresholds.idle));
    match &report.gate {
        Some(gate) => {
            told.reason = Some(gate.name().to_owned());
            told.says = format!("It starts no move now: {gate}.");
            told.would_change = Some(change::of_gate(gate));
        }
        None => {
            told.reason = Some("Open".to_owned());
            told.says = "Nothing holds it back: it moves VMs as their loads ask for.".to_owned();
        }
    }
    let unknown = report.unknown_classes.iter().map(|class| format!("there is no NodePowerClass {class}"));
    let lost = report.lost_classes.iter().map(|(class, winner)| format!("class {class} belongs to policy {winner}"));
    told.list("Classes that it does not have", unknown.chain(lost).collect());
    told.list("What holds, and whom", report.holds.iter().map(hold).collect());
    told.list("Its VMs, by why they stay", reasons(name, seen));
    told.list("What keeps its nodes awake", blockers(report));
    told.list("What the operator said last", past.conditions(name.as_str()));
    told.list("Its last plans", past.plans(|plan, _| plan.spec.policy == name.as_str()));
    told.list("Its last Events", past.events());
    Some(told)
}

fn hold(hold: &Hold) -> String {
    let whom = match (hold.holds_all, hold.overdue) {
        (true, _) => "holds the policy",
        (false, false) => "holds nothing else",
        (false, true) => "overdue, holds nothing else",
    };
    format!("{} ({whom}): {hold}. {}", hold.kind.name(), hold.cure)
}

fn nodes(report: &PolicyReport) -> String {
    format!(
        "{} shared, {} dedicated; {} awake, {} asleep, {} could sleep",
        report.shared, report.dedicated, report.awake, report.asleep, report.can_sleep
    )
}

/// How many VMs there are for each reason, the most first.
fn reasons(name: &PolicyName, seen: &Seen<'_>) -> Vec<String> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for vm in seen.report.vms.values().filter(|vm| vm.policy.as_ref() == Some(name)) {
        let reason = match &vm.verdict {
            VmVerdict::Stays { reason } if reason.name() == "LoadUnknown" && !seen.knows_load() => "DependsOnLoad",
            VmVerdict::Stays { reason } => reason.name(),
            VmVerdict::Moves { .. } => "Moves",
            VmVerdict::Planned { .. } => "Planned",
        };
        *counts.entry(reason).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    counts.into_iter().map(|(reason, vms)| format!("{reason}: {vms}")).collect()
}

fn blockers(report: &PolicyReport) -> Vec<String> {
    let told = report.blockers.iter().map(|one| {
        let nodes: Vec<String> = one.examples.iter().map(ToString::to_string).collect();
        format!(
            "{}: {} nodes ({} alone), such as {}; {}",
            one.reason,
            one.nodes,
            one.alone,
            nodes.join(", "),
            one.advice
        )
    });
    told.collect()
}

/// The whole cluster in short.
pub(super) fn overview(seen: &Seen<'_>) -> Explanation {
    let mut told = Explanation { title: "Miyako in this cluster".to_owned(), ..Explanation::default() };
    let unruled = seen.report.nodes.values().filter(|node| node.policy.is_none()).count();
    told.fact("Nodes", format!("{}, {unruled} of them ruled by no policy", seen.snapshot.nodes.len()));
    told.fact("VMs", seen.snapshot.vms.len().to_string());
    let waiting = seen.snapshot.plans.values().filter(|plan| !plan.is_cleared()).count();
    told.fact("Plans", format!("{} not over, {waiting} of them wait for approval", seen.snapshot.plans.len()));
    let switches = &seen.snapshot.switches;
    if let Some(by) = &switches.paused {
        told.fact("Paused", by.clone());
    }
    if let Some(by) = &switches.held {
        told.fact("Held", by.clone());
    }
    if seen.policies.policies.is_empty() {
        told.says = "There is no ConsolidationPolicy, so nothing is done.".to_owned();
        told.would_change =
            Some("write NodePowerClasses and a ConsolidationPolicy; `miyako lint` judges them".to_owned());
    }
    let policies = seen.report.policies.iter().map(|(name, report)| {
        let gate = report.gate.as_ref().map_or_else(|| "acts".to_owned(), |gate| format!("starts no move: {gate}"));
        format!("{name}: {}; {} VMs; {gate}", nodes(report), report.vms)
    });
    told.list("Policies", policies.collect());
    let blockers = seen.report.policies.values().flat_map(blockers);
    told.list("What keeps nodes awake", blockers.collect());
    told.list("Ask more with", vec!["miyako explain vm NAMESPACE/NAME | node NAME | policy NAME".to_owned()]);
    told
}
