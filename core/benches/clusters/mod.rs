//! The clusters that decisions are measured on.

use miyako_core::{
    generate::{Cluster, Shape},
    model::{
        AgentWord, Cores, LoadHistory, MilliCpu, NodeName, PodOwner, Policy, PolicyName, PowerRecord, PowerState, Role,
        Selector, Span, Switches, Timestamp,
    },
    plan::decide,
};
use std::collections::{BTreeMap, BTreeSet};

/// A kind of cluster: its name, what is special about it, and how one with so many nodes is made.
pub(crate) type Kind = (&'static str, &'static str, fn(usize) -> Cluster);

/// Those that are measured.
pub(crate) const CLUSTERS: &[Kind] = &[
    ("usual", "a data centre: few overloaded nodes, half of the dedicated VMs idle", usual),
    ("no-room", "all VMs of dedicated nodes idle, and no shared node has room for one", no_room),
    ("overloaded", "every shared node overloaded, and no dedicated node has a core left", overloaded),
    ("huge-node", "one overloaded node with all the VMs that there are on shared nodes", huge_node),
    ("policies", "a policy with two classes for every ten nodes", many_policies),
    ("sleepy", "nobody moves, and half of the dedicated nodes are empty and may sleep", sleepy),
];

fn usual(nodes: usize) -> Cluster {
    let mut cluster = Cluster::generate(&Shape::large(nodes), 7);
    // Whatever the dice said, let the planner work.
    let snapshot = &mut cluster.snapshot;
    snapshot.switches = Switches::default();
    (snapshot.incomplete, snapshot.evacuations_waiting, snapshot.kubevirt.rolling_out) = (None, 0, false);
    cluster
}

fn no_room(nodes: usize) -> Cluster {
    let mut cluster = usual(nodes);
    let (dedicated, shared) = (nodes_of(&cluster, Role::Dedicated), nodes_of(&cluster, Role::Shared));
    let now = cluster.now;
    for vm in cluster.snapshot.vms.values().filter(|vm| vm.node.as_ref().is_some_and(&dedicated)) {
        cluster.snapshot.load.vms.insert(vm.key.clone(), steady(now, 0.1));
    }
    for node in cluster.snapshot.nodes.values_mut().filter(|node| shared(&node.name)) {
        node.allocatable.cpu = MilliCpu(1);
    }
    cluster
}

fn overloaded(nodes: usize) -> Cluster {
    let mut cluster = usual(nodes);
    let (dedicated, shared) = (nodes_of(&cluster, Role::Dedicated), nodes_of(&cluster, Role::Shared));
    let now = cluster.now;
    for node in cluster.snapshot.nodes.values_mut() {
        if dedicated(&node.name) {
            node.allocatable.cpu = MilliCpu(900);
        } else if shared(&node.name) && node.is_usable() {
            cluster.snapshot.load.nodes.insert(node.name.clone(), steady(now, 1000.0));
        }
    }
    cluster
}

fn huge_node(nodes: usize) -> Cluster {
    let mut cluster = overloaded(nodes);
    let shared = nodes_of(&cluster, Role::Shared);
    let Some(huge) = cluster.snapshot.nodes.values().find(|node| shared(&node.name) && node.is_usable()) else {
        return cluster;
    };
    let (huge, now) = (huge.name.clone(), cluster.now);
    for node in cluster.snapshot.nodes.keys().filter(|node| shared(node) && **node != huge) {
        cluster.snapshot.load.nodes.insert(node.clone(), steady(now, 0.1));
    }
    let vms = cluster.snapshot.vms.values_mut().map(|vm| &mut vm.node);
    let pods = cluster.snapshot.pods.values_mut().filter(|pod| pod.vm().is_some()).map(|pod| &mut pod.node);
    for place in vms.chain(pods).filter(|place| place.as_ref().is_some_and(&shared)) {
        *place = Some(huge.clone());
    }
    cluster
}

fn many_policies(nodes: usize) -> Cluster {
    let mut cluster = usual(nodes);
    let Some(policy) = cluster.policies.policies.values().next().cloned() else { return cluster };
    let classes: Vec<_> =
        policy.classes.iter().filter_map(|class| cluster.policies.classes.get(class)).cloned().collect();
    cluster.policies.policies.clear();
    cluster.policies.classes.clear();
    let pools = (nodes / 10).max(1);
    for (index, node) in cluster.snapshot.nodes.values_mut().enumerate() {
        node.labels.insert("pool".into(), format!("pool-{}", index % pools));
    }
    for pool in (0..pools).map(|pool| format!("pool-{pool}")) {
        let mut policy = Policy { name: PolicyName::new(&pool), classes: Vec::new(), ..policy.clone() };
        for class in &classes {
            let mut class = class.clone();
            class.name = format!("{pool}-{:?}", class.role).as_str().into();
            class.nodes.requirements.retain(|requirement| requirement.key != "pool");
            class.nodes.requirements.extend(Selector::label("pool", &pool).requirements);
            policy.classes.push(class.name.clone());
            cluster.policies.classes.insert(class.name.clone(), class);
        }
        cluster.policies.policies.insert(policy.name.clone(), policy);
    }
    cluster
}

fn sleepy(nodes: usize) -> Cluster {
    let mut cluster = usual(nodes);
    let dedicated = nodes_of(&cluster, Role::Dedicated);
    let (snapshot, an_hour_ago) = (&mut cluster.snapshot, cluster.now - Span::from_secs(3600));
    let empty: BTreeSet<_> = snapshot.nodes.keys().filter(|node| dedicated(node)).step_by(2).cloned().collect();
    let stays = |node: &Option<NodeName>| node.as_ref().is_none_or(|node| !empty.contains(node));
    snapshot.vms.retain(|_, vm| stays(&vm.node));
    snapshot.pods.retain(|_, pod| matches!(pod.owner, PodOwner::DaemonSet(_)) || stays(&pod.node));
    snapshot.migrations.clear();
    for node in snapshot.nodes.values_mut() {
        (node.power, node.ready, node.wake_tested) = (PowerState::Awake, true, Some(an_hour_ago));
        let record = PowerRecord {
            uid: Some("n".into()),
            empty_since: Some(an_hour_ago),
            agent: AgentWord { boot_id: Some("boot".into()), ..AgentWord::default() },
            ..PowerRecord::default()
        };
        snapshot.powers.insert(node.name.clone(), record);
    }
    cluster.policies.classes.values_mut().for_each(|class| class.sleep.can_be_woken = true);
    for policy in cluster.policies.policies.values_mut() {
        (policy.keep_awake_failures, policy.spare_dedicated, policy.min_awake) = (1, 0, 1);
    }
    // Suspends are tried now and then: this is about such a moment.
    for _ in 0..60 {
        let now = cluster.now;
        for (key, vm) in &cluster.snapshot.vms {
            let load = if vm.node.as_ref().is_some_and(&dedicated) { f64::from(vm.vcpus) } else { 0.1 };
            cluster.snapshot.load.vms.insert(key.clone(), steady(now, load));
        }
        for node in cluster.snapshot.nodes.keys() {
            cluster.snapshot.load.nodes.insert(node.clone(), steady(now, 0.1));
        }
        if !decide(&cluster.snapshot, &cluster.policies, now, 1).0.steps.is_empty() {
            break;
        }
        cluster.now = now + Span::from_secs(1);
    }
    cluster
}

/// Whether a node is of this role.
fn nodes_of(cluster: &Cluster, role: Role) -> impl Fn(&NodeName) -> bool + use<> {
    let class = |node| cluster.policies.class_of(node).ok().flatten();
    let nodes = cluster.snapshot.nodes.values();
    let nodes: BTreeMap<_, _> = nodes.map(|node| (node.name.clone(), class(node).map(|class| class.role))).collect();
    move |node| nodes.get(node).copied().flatten() == Some(role)
}

/// A history in which one value was measured during the last minute.
fn steady(now: Timestamp, cores: f64) -> LoadHistory {
    let mut history = LoadHistory::default();
    history.push(now, Span::from_secs(60), Cores::new(cores).unwrap_or(Cores::ZERO));
    history
}
