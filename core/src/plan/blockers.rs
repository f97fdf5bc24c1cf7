//! What keeps each node awake, ranked, for the planner, for the last look before an order, and for people.
//!
//! The safety check (`check::suspend`) has a rule 3 of its own and asks nothing here.

mod pods;
mod rank;

pub(in crate::plan) use rank::{judge, note_health_checks, note_machine_checks};

use crate::{
    fit::{NodeNumbers, Resident, Whereabouts},
    model::{
        Blocker, ClassIndex, Name, Neighbour, Node, NodeClass, NodeName, Policies, PowerRecord, PowerState, Snapshot,
    },
};
use pods::{Judge, Sleep};
use std::collections::{BTreeMap, BTreeSet};

/// Our own taints have this prefix; a node that we are emptying carries one.
const OWN_TAINTS: &str = "miyako.dev/";

/// What is on one node, as far as it matters for its sleep.
#[derive(Default, Clone)]
struct OnNode<'a> {
    launchers: u32,
    vms: u32,
    migrations: u32,
    /// Namespaces of ordinary pods, once for each pod.
    ordinary: Vec<&'a Name>,
    /// DaemonSets that are not known to serve their node alone: namespace and name.
    daemon_sets: Vec<(&'a Name, &'a Name)>,
    /// Static pods that are not known to serve their node alone: namespace and the name in their file.
    static_pods: Vec<(&'a Name, &'a Name)>,
    /// Parts of the control plane, by the name in their file.
    control_plane: Vec<&'a Name>,
    data_planes: Vec<&'static str>,
}

/// What keeps each node awake, indexed once for many nodes.
pub struct SuspendBlockers<'a> {
    classes: ClassIndex<'a>,
    numbers: NodeNumbers<'a>,
    nodes: Vec<OnNode<'a>>,
    machine_checks: &'a BTreeMap<NodeName, Name>,
    powers: &'a BTreeMap<NodeName, PowerRecord>,
    neighbours: &'a BTreeMap<NodeName, Neighbour>,
}

impl<'a> SuspendBlockers<'a> {
    /// Indexes a snapshot.
    pub(crate) fn new(whereabouts: &Whereabouts<'a>, policies: &'a Policies) -> Self {
        let Whereabouts { snapshot, nodes: numbers, .. } = whereabouts;
        let mut nodes = vec![OnNode::default(); snapshot.nodes.len()];
        let mut judge = Judge::default();
        for &Resident { node, pod, .. } in &whereabouts.pods {
            let on = &mut nodes[node];
            match judge.sleep_of(pod) {
                Sleep::Along => {}
                Sleep::DataPlane(workload) => on.data_planes.push(workload),
                Sleep::ControlPlane(name) => on.control_plane.push(name),
                Sleep::UnknownStaticPod(name) => on.static_pods.push((&pod.key.namespace, name)),
                Sleep::UnknownDaemonSet(name) => on.daemon_sets.push((&pod.key.namespace, name)),
                Sleep::Launcher => on.launchers += 1,
                Sleep::Ordinary => on.ordinary.push(&pod.key.namespace),
            }
        }
        for (number, _) in whereabouts.guests() {
            nodes[number].vms += 1;
        }
        for migration in snapshot.migrations.values().filter(|migration| migration.is_unfinished()) {
            let home = snapshot.vms.get(&migration.vm).and_then(|vm| vm.node.as_ref());
            let ends = [migration.source.as_ref(), migration.target.as_ref(), home].into_iter().flatten();
            let ends: BTreeSet<_> = ends.filter_map(|name| numbers.get(name)).collect();
            for number in ends {
                nodes[number].migrations += 1;
            }
        }
        let Snapshot { machine_checks, powers, neighbours, .. } = snapshot;
        Self { classes: ClassIndex::new(policies), numbers: numbers.clone(), nodes, machine_checks, powers, neighbours }
    }

    /// Indexes a snapshot that nothing else has indexed.
    #[must_use]
    pub fn of_snapshot(snapshot: &'a Snapshot, policies: &'a Policies) -> Self {
        Self::new(&Whereabouts::new(snapshot), policies)
    }

    /// Everything that keeps this node awake, ranked; nothing if it could sleep.
    #[must_use]
    pub fn of(&self, node: &Node) -> Vec<Blocker> {
        let mut blockers = Vec::new();
        of_node(node, &mut blockers);
        let class = self.class_of(node, &mut blockers);
        let unwakeable = class.filter(|class| class.invalid.is_none() && !class.sleep.can_be_woken);
        if let Some(class) = unwakeable {
            // A test is no cure, and there is no NodePower that could be asked for one.
            blockers.retain(|blocker| *blocker != Blocker::NoWakeTest);
            blockers.push(Blocker::NoWakeDriver { class: class.name.clone() });
        }
        let ways = class.iter().flat_map(|class| &class.sleep.ways);
        blockers.extend(ways.filter_map(|way| way.problem(node)).map(|way| Blocker::WakeAddress { way }));
        let check = self.machine_checks.get(&node.name).cloned();
        blockers.extend(check.map(|check| Blocker::MachineHealthCheck { check }));
        let restless = self.powers.get(&node.name).and_then(|record| record.restless.as_ref());
        blockers.extend(restless.and_then(|restless| {
            let (times, why) = (restless.times, restless.why.clone());
            Some(Blocker::WillNotStayAsleep { times, why, until: restless.until? })
        }));
        let neighbour = self.neighbours.get(&node.name).cloned();
        blockers.extend(neighbour.map(|neighbour| Blocker::Neighbour { neighbour }));
        if let Some(on) = self.numbers.get(&node.name).map(|number| &self.nodes[number]) {
            on.add_to(class, &mut blockers);
        }
        blockers.sort_unstable();
        blockers.dedup();
        blockers
    }

    fn class_of(&self, node: &Node, blockers: &mut Vec<Blocker>) -> Option<&NodeClass> {
        let (class, why) = match self.classes.class_of(node) {
            Ok(Some(class)) => (Some(class), class.invalid.clone()),
            Ok(None) => (None, Some("no class selects it".to_owned())),
            Err(classes) => (None, Some(format!("several classes select it: {classes:?}"))),
        };
        blockers.extend(why.map(|why| Blocker::NoClass { why }));
        class
    }
}

impl OnNode<'_> {
    fn add_to(&self, class: Option<&NodeClass>, blockers: &mut Vec<Blocker>) {
        let by = |name: &&Name| Blocker::ControlPlane { by: format!("static pod {name}") };
        // One reason is enough.
        if !blockers.iter().any(|blocker| matches!(blocker, Blocker::ControlPlane { .. })) {
            blockers.extend(self.control_plane.iter().min().map(by));
        }
        blockers.extend(self.data_planes.iter().map(|part| Blocker::StorageDataPlane { workload: (*part).into() }));
        for (namespace, name) in &self.daemon_sets {
            let daemon_set = format!("{namespace}/{name}");
            if class.is_none_or(|class| !class.sleeping_daemon_sets.contains(&daemon_set)) {
                blockers.push(Blocker::DaemonSet { daemon_set });
            }
        }
        for (namespace, name) in &self.static_pods {
            let pod = format!("{namespace}/{name}");
            if class.is_none_or(|class| !class.sleeping_static_pods.contains(&pod)) {
                blockers.push(Blocker::StaticPod { pod });
            }
        }
        let mut ordinary: BTreeMap<&Name, u32> = BTreeMap::new();
        for namespace in &self.ordinary {
            *ordinary.entry(namespace).or_default() += 1;
        }
        blockers.extend(
            ordinary.into_iter().map(|(namespace, count)| Blocker::Pods { namespace: namespace.clone(), count }),
        );
        if self.migrations > 0 {
            blockers.push(Blocker::Migrations { count: self.migrations });
        }
        // A launcher whose VM is not (or no longer) said to be here is a VM all the same.
        let vms = self.vms.max(self.launchers);
        if vms > 0 {
            blockers.push(Blocker::Vms { count: vms });
        }
    }
}

/// What the node itself says.
fn of_node(node: &Node, blockers: &mut Vec<Blocker>) {
    if let Some(by) = &node.control_plane {
        blockers.push(Blocker::ControlPlane { by: by.clone() });
    }
    if let Some(by) = &node.gateway {
        blockers.push(Blocker::Gateway { by: by.clone() });
    }
    if let Some(reason) = &node.keep_awake {
        blockers.push(Blocker::KeepAwake { reason: reason.clone() });
    }
    if node.wake_tested.is_none() {
        blockers.push(Blocker::NoWakeTest);
    }
    if !matches!(node.power, PowerState::Awake | PowerState::Emptying) {
        blockers.push(Blocker::NotAwake { power: node.power });
    } else if !node.ready {
        blockers.push(Blocker::NotReady);
    }
    if let Some(what) = &node.maintenance {
        blockers.push(Blocker::Maintenance { what: what.clone() });
    }
    if node.unschedulable {
        blockers.push(Blocker::Cordoned);
    }
    let foreign = node.taints.iter().filter(|taint| !taint.key.starts_with(OWN_TAINTS));
    blockers.extend(foreign.map(|taint| Blocker::Tainted { key: taint.key.clone(), effect: taint.effect }));
    if !node.attached_volumes.is_empty() {
        let count = u32::try_from(node.attached_volumes.len()).unwrap_or(u32::MAX);
        blockers.push(Blocker::Volumes { count });
    }
}
