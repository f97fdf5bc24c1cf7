//! Rule 3: only a node that nobody needs is suspended.
//!
//! Each question is asked of the snapshot itself and of the one node alone. The planner ranks what keeps nodes awake
//! for people (`plan::blockers`); nothing of that is asked here.

use super::{Cause, Findings, State};
use crate::model::{
    Blocker, Node, NodeClass, Pod, PodOwner, PowerState, SERVES_ONLY_ITS_NODE, STATIC_PODS_OF_ITS_NODE,
    STORAGE_DATA_PLANES, SuspendReason, SuspendStep,
};

/// The node may sleep, it has shown that it wakes, and this plan neither moves a VM from or to it nor wakes it.
pub(super) fn judge(state: &State<'_>, step: &SuspendStep, found: &mut Findings) {
    let Some(node) = state.snapshot.nodes.get(&step.node) else {
        found.add(Cause::NoSleeper { node: step.node.clone() });
        return;
    };
    let class = class(state, node, found);
    itself(node, found);
    around(state, node, found);
    hosts(state, node, class, found);
    wakes(state, step, (node, class), found);
    if state.begun.iter().any(|begun| begun.source == node.name || begun.target == node.name) {
        found.add(Cause::MovedToOrFrom { node: node.name.clone() });
    }
    if state.woken.contains(&node.name) {
        found.add(Cause::WokenToo { node: node.name.clone() });
    }
}

fn keep(node: &Node, blocker: Blocker, found: &mut Findings) {
    found.add(Cause::Blocked { node: node.name.clone(), blocker });
}

/// One valid class selects it.
fn class<'s>(state: &'s State<'_>, node: &Node, found: &mut Findings) -> Option<&'s NodeClass> {
    let (class, why) = match state.policies.class_of(node) {
        Ok(Some(class)) => (Some(class), class.invalid.clone()),
        Ok(None) => (None, Some("no class selects it".to_owned())),
        Err(classes) => (None, Some(format!("several classes select it: {classes:?}"))),
    };
    if let Some(why) = why {
        keep(node, Blocker::NoClass { why }, found);
    }
    class
}

/// The node does not say itself that it must stay awake: by what it is for, by its state, or by a person's mark.
fn itself(node: &Node, found: &mut Findings) {
    if let Some(by) = &node.control_plane {
        keep(node, Blocker::ControlPlane { by: by.clone() }, found);
    }
    if let Some(by) = &node.gateway {
        keep(node, Blocker::Gateway { by: by.clone() }, found);
    }
    if let Some(reason) = &node.keep_awake {
        keep(node, Blocker::KeepAwake { reason: reason.clone() }, found);
    }
    match node.power {
        PowerState::Awake | PowerState::Emptying if node.ready => {}
        PowerState::Awake | PowerState::Emptying => keep(node, Blocker::NotReady, found),
        power => keep(node, Blocker::NotAwake { power }, found),
    }
    if let Some(what) = &node.maintenance {
        keep(node, Blocker::Maintenance { what: what.clone() }, found);
    }
    if node.unschedulable {
        keep(node, Blocker::Cordoned, found);
    }
    for taint in node.taints.iter().filter(|taint| !taint.key.starts_with("miyako.dev/")) {
        keep(node, Blocker::Tainted { key: taint.key.clone(), effect: taint.effect }, found);
    }
}

/// Nobody else's program minds that it sleeps.
fn around(state: &State<'_>, node: &Node, found: &mut Findings) {
    if let Some(check) = state.snapshot.machine_checks.get(&node.name) {
        keep(node, Blocker::MachineHealthCheck { check: check.clone() }, found);
    }
    if let Some(neighbour) = state.snapshot.neighbours.get(&node.name) {
        keep(node, Blocker::Neighbour { neighbour: neighbour.clone() }, found);
    }
}

/// Nothing is on it that is used elsewhere or would be missed: no VM, none on its way, no volume, no pod but those that
/// serve this node alone.
fn hosts(state: &State<'_>, node: &Node, class: Option<&NodeClass>, found: &mut Findings) {
    let snapshot = state.snapshot;
    let here = |name: &Option<_>| name.as_ref() == Some(&node.name);
    let mut vms = snapshot.vms.values().filter(|vm| here(&vm.node)).count();
    let mut launchers = 0;
    for pod in snapshot.pods.values().filter(|pod| pod.is_active() && here(&pod.node)) {
        launchers += usize::from(matches!(pod.owner, PodOwner::Vm { .. }));
        if let Some(blocker) = of_pod(pod, class) {
            keep(node, blocker, found);
        }
    }
    // A launcher is a VM, whether its VMI says so yet or no more.
    vms = vms.max(launchers);
    let migrations = snapshot.migrations.values().filter(|migration| {
        let runs_here = || snapshot.vms.get(&migration.vm).is_some_and(|vm| here(&vm.node));
        migration.is_unfinished() && (here(&migration.source) || here(&migration.target) || runs_here())
    });
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let (migrations, volumes) = (migrations.count(), node.attached_volumes.len());
    if vms > 0 {
        keep(node, Blocker::Vms { count: number(vms) }, found);
    }
    if migrations > 0 {
        keep(node, Blocker::Migrations { count: number(migrations) }, found);
    }
    if volumes > 0 {
        keep(node, Blocker::Volumes { count: number(volumes) }, found);
    }
}

/// Why a pod keeps its node awake. A launcher counts as its VM.
fn of_pod(pod: &Pod, class: Option<&NodeClass>) -> Option<Blocker> {
    let holds_data = |name: &str| {
        let part = STORAGE_DATA_PLANES.iter().find(|part| name.contains(**part));
        part.map(|part| Blocker::StorageDataPlane { workload: (*part).to_owned() })
    };
    let listed = |name: &str| format!("{}/{name}", pod.key.namespace);
    match &pod.owner {
        PodOwner::Vm { .. } => None,
        PodOwner::Static { manifest, control_plane: true } => {
            Some(Blocker::ControlPlane { by: format!("static pod {manifest}") })
        }
        PodOwner::Static { manifest, .. } => holds_data(manifest.as_str()).or_else(|| {
            let pod = listed(manifest.as_str());
            let known = STATIC_PODS_OF_ITS_NODE.contains(&manifest.as_str())
                || class.is_some_and(|class| class.sleeping_static_pods.contains(&pod));
            (!known).then_some(Blocker::StaticPod { pod })
        }),
        PodOwner::DaemonSet(name) => holds_data(name.as_str()).or_else(|| {
            let daemon_set = listed(name.as_str());
            let known = SERVES_ONLY_ITS_NODE.iter().any(|known| is_release_of(known, name.as_str()))
                || class.is_some_and(|class| class.sleeping_daemon_sets.contains(&daemon_set));
            (!known).then_some(Blocker::DaemonSet { daemon_set })
        }),
        PodOwner::Other => holds_data(pod.key.name.as_str())
            .or_else(|| Some(Blocker::Pods { namespace: pod.key.namespace.clone(), count: 1 })),
    }
}

/// `node-exporter` is, of `node-exporter`, and so are `prometheus-node-exporter` and `prometheus.node-exporter`.
fn is_release_of(known: &str, name: &str) -> bool {
    name == known || name.ends_with(&format!("-{known}")) || name.ends_with(&format!(".{known}"))
}

/// It can be woken, it has shown that within its class's time, and it does not fail to sleep each time it is asked to.
/// A test is how the proof comes about.
fn wakes(state: &State<'_>, step: &SuspendStep, (node, class): (&Node, Option<&NodeClass>), found: &mut Findings) {
    let record = state.snapshot.powers.get(&node.name);
    if let Some(restless) = record.and_then(|record| record.restless.as_ref())
        && let Some(until) = restless.until
    {
        let (times, why) = (restless.times, restless.why.clone());
        keep(node, Blocker::WillNotStayAsleep { times, why, until }, found);
    }
    if let Some(class) = class {
        if !class.sleep.can_be_woken {
            keep(node, Blocker::NoWakeDriver { class: class.name.clone() }, found);
        }
        for way in class.sleep.ways.iter().filter_map(|way| way.problem(node)) {
            keep(node, Blocker::WakeAddress { way }, found);
        }
    }
    if step.reason == SuspendReason::WakeTest {
        return;
    }
    match (node.wake_tested, class) {
        (None, _) => keep(node, Blocker::NoWakeTest, found),
        (Some(tested), Some(class)) if state.now.since(tested) >= class.sleep.wake_tests.every => {
            found.add(Cause::OldProof { node: node.name.clone(), tested });
        }
        _ => {}
    }
}
