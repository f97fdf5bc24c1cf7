//! Rule 3: what keeps a node awake, with what to do about it.

use super::{
    Findings, Rule, State,
    daemons::{Judge, Sleep},
};
use crate::{
    fit::{NodeNumbers, Resident, Whereabouts},
    model::{
        ClassIndex, ClassName, Name, Neighbour, Node, NodeClass, NodeName, Policies, PowerState, Snapshot,
        SuspendReason, TaintEffect, Timestamp,
    },
    plan::SuspendStep,
    power::PowerRecord,
};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// What keeps a node awake. The order is that of the report: first what is never going to change by itself, last what
/// consolidation can clear away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "blocker")]
pub enum Blocker {
    /// It belongs to the control plane.
    #[error("it is a control-plane node ({by})")]
    ControlPlane {
        /// What says so: a label, a taint or a static pod.
        by: String,
    },
    /// Other nodes' traffic goes through it.
    #[error("other nodes' traffic goes through it ({by})")]
    Gateway {
        /// What says so: a label or an annotation.
        by: String,
    },
    /// A person's mark.
    #[error("kept awake: {reason}")]
    KeepAwake {
        /// What the person wrote.
        reason: String,
    },
    /// No class selects it, several do, or the class is invalid.
    #[error("its class is not clear: {why}")]
    NoClass {
        /// Why.
        why: String,
    },
    /// It holds or serves other nodes' data.
    #[error("{workload} pods hold data of others")]
    StorageDataPlane {
        /// What kind of pods.
        workload: String,
    },
    /// A MachineHealthCheck would replace its machine while it sleeps.
    #[error("MachineHealthCheck {check} would replace its machine while it sleeps")]
    MachineHealthCheck {
        /// Namespace and name.
        check: Name,
    },
    /// Its class names no way to wake it: what went to sleep would stay there, and no test can show anything else.
    #[error("its class {class} names no way to wake it")]
    NoWakeDriver {
        /// The class.
        class: ClassName,
    },
    /// A program of somebody else's does not let it sleep.
    #[error("{neighbour}")]
    Neighbour {
        /// Which, and for what.
        neighbour: Neighbour,
    },
    /// A way to wake it, which its class names, leads nowhere.
    #[error("a way to wake it leads nowhere: {way}")]
    WakeAddress {
        /// Which, and what is missing.
        way: String,
    },
    /// Nobody has tried whether it wakes.
    #[error("it was never woken for a test")]
    NoWakeTest,
    /// It refused, did not fall asleep, or woke by itself, a few times in a row.
    #[error("it will not stay asleep ({times} times in a row): {why}; it is left awake until {until}")]
    WillNotStayAsleep {
        /// How often it was tried.
        times: u32,
        /// What its agent says of the last time, or what woke it.
        why: String,
        /// When it is tried again.
        until: Timestamp,
    },
    /// It failed to wake, or its place in the power sequence is another.
    #[error("it is {power:?}, not awake")]
    NotAwake {
        /// Its place in the power sequence.
        power: PowerState,
    },
    /// Its condition Ready is not True.
    #[error("it is not ready")]
    NotReady,
    /// Somebody works on it.
    #[error("under maintenance: {what}")]
    Maintenance {
        /// What says so.
        what: String,
    },
    /// Somebody cordoned it.
    #[error("somebody cordoned it")]
    Cordoned,
    /// Somebody tainted it.
    #[error("somebody tainted it: {key}")]
    Tainted {
        /// The taint's key.
        key: String,
        /// Its effect.
        effect: TaintEffect,
    },
    /// A DaemonSet that is not known to serve its node alone.
    #[error("DaemonSet {daemon_set} is not known to serve its node alone")]
    DaemonSet {
        /// Namespace and name.
        daemon_set: String,
    },
    /// A static pod that is not known to serve its node alone.
    #[error("static pod {pod} is not known to serve its node alone")]
    StaticPod {
        /// Namespace and the name in its file.
        pod: String,
    },
    /// Ordinary pods.
    #[error("{count} pods of namespace {namespace}")]
    Pods {
        /// Their namespace.
        namespace: Name,
        /// How many.
        count: u32,
    },
    /// Volumes are attached.
    #[error("{count} volumes are attached")]
    Volumes {
        /// How many.
        count: u32,
    },
    /// Migrations come from it or go to it.
    #[error("{count} migrations come from it or go to it")]
    Migrations {
        /// How many.
        count: u32,
    },
    /// VMs run on it.
    #[error("{count} VMs run on it")]
    Vms {
        /// How many.
        count: u32,
    },
}

impl Blocker {
    /// The kind, by which blockers of many nodes are counted together.
    #[must_use]
    pub fn kind(&self) -> Cow<'static, str> {
        match self {
            Self::ControlPlane { .. } => "control-plane nodes".into(),
            Self::Gateway { .. } => "gateways and route reflectors".into(),
            Self::KeepAwake { .. } => "miyako.dev/keep-awake".into(),
            Self::NoClass { .. } => "no clear class".into(),
            Self::StorageDataPlane { workload } => format!("{workload} pods").into(),
            Self::MachineHealthCheck { check } => format!("MachineHealthCheck {check}").into(),
            Self::NoWakeDriver { class } => format!("no wake driver in class {class}").into(),
            Self::Neighbour { neighbour: Neighbour::Metal3 { .. } } => "powered by Metal3".into(),
            Self::Neighbour { neighbour: Neighbour::MachineConfigPool { pool } } => {
                format!("rollout of MachineConfigPool {pool}").into()
            }
            Self::WakeAddress { .. } => "addresses to wake nodes by".into(),
            Self::NoWakeTest => "no wake test".into(),
            Self::WillNotStayAsleep { .. } => "does not stay asleep".into(),
            Self::NotAwake { power } => format!("{power:?}").into(),
            Self::NotReady => "not ready".into(),
            Self::Maintenance { .. } => "maintenance".into(),
            Self::Cordoned => "cordoned".into(),
            Self::Tainted { key, .. } => format!("taint {key}").into(),
            Self::DaemonSet { daemon_set } => format!("DaemonSet {daemon_set}").into(),
            Self::StaticPod { pod } => format!("static pod {pod}").into(),
            Self::Pods { namespace, .. } => format!("pods of namespace {namespace}").into(),
            Self::Volumes { .. } => "attached volumes".into(),
            Self::Migrations { .. } => "migrations".into(),
            Self::Vms { .. } => "VMs".into(),
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::ControlPlane { .. } => {
                "control-plane nodes never sleep; leave them out of the class's selector".into()
            }
            Self::Gateway { by } => format!(
                "nodes that carry the traffic of others never sleep: leave them out of the class's selector, or remove \
                 the {by} if it does not say that"
            ),
            Self::KeepAwake { .. } => {
                "remove the node's annotation miyako.dev/keep-awake when its reason is gone".into()
            }
            Self::NoClass { .. } => "let exactly one valid NodePowerClass select the node".into(),
            Self::StorageDataPlane { .. } => {
                "keep storage on nodes that never sleep and leave them out of the class".into()
            }
            Self::MachineHealthCheck { check } => format!(
                "leave machines whose nodes may sleep out of the spec.selector of MachineHealthCheck {check}, or pause it \
                 (annotation cluster.x-k8s.io/paused); of Cluster API also by the machine's annotation \
                 cluster.x-k8s.io/skip-remediation"
            ),
            Self::NoWakeDriver { class } => format!(
                "write into NodePowerClass {class} how its nodes are woken (spec.wake, docs/wake.md), and let a waker run \
                 (waker.enabled=true in the chart's values)"
            ),
            Self::Neighbour { neighbour } => neighbour.advice(),
            Self::WakeAddress { .. } => {
                "label the node, or list its address under the class's spec.wake[].nodes; or take the driver out of the class"
                    .into()
            }
            Self::NoWakeTest => {
                "its policy tests it when it is empty (class's wakeTest); `miyako wake-test NODE` asks for it now"
                    .into()
            }
            Self::WillNotStayAsleep { .. } => "see what woke it (status.agent of its NodePower, /sys/class/wakeup and \
                 /sys/power/suspend_stats on the node): take a device that should not wake it out of /proc/acpi/wakeup, let \
                 network cards wake on magic packets alone (ethtool -s IF wol g), update a driver that refuses; then \
                 `miyako wake-test NODE` tries it at once"
                .into(),
            Self::NotAwake { .. } => "nothing, or see the node's NodePower".into(),
            Self::NotReady => "see the node's conditions".into(),
            Self::Maintenance { .. } => "nothing; it can sleep when the maintenance is over".into(),
            Self::Cordoned => "uncordon the node (kubectl uncordon)".into(),
            Self::Tainted { key, .. } => format!("remove the taint {key} or leave the node out of the class"),
            Self::DaemonSet { daemon_set } => {
                format!(
                    "if it serves its own node alone, add {daemon_set} to the class's spec.suspend.ignoreDaemonSets"
                )
            }
            Self::StaticPod { pod } => {
                format!("if it serves its own node alone, add {pod} to the class's spec.suspend.ignoreStaticPods")
            }
            Self::Pods { namespace, .. } => {
                format!("keep pods of {namespace} off these nodes by a node selector or a taint")
            }
            Self::Volumes { .. } => "nothing; they are detached when their pods have gone".into(),
            Self::Migrations { .. } => "nothing; they end".into(),
            Self::Vms { .. } => "nothing; idle VMs are moved away when another node has room".into(),
        }
    }
}

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

/// The node has no blocker, and no earlier step of the plan moves a VM from or to it.
pub(super) fn judge(state: &State<'_>, step: &SuspendStep, found: &mut Findings) {
    let Some(node) = state.snapshot.nodes.get(&step.node) else {
        found.add(Rule::Suspendable, format!("node {} is not in the cluster", step.node));
        return;
    };
    let test = step.reason == SuspendReason::WakeTest;
    for blocker in state.blockers().of(node) {
        // A test is how the proof comes about.
        if !(test && blocker == Blocker::NoWakeTest) {
            found.add(Rule::Suspendable, format!("{}: {blocker}", node.name));
        }
    }
    let class = state.policies.class_of(node).ok().flatten();
    let stale = node
        .wake_tested
        .zip(class)
        .filter(|(tested, class)| !test && state.now.since(*tested) >= class.sleep.wake_tests.every);
    if let Some((tested, _)) = stale {
        found.add(Rule::Suspendable, format!("{}: it last showed at {tested} that it wakes", node.name));
    }
    if state.begun.iter().any(|begun| begun.source == node.name || begun.target == node.name) {
        found.add(Rule::Suspendable, format!("{}: this plan moves a VM from or to it", node.name));
    }
    if state.woken.contains(&node.name) {
        found.add(Rule::Suspendable, format!("{}: this plan wakes it", node.name));
    }
}
