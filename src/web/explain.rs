//! Why a VM or node is where and how it is, from what the last pass saw: the same kind of explanation, in the same words, as
//! the command line's.

use super::server::Served;
use crate::controller::{Move, View};
use crate::explain::{Explanation, List, change};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use miyako_core::model::{NodeName, PowerState, Role, VmKey, WindowAverage};
use miyako_core::plan::{NodeReport, StayReason, VmReport, VmVerdict};
use std::sync::Arc;

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
        if let Some(served) = vm.served {
            facts.push(("Got", format!("{:.1} % of the CPU it wanted within the last hour", 100.0 * served)));
        }
        facts.push(("Uses", used.unwrap_or_else(|| "unknown".to_owned())));
    }
    facts.push(("Policy", found.policy.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)));
    let (reason, says, would_change) = match &found.verdict {
        VmVerdict::Moves { target, reason } => (reason.name(), format!("It moves to {target}: {reason}."), None),
        VmVerdict::Planned { plan } => ("Planned", format!("Plan {plan} moves it."), None),
        VmVerdict::Stays { reason } => {
            let says = match reason {
                StayReason::NoRoom { .. } => "It stays: no node has room for it.".to_owned(),
                reason => format!("It stays: {reason}."),
            };
            (reason.name(), says, Some(change::of_stay(reason)))
        }
    };
    let mut lists = Vec::new();
    if let VmVerdict::Stays { reason: StayReason::NoRoom { nodes } } = &found.verdict {
        let items: Vec<String> = nodes.iter().map(|(node, why)| format!("{node}: {why}")).collect();
        lists.push(List { title: "Nodes considered", items });
    }
    lists.push(moves("Its last moves", view, |one| one.vm == *key));
    lists.retain(|list| !list.items.is_empty());
    Explanation { title: wanted, reason: Some(reason.to_owned()), says, would_change, facts, lists }
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
    let pictured = view.picture.as_ref().and_then(|picture| picture.nodes.iter().find(|node| node.name == *name));
    let asleep = pictured.is_some_and(|node| node.power != PowerState::Awake);
    if let Some(node) = pictured {
        let why = node.why.as_ref().filter(|_| asleep).map(|why| format!(": {why}")).unwrap_or_default();
        facts.push(("Power", format!("{:?}{why}", node.power)));
        facts.extend(node.watts.map(|watts| ("Draws", format!("{watts:.0} W"))));
    }
    let mut lists = Vec::new();
    let awake = found.blockers.iter().map(|blocker| format!("{blocker}. {}.", capital(&blocker.advice())));
    let awake = awake.filter(|_| !asleep).map(|text| capital(&text));
    lists.push(List { title: "What keeps it awake", items: awake.collect() });
    let changes = view.history.power_changes.iter().filter(|change| change.node == *name).take(8);
    let changes = changes.map(|change| format!("{}: {:?}: {}", change.at, change.phase, change.message));
    lists.push(List { title: "Its last sleeps and wakes", items: changes.collect() });
    lists.push(moves("Last moves from and to it", view, |one| one.source == *name || one.target == *name));
    lists.retain(|list| !list.items.is_empty());
    let (reason, mut says, would_change) = change::of_node(&found.verdict);
    if found.can_sleep() {
        says.push_str(" Nothing keeps it awake: it could sleep.");
        if let Some(because) = &found.awake_because {
            says.push_str(&format!(" It is awake because {because}."));
        }
    }
    Explanation {
        title: name.to_string(),
        reason: Some(reason.to_owned()),
        says,
        would_change: would_change.map(str::to_owned),
        facts,
        lists,
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
