//! Why a VM is where it is.

use super::{Explanation, Past, Seen, change};
use miyako_core::fit::{Candidate, Moment, Occupancy};
use miyako_core::model::{Labels, Node, Policy, Role, Vm, VmKey};
use miyako_core::plan::{NodeReport, StayReason, VmVerdict};

/// So many nodes are listed: enough to see a pattern.
const LISTED: usize = 20;

pub(super) fn explain(key: &VmKey, seen: &Seen<'_>, past: &Past) -> Option<Explanation> {
    let vm = seen.snapshot.vms.get(key)?;
    let mut told = Explanation { title: format!("vm {key}"), ..Explanation::default() };
    told.fact("Node", place(vm));
    told.fact("Size", format!("{} vCPUs, {} MiB of memory", vm.vcpus, vm.memory.0 >> 20));
    let policy = ruling(vm, seen);
    told.fact("Policy", policy.map_or_else(|| "none".to_owned(), |policy| policy.name.to_string()));
    if let Some(theirs) = migrates_by(vm) {
        told.fact("Migrates by", theirs);
    }
    if let Some(policy) = policy {
        let moves = seen.snapshot.history.of(&vm.uid).map_or(0, |moves| moves.within_a_day(seen.now));
        told.fact("Moves", format!("{moves} of {} within a day", policy.budgets.moves_per_vm_per_day));
        let gate = seen.report.policies.get(&policy.name).and_then(|report| report.gate.as_ref());
        if let Some(gate) = gate {
            told.fact("Held back", gate.to_string());
            told.would_change = Some(change::of_gate(gate));
        }
    }
    judge(&mut told, key, seen, past);
    if let Some(policy) = policy {
        told.list("Nodes considered", considered(vm, policy, seen));
    }
    let ours = |step: &miyako_api::consolidation_plan::PlanStep| {
        step.vm.as_ref().is_some_and(|vm| vm.namespace == key.namespace.as_str() && vm.name == key.name.as_str())
    };
    told.list("Its last plans", past.plans(|_, step| ours(step)));
    told.list("Its last Events", past.events());
    Some(told)
}

/// The user's own MigrationPolicy that decides how it migrates, and those that only their names rank behind it.
fn migrates_by(vm: &Vm) -> Option<String> {
    let theirs = vm.user_migration_policy.as_ref()?;
    Some(match vm.equal_migration_policies.as_slice() {
        [] => format!("MigrationPolicy {theirs}"),
        equals => format!(
            "MigrationPolicy {theirs}, only because its name comes first: {} match as well. Let their selectors \
             exclude each other",
            equals.join(", ")
        ),
    })
}

/// Where it runs and since when.
fn place(vm: &Vm) -> String {
    let Some(node) = &vm.node else { return "none".into() };
    let arrived = vm.last_migration.as_ref().filter(|last| last.target.as_ref() == Some(node) && !last.failed);
    match arrived.and_then(|last| Some((last, last.ended?))) {
        Some((last, ended)) => {
            let source = last.source.as_ref().map(|source| format!(" from {source}")).unwrap_or_default();
            format!("{node} since {ended}, when it was migrated{source}")
        }
        None => format!("{node} since it started"),
    }
}

/// The policy that rules it, or that rules its node and would leave it out.
fn ruling<'a>(vm: &Vm, seen: &Seen<'a>) -> Option<&'a Policy> {
    let found = seen.report.vms.get(&vm.key).and_then(|report| report.policy.as_ref());
    let of_node = || seen.report.nodes.get(vm.node.as_ref()?)?.policy.as_ref();
    seen.policies.policies.get(found.or_else(of_node)?)
}

fn judge(told: &mut Explanation, key: &VmKey, seen: &Seen<'_>, past: &Past) {
    let Some(report) = seen.report.vms.get(key) else { return };
    let gated = told.would_change.take();
    match &report.verdict {
        VmVerdict::Moves { target, reason } => {
            told.reason = Some(reason.name().to_owned());
            told.says = format!("It moves to {target}: {reason}.");
        }
        VmVerdict::Planned { plan } => {
            told.reason = Some("Planned".to_owned());
            let record = seen.snapshot.plans.get(plan);
            told.says = match record.filter(|record| !record.is_cleared()) {
                Some(record) => format!("Plan {plan} would move it and waits for approval until {}.", record.expires),
                None => format!("Plan {plan} moves it."),
            };
            if record.is_some_and(|record| !record.is_cleared()) {
                told.would_change = Some(format!("`miyako approve {plan}`"));
            }
        }
        VmVerdict::Stays { reason: StayReason::LoadUnknown { .. } } if !seen.knows_load() => {
            told.reason = Some("DependsOnLoad".to_owned());
            match &past.operator {
                Some(operator) => {
                    told.says.clone_from(&operator.says);
                    told.would_change = gated.or_else(|| operator.would_change.clone());
                }
                None => {
                    told.says = "Nothing lasting keeps it here; whether it moves depends on its load and its node's, which only the operator knows (--operator-url asks it).".to_owned();
                    told.would_change = gated.or_else(|| Some(by_load(key, seen)));
                }
            }
        }
        VmVerdict::Stays { reason } => {
            told.reason = Some(reason.name().to_owned());
            told.says = match reason {
                StayReason::NoRoom { .. } => "It stays: no node has room for it.".to_owned(),
                reason => format!("It stays: {reason}."),
            };
            told.would_change = Some(change::of_stay(reason));
            if let StayReason::NoRoom { nodes } = reason {
                told.list("No room on", nodes.iter().map(|(node, why)| format!("{node}: {why}")).collect());
            }
        }
    }
}

/// Which loads would move it.
fn by_load(key: &VmKey, seen: &Seen<'_>) -> String {
    let Some(vm) = seen.snapshot.vms.get(key) else { return String::new() };
    let role = vm.node.as_ref().and_then(|node| seen.report.nodes.get(node)).and_then(|report| report.role);
    let Some(policy) = ruling(vm, seen) else { return String::new() };
    let thresholds = &policy.thresholds;
    match role {
        Some(Role::Shared) => format!(
            "it moves when its shared node is at {} or more over {} s and no movable VM there uses more CPU",
            thresholds.overload,
            thresholds.overload_window.as_secs()
        ),
        _ => format!(
            "it returns to a shared node when it uses less than {} of its vCPUs over {} s and one stays below {} with it",
            thresholds.idle,
            thresholds.idle_window.as_secs(),
            thresholds.admission
        ),
    }
}

/// Each other node of the policy with the scheduler's answer, those that fit first.
fn considered(vm: &Vm, policy: &Policy, seen: &Seen<'_>) -> Vec<String> {
    let occupancy = Occupancy::new(seen.snapshot);
    let probe = occupancy.probe(Candidate::target_of(vm));
    if let Err(misfit) = probe.quota() {
        return vec![format!("none: {misfit}")];
    }
    let mut nodes: Vec<(bool, String)> = Vec::new();
    for (name, report) in seen.report.nodes.iter().filter(|(_, report)| report.policy.as_ref() == Some(&policy.name)) {
        let Some(node) = seen.snapshot.nodes.get(name).filter(|_| vm.node.as_ref() != Some(name)) else { continue };
        let refusal = refusal(vm, policy, node, report, seen).or_else(|| {
            let moment = if node.is_usable() { Moment::Now } else { Moment::OnceAwake };
            probe.fits(name, moment).err().map(|misfit| misfit.to_string())
        });
        let role = report.role.map_or("", |role| match role {
            Role::Shared => " (shared)",
            Role::Dedicated => " (dedicated)",
        });
        let asleep = if node.is_usable() { "" } else { " once it is awake" };
        let answer = refusal.clone().unwrap_or_else(|| format!("it would fit{asleep}"));
        nodes.push((refusal.is_some(), format!("{name}{role}: {answer}")));
    }
    nodes.sort();
    let more = nodes.len().saturating_sub(LISTED);
    let mut told: Vec<String> = nodes.into_iter().take(LISTED).map(|(_, text)| text).collect();
    if more > 0 {
        told.push(format!("and {more} more nodes"));
    }
    told
}

/// What the policy and the node's state say before the scheduler is asked.
fn refusal(vm: &Vm, policy: &Policy, node: &Node, report: &NodeReport, seen: &Seen<'_>) -> Option<String> {
    if !node.is_usable() && !node.can_wake() {
        return Some("not usable now".into());
    }
    if let Some(what) = &node.maintenance {
        return Some(format!("under maintenance: {what}"));
    }
    let none = Labels::new();
    let here = vm.node.as_ref().and_then(|node| seen.snapshot.nodes.get(node)).map_or(&none, |node| &node.labels);
    if let Some(key) = policy.stay_within.iter().find(|key| here.get(*key) != node.labels.get(*key)) {
        return Some(format!("another {key} (spec.stayWithin)"));
    }
    let class = report.class.as_ref().and_then(|class| seen.policies.classes.get(class))?;
    if class.max_vms.is_some_and(|most| report.vms >= most) {
        return Some("hosts as many VMs as its class allows (spec.maxVMs)".into());
    }
    let empty = report.empty_cores.filter(|&empty| empty < u64::from(vm.vcpus))?;
    Some(format!("{empty} empty cores, {} wanted", vm.vcpus))
}
