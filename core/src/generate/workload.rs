//! VMs with their launchers and load, and the pods that run beside them.

use super::{
    Cluster, Dice, Shape,
    cluster::{Place, calmed_down},
};
use crate::model::{
    AppliedPolicy, Bytes, Labels, LastMigration, Marks, MilliCpu, Name, NodeSelector, NodeSelectorTerm, Operator, Pod,
    PodAffinityTerm, PodKey, PodOwner, PodPhase, PostCopyMark, Requirement, Resources, Role, Scheduling, Selector,
    Span, SpreadConstraint, Taint, TaintEffect, Timestamp, Toleration, TolerationOperator, Uid, Unsupported, Vm,
    VmActivity, VmKey, VmMoves,
};
use std::{collections::BTreeMap, sync::Arc};

const ZONE: &str = "topology.kubernetes.io/zone";

/// A taint that keeps pods away.
pub(super) fn taint(key: &str) -> Taint {
    Taint { key: key.into(), value: String::new(), effect: TaintEffect::NoSchedule }
}

/// Fills the nodes: most VMs of a shared node idle, those of a dedicated one are busy or idle.
pub(super) fn add_vms(cluster: &mut Cluster, shape: &Shape, places: &mut [Place], dice: &mut Dice) {
    let mut plain = BTreeMap::new();
    let teams: Vec<Name> = (0..4).map(|team| Name::from(format!("team-{team}").as_str())).collect();
    for index in 0..shape.vms {
        let vcpus = *dice.pick(&[1_u32, 2, 2, 4]);
        let gib = u64::from(vcpus) * 2;
        // A few tries, so that a full cluster does not hold us up.
        let room = |place: &Place| {
            let cores = place.role == Role::Shared || place.free_cores >= u64::from(vcpus);
            place.usable && place.free_memory > gib && cores
        };
        let Some(home) = (0..8).map(|_| dice.below(places.len().max(1))).find(|&at| places.get(at).is_some_and(room))
        else {
            continue;
        };
        let place = &mut places[home];
        place.free_memory -= gib + 1;
        place.free_cores = place.free_cores.saturating_sub(u64::from(vcpus));
        let load = f64::from(vcpus) * share_of_vcpus(place, dice);
        place.load += load;
        let key = VmKey { namespace: teams[index % 4].clone(), name: format!("vm-{index:06}").as_str().into() };
        let mut vm = vm(key, index, vcpus, place, &mut plain);
        if dice.percent(shape.special) {
            make_special(cluster, &mut vm, dice);
        }
        let before = if dice.percent(15) { f64::from(vcpus) } else { load };
        cluster.snapshot.load.vms.insert(vm.key.clone(), calmed_down(cluster.now, before, load));
        cluster.add_launcher(&vm);
        cluster.snapshot.vms.insert(vm.key.clone(), vm);
    }
}

fn share_of_vcpus(place: &Place, dice: &mut Dice) -> f64 {
    let busy = match place.role {
        Role::Shared if place.hot => place.load < 0.92 * place.cores,
        Role::Shared => false,
        Role::Dedicated => dice.percent(60),
    };
    if busy { dice.between(0.6, 1.0) } else { dice.between(0.01, 0.15) }
}

fn vm(key: VmKey, index: usize, vcpus: u32, place: &Place, plain: &mut BTreeMap<u32, Arc<Scheduling>>) -> Vm {
    let gib = u64::from(vcpus) * 2;
    let target = plain.entry(vcpus).or_insert_with(|| {
        let requests = Resources {
            extended: [("devices.kubevirt.io/kvm".to_owned(), 1)].into(),
            // KubeVirt asks for a tenth of a core a vCPU and some memory beside the guest's.
            ..Resources::new(MilliCpu(u64::from(vcpus) * 100), Bytes(Bytes::gib(gib).0 + Bytes::mib(269).0), 1)
        };
        let node_selector = [("kubevirt.io/schedulable".to_owned(), "true".to_owned())].into();
        Arc::new(Scheduling { requests, node_selector, ..Scheduling::default() })
    });
    Vm {
        uid: Uid::new(format!("uid-{index}")),
        labels: Labels::from([("app".into(), format!("app-{}", index % 7))]),
        launcher_labels: Labels::from([
            ("app".into(), format!("app-{}", index % 7)),
            ("kubevirt.io".into(), "virt-launcher".into()),
        ]),
        key,
        node: Some(place.name.clone()),
        running: true,
        vcpus,
        memory: Bytes::gib(gib),
        not_migratable: None,
        activity: None,
        host_device: false,
        marks: Marks::default(),
        last_migration: None,
        target: Arc::clone(target),
        unsupported: None,
        mode_label: None,
        user_migration_policy: None,
        equal_migration_policies: Vec::new(),
    }
}

impl Cluster {
    /// Adds the pod that a VM runs in.
    fn add_launcher(&mut self, vm: &Vm) {
        let owner = PodOwner::Vm { vm: vm.key.clone(), uid: vm.uid.clone(), target_of: None };
        let pod = Pod {
            key: PodKey {
                namespace: vm.key.namespace.clone(),
                name: format!("virt-launcher-{}", vm.key.name).as_str().into(),
            },
            uid: Uid::new(format!("launcher-{}", vm.uid)),
            node: vm.node.clone(),
            phase: PodPhase::Running,
            terminating: false,
            labels: vm.launcher_labels.clone(),
            owner,
            unschedulable: false,
            ready: true,
            scheduling: Arc::clone(&vm.target),
        };
        self.snapshot.pods.insert(pod.key.clone(), pod);
    }
}

/// Gives a VM one of the things that keep it from moving, or from moving anywhere.
fn make_special(cluster: &mut Cluster, vm: &mut Vm, dice: &mut Dice) {
    match dice.below(12) {
        0 => vm.not_migratable = Some("DisksNotLiveMigratable".into()),
        1 => vm.activity = Some(*dice.pick(&[VmActivity::Hotplugging, VmActivity::BackingUp, VmActivity::Paused])),
        2 => vm.marks.never_consolidate = true,
        3 => vm.marks.prefer_no_eviction = true,
        4 => vm.host_device = true,
        5 => vm.unsupported = Some(Unsupported { field: "spec.schedulingGates".into() }),
        6 => vm.marks.post_copy = Some(*dice.pick(&[PostCopyMark::Allow, PostCopyMark::Never])),
        7 => vm.last_migration = Some(moved(cluster.now, dice)),
        8 => {
            let moves = (0..dice.below(6)).map(|_| cluster.now - Span::from_secs(dice.roll() % 86_000)).collect();
            let failures = if dice.percent(50) { u32::try_from(dice.below(5)).unwrap_or(0) } else { 0 };
            let last_failure = (failures > 0).then(|| cluster.now - Span::from_secs(dice.roll() % 200));
            cluster
                .snapshot
                .history
                .vms
                .insert(vm.uid.clone(), VmMoves { moves, failures, last_failure, ..VmMoves::default() });
        }
        _ => {
            let mut target = (*vm.target).clone();
            constrain(&mut target, vm, dice);
            vm.target = Arc::new(target);
        }
    }
}

fn moved(now: Timestamp, dice: &mut Dice) -> LastMigration {
    LastMigration {
        uid: Uid::new(format!("moved-{}", dice.roll())),
        source: None,
        target: None,
        started: None,
        ended: Some(now - Span::from_secs(dice.roll() % 40)),
        completed: true,
        failed: dice.percent(20),
        failure: None,
        mode: None,
        policy: AppliedPolicy::None,
    }
}

/// Adds one of the constraints that the scheduler knows.
fn constrain(pod: &mut Scheduling, vm: &Vm, dice: &mut Dice) {
    let zone = format!("zone-{}", dice.below(3));
    let own_group = Selector::label("app", vm.labels.get("app").map_or("", String::as_str));
    let in_zone = NodeSelector {
        terms: vec![NodeSelectorTerm {
            labels: vec![Requirement { key: ZONE.into(), operator: Operator::In, values: vec![zone.clone()] }],
            names: vec![],
        }],
    };
    let term = |topology_key: &str| PodAffinityTerm {
        selector: own_group.clone(),
        namespaces: vec![vm.key.namespace.clone()],
        all_namespaces: false,
        topology_key: topology_key.into(),
    };
    match dice.below(8) {
        0 => {
            pod.node_selector.insert(ZONE.into(), zone);
        }
        1 => pod.node_affinity = Some(in_zone),
        2 => pod.volume_topology.push(in_zone),
        3 => pod.tolerations.push(Toleration {
            key: Some("example.com/gpu".into()),
            operator: TolerationOperator::Exists,
            value: String::new(),
            effect: None,
        }),
        4 => pod.anti_affinity.push(term("kubernetes.io/hostname")),
        5 => pod.affinity.push(term(ZONE)),
        6 => pod.spread.push(SpreadConstraint {
            max_skew: 1,
            topology_key: ZONE.into(),
            selector: own_group,
            min_domains: dice.percent(30).then_some(3),
        }),
        _ => pod.host_ports.push(("TCP".into(), 5900)),
    }
}

/// The DaemonSets' pods on every node.
pub(super) fn add_daemons(cluster: &mut Cluster, shape: &Shape) {
    let names = ["kube-proxy", "virt-handler", "node-exporter", "calico-node", "miyako-agent"];
    let scheduling =
        Arc::new(Scheduling { requests: Resources::new(MilliCpu(50), Bytes::mib(100), 1), ..Scheduling::default() });
    for (index, node) in cluster.snapshot.nodes.keys().enumerate() {
        for daemon in 0..shape.daemons {
            let name = names[daemon % names.len()];
            let pod = Pod {
                key: PodKey::new("kube-system", format!("{name}-{daemon}-{index}")),
                uid: Uid::new(format!("{name}-{daemon}-{index}")),
                node: Some(node.clone()),
                phase: PodPhase::Running,
                terminating: false,
                labels: Labels::from([("app".into(), name.into())]),
                owner: PodOwner::DaemonSet(name.into()),
                unschedulable: false,
                ready: true,
                scheduling: Arc::clone(&scheduling),
            };
            cluster.snapshot.pods.insert(pod.key.clone(), pod);
        }
    }
}
