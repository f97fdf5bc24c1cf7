//! Why a VM or node is where and how it is, in sentences.

use super::server::Served;
use crate::controller::{Move, View};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use miyako_core::model::{NodeName, Role, VmKey, WindowAverage};
use miyako_core::plan::{NodeReport, NodeVerdict, StayReason, VmReport, VmVerdict};
use serde::Serialize;
use std::sync::Arc;

/// An explanation.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    title: String,
    /// What becomes of it, and why.
    says: String,
    /// What would change that.
    would_change: Option<&'static str>,
    facts: Vec<(&'static str, String)>,
    lists: Vec<List>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct List {
    title: &'static str,
    items: Vec<String>,
}

type Answer = Result<Json<Explanation>, (StatusCode, String)>;

/// `GET /api/explain/vm/{namespace}/{name}`.
pub(super) async fn vm(State(served): State<Served>, Path((namespace, name)): Path<(String, String)>) -> Answer {
    let view = served.site.view.borrow().clone();
    let key = VmKey::new(namespace, name);
    match view.report.vms.get(&key) {
        Some(found) => Ok(Json(of_vm(&key, found, &view))),
        None => Err((StatusCode::NOT_FOUND, format!("there is no VirtualMachineInstance {key}"))),
    }
}

/// `GET /api/explain/node/{name}`.
pub(super) async fn node(State(served): State<Served>, Path(name): Path<String>) -> Answer {
    let view = served.site.view.borrow().clone();
    let name = NodeName::new(name);
    match view.report.nodes.get(&name) {
        Some(found) => Ok(Json(of_node(&name, found, &view))),
        None => Err((StatusCode::NOT_FOUND, format!("there is no node {name}"))),
    }
}

fn of_vm(key: &VmKey, found: &VmReport, view: &View) -> Explanation {
    let mut facts = Vec::new();
    let wanted = key.to_string();
    let pictured = view.picture.as_ref().and_then(|picture| picture.vms.iter().find(|vm| vm.key == wanted));
    if let Some(vm) = pictured {
        facts.push(("Node", vm.node.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)));
        facts.push(("Size", format!("{} vCPU, {:.1} GiB", vm.vcpus, vm.memory as f64 / f64::from(1 << 30))));
        let used = vm.used.map(|used| format!("{used:.2} cores, {:.0} %", 100.0 * used / f64::from(vm.vcpus.max(1))));
        facts.push(("Uses", used.unwrap_or_else(|| "unknown".to_owned())));
    }
    facts.push(("Policy", found.policy.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)));
    let (says, would_change) = match &found.verdict {
        VmVerdict::Moves { target, reason } => (format!("It moves to {target}: {reason}."), None),
        VmVerdict::Planned { plan } => (format!("Plan {plan} moves it."), None),
        VmVerdict::Stays { reason: StayReason::NoRoom { nodes } } if !nodes.is_empty() => {
            ("It stays: no node has room for it.".to_owned(), Some("It moves as soon as one of these nodes has room."))
        }
        VmVerdict::Stays { reason } => (format!("It stays: {reason}."), would_move(reason)),
    };
    let mut lists = Vec::new();
    if let VmVerdict::Stays { reason: StayReason::NoRoom { nodes } } = &found.verdict {
        let items: Vec<String> = nodes.iter().map(|(node, why)| format!("{node}: {why}")).collect();
        lists.push(List { title: "Nodes considered", items });
    }
    lists.push(moves("Its last moves", view, |one| one.vm == *key));
    lists.retain(|list| !list.items.is_empty());
    Explanation { title: wanted, says, would_change, facts, lists }
}

/// What would make it move, where that is not plain from the reason itself.
fn would_move(reason: &StayReason) -> Option<&'static str> {
    Some(match reason {
        StayReason::NodeCalm => {
            "It moves when its node stays at its threshold over the policy's window and no VM there uses more CPU."
        }
        StayReason::Active { .. } => {
            "It returns to a shared node when it stays below the policy's idle threshold and one has room."
        }
        StayReason::NotFirst { .. } => "It is next if its node is still overloaded after that.",
        StayReason::OptedOut => "Remove the label or annotation miyako.dev/consolidate to let it be moved.",
        StayReason::NotMigratable { .. } => "It can be moved when KubeVirt's condition LiveMigratable is True.",
        StayReason::NotSelected => "Widen spec.virtualMachines of the policy to include it.",
        _ => return None,
    })
}

fn of_node(name: &NodeName, found: &NodeReport, view: &View) -> Explanation {
    let load = match found.load {
        WindowAverage::Full(used) => {
            format!("{:.1} of {:.0} cores on average over the policy's window", used.value(), found.capacity.value())
        }
        WindowAverage::Filling { have, want } => format!("known for {have} s of a window of {want} s"),
        WindowAverage::Stale { age } => format!("last reported {} s ago", age.as_secs()),
        WindowAverage::Never => "never reported".to_owned(),
    };
    let role = found.role.map_or("none", |role| match role {
        Role::Shared => "shared",
        Role::Dedicated => "dedicated",
    });
    let mut facts = vec![("Role", role.to_owned()), ("VMs", found.vms.to_string()), ("Load", load)];
    facts.extend(found.empty_cores.map(|cores| ("Empty cores", cores.to_string())));
    facts.extend(found.class.as_ref().map(|class| ("Class", class.to_string())));
    facts.extend(found.policy.as_ref().map(|policy| ("Policy", policy.to_string())));
    let mut lists = Vec::new();
    let awake = found.blockers.iter().map(|blocker| format!("{blocker}. {}.", capital(&blocker.advice())));
    lists.push(List { title: "What keeps it awake", items: awake.map(|text| capital(&text)).collect() });
    lists.push(moves("Last moves from and to it", view, |one| one.source == *name || one.target == *name));
    lists.retain(|list| !list.items.is_empty());
    let sleeps = if found.can_sleep() { " Nothing keeps it awake: it could sleep." } else { "" };
    Explanation {
        title: name.to_string(),
        says: format!("{}{sleeps}", verdict(&found.verdict)),
        would_change: None,
        facts,
        lists,
    }
}

fn verdict(verdict: &NodeVerdict) -> String {
    match verdict {
        NodeVerdict::NoClass => "No NodePowerClass selects it, so nothing is done here.".to_owned(),
        NodeVerdict::Ambiguous { classes } => {
            let classes: Vec<String> = classes.iter().map(ToString::to_string).collect();
            format!("{} select it, so none of them rules it.", classes.join(" and "))
        }
        NodeVerdict::NoPolicy => "No ConsolidationPolicy that acts names its class.".to_owned(),
        NodeVerdict::NotUsable => "It is not usable now: not ready, asleep, or without virt-handler.".to_owned(),
        NodeVerdict::Dedicated => "It has a core for each vCPU; its VMs are looked at one by one.".to_owned(),
        NodeVerdict::LoadUnknown => "Its load is not known well enough to act.".to_owned(),
        NodeVerdict::Calm { load } => format!("At {load} it is below its threshold."),
        NodeVerdict::Settling { load } => {
            format!("At {load} it is overloaded; what was done about it must show before more is done.")
        }
        NodeVerdict::Relieving { load } => format!("At {load} it is overloaded, and VMs are being moved away."),
        NodeVerdict::Relieved { load, vm } => format!("At {load} it is overloaded, and {vm} is moved away."),
        NodeVerdict::Stuck { load } => format!("At {load} it is overloaded, and no VM on it can be moved."),
    }
}

fn moves(title: &'static str, view: &View, wanted: impl Fn(&Move) -> bool) -> List {
    let told = view.history.moves.iter().filter(|one| wanted(one)).take(8);
    List { title, items: told.map(sentence).collect() }
}

fn sentence(one: &Arc<Move>) -> String {
    let why = if one.message.is_empty() { &one.reason } else { &one.message };
    format!("{}: {} from {} to {}, {:?}: {why}", one.began, one.vm, one.source, one.target, one.outcome)
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
