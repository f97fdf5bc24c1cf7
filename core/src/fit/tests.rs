//! Each filter against what kube-scheduler does, from its documentation and source.

use super::*;
use crate::model::*;
use std::{collections::BTreeMap, sync::Arc};

fn node(name: &str, zone: &str) -> Node {
    let mut node = Node::new(name, Resources::new(MilliCpu(8000), Bytes::gib(32), 10));
    node.labels.insert("zone".into(), zone.into());
    node
}

fn cluster(nodes: impl IntoIterator<Item = Node>) -> Snapshot {
    Snapshot { nodes: nodes.into_iter().map(|node| (node.name.clone(), node)).collect(), ..Snapshot::default() }
}

fn wants(cpu: u64, gib: u64) -> Scheduling {
    Scheduling { requests: Resources::new(MilliCpu(cpu), Bytes::gib(gib), 1), ..Scheduling::default() }
}

fn pod(name: &str, node: Option<&str>, app: &str, scheduling: Scheduling) -> Pod {
    Pod {
        key: PodKey::new("default", name),
        uid: Uid::new(name),
        node: node.map(NodeName::new),
        phase: PodPhase::Running,
        terminating: false,
        labels: Labels::from([("app".into(), app.into())]),
        owner: PodOwner::Other,
        unschedulable: false,
        ready: true,
        scheduling: Arc::new(scheduling),
    }
}

fn add(snapshot: &mut Snapshot, pod: Pod) {
    snapshot.pods.insert(pod.key.clone(), pod);
}

/// What a new pod `app=web` with these constraints is told by a node.
fn ask(snapshot: &Snapshot, scheduling: &Scheduling, node: &str) -> Result<(), Misfit> {
    let newcomer = pod("newcomer", None, "web", scheduling.clone());
    let occupancy = Occupancy::new(snapshot);
    fits(Candidate::pod(&newcomer), &snapshot.nodes[&NodeName::new(node)], &occupancy)
}

fn vm(name: &str, node: &str, gib: u64) -> Vm {
    Vm {
        key: VmKey::new("default", name),
        uid: Uid::new(format!("{name}-uid")),
        labels: Labels::new(),
        node: Some(NodeName::new(node)),
        running: true,
        vcpus: 2,
        memory: Bytes::gib(gib),
        not_migratable: None,
        activity: None,
        host_device: false,
        marks: Marks::default(),
        last_migration: None,
        target: Arc::new(wants(200, gib)),
        unsupported: None,
        launcher_labels: Labels::from([("app".into(), "web".into())]),
        mode_label: None,
        user_migration_policy: None,
        equal_migration_policies: Vec::new(),
    }
}

#[test]
fn requests_are_compared_with_what_is_left() {
    let mut snapshot = cluster([node("n1", "a")]);
    add(&mut snapshot, pod("there", Some("n1"), "db", wants(6000, 30)));
    let cpu = Misfit::InsufficientCpu { requested: MilliCpu(3000), free: MilliCpu(2000) };
    assert_eq!(ask(&snapshot, &wants(3000, 1), "n1"), Err(cpu));
    let memory = Misfit::InsufficientMemory { requested: Bytes::gib(3), free: Bytes::gib(2) };
    assert_eq!(ask(&snapshot, &wants(2000, 3), "n1"), Err(memory));
    assert_eq!(ask(&snapshot, &wants(2000, 2), "n1"), Ok(()));
    let mut with_device = wants(1, 1);
    with_device.requests.extended.insert("devices.kubevirt.io/kvm".into(), 1);
    let device = Misfit::InsufficientExtended { name: "devices.kubevirt.io/kvm".into(), requested: 1, free: 0 };
    assert_eq!(ask(&snapshot, &with_device, "n1"), Err(device));
}

#[test]
fn what_is_not_requested_fits_an_overfull_node() {
    let mut snapshot = cluster([node("n1", "a")]);
    add(&mut snapshot, pod("there", Some("n1"), "db", wants(9000, 64)));
    assert_eq!(ask(&snapshot, &Scheduling::default(), "n1"), Ok(()));
}

#[test]
fn finished_pods_use_nothing_and_pods_are_counted() {
    let mut snapshot = cluster([node("n1", "a")]);
    for index in 0..10 {
        add(&mut snapshot, pod(&format!("p{index}"), Some("n1"), "db", Scheduling::default()));
    }
    assert_eq!(ask(&snapshot, &wants(1, 1), "n1"), Err(Misfit::TooManyPods { allowed: 10 }));
    snapshot.pods.values_mut().next().unwrap().phase = PodPhase::Finished;
    assert_eq!(ask(&snapshot, &wants(1, 1), "n1"), Ok(()));
}

#[test]
fn cordons_and_taints_keep_away_who_does_not_tolerate_them() {
    let taint = |key: &str, effect| Taint { key: key.into(), value: "v".into(), effect };
    let mut tainted = node("n1", "a");
    tainted.taints = vec![taint("soft", TaintEffect::PreferNoSchedule), taint("gpu", TaintEffect::NoSchedule)];
    let mut cordoned = node("n2", "a");
    cordoned.unschedulable = true;
    let snapshot = cluster([tainted, cordoned]);
    assert!(matches!(ask(&snapshot, &wants(1, 1), "n1"), Err(Misfit::Taint { key, .. }) if key == "gpu"));
    assert_eq!(ask(&snapshot, &wants(1, 1), "n2"), Err(Misfit::Cordoned));

    let tolerating = |key: Option<&str>, operator, value: &str, effect| {
        let toleration = Toleration { key: key.map(str::to_owned), operator, value: value.into(), effect };
        Scheduling { tolerations: vec![toleration], ..wants(1, 1) }
    };
    let equal = TolerationOperator::Equal;
    let exists = TolerationOperator::Exists;
    assert_eq!(ask(&snapshot, &tolerating(Some("gpu"), equal, "v", None), "n1"), Ok(()));
    assert!(ask(&snapshot, &tolerating(Some("gpu"), equal, "w", None), "n1").is_err());
    assert!(ask(&snapshot, &tolerating(Some("gpu"), exists, "", Some(TaintEffect::NoExecute)), "n1").is_err());
    assert_eq!(ask(&snapshot, &tolerating(None, exists, "", None), "n1"), Ok(()));
    assert_eq!(ask(&snapshot, &tolerating(None, exists, "", None), "n2"), Ok(()));
}

#[test]
fn the_taints_of_sleep_end_with_it() {
    let mut asleep = node("n1", "a");
    let taint = |key: &str| Taint { key: key.into(), value: String::new(), effect: TaintEffect::NoSchedule };
    asleep.taints = vec![taint("node.kubernetes.io/unreachable"), taint("miyako.dev/asleep")];
    let mut snapshot = cluster([asleep]);
    let vm = vm("vm", "elsewhere", 1);
    let judge = |snapshot: &Snapshot, moment| {
        Occupancy::new(snapshot).probe(Candidate::target_of(&vm)).fits(&NodeName::new("n1"), moment)
    };
    assert!(judge(&snapshot, Moment::Now).is_err());
    assert_eq!(judge(&snapshot, Moment::OnceAwake), Ok(()));
    snapshot.nodes.values_mut().next().unwrap().taints.push(taint("theirs"));
    assert!(judge(&snapshot, Moment::OnceAwake).is_err());
}

#[test]
fn selectors_affinity_and_volumes_choose_nodes() {
    let snapshot = cluster([node("n1", "a"), node("n2", "b")]);
    let in_b = NodeSelector {
        terms: vec![NodeSelectorTerm {
            labels: vec![Requirement { key: "zone".into(), operator: Operator::In, values: vec!["b".into()] }],
            names: vec![],
        }],
    };
    let mut selecting = wants(1, 1);
    selecting.node_selector.insert("zone".into(), "b".into());
    let refused = Misfit::NodeSelector { key: "zone".into(), wanted: "b".into() };
    assert_eq!(ask(&snapshot, &selecting, "n1"), Err(refused));
    assert_eq!(ask(&snapshot, &selecting, "n2"), Ok(()));
    let affine = Scheduling { node_affinity: Some(in_b.clone()), ..wants(1, 1) };
    assert_eq!(ask(&snapshot, &affine, "n1"), Err(Misfit::NodeAffinity));
    assert_eq!(ask(&snapshot, &affine, "n2"), Ok(()));
    let bound = Scheduling { volume_topology: vec![in_b], ..wants(1, 1) };
    assert_eq!(ask(&snapshot, &bound, "n1"), Err(Misfit::VolumeTopology));
    assert_eq!(ask(&snapshot, &bound, "n2"), Ok(()));
}

#[test]
fn a_node_takes_so_many_volumes_of_a_driver() {
    let mut limited = node("n1", "a");
    limited.attach_limits.insert("disks.example".into(), 3);
    limited.attached_volumes = ["csi/disks.example^1", "csi/disks.example.two^2", "local/3"]
        .map(|rest| format!("kubernetes.io/{rest}"))
        .into();
    let snapshot = cluster([limited, node("n2", "a")]);
    let with = |count| {
        let target = Scheduling { csi_volumes: [("disks.example".to_owned(), count)].into(), ..wants(1, 1) };
        Vm { target: Arc::new(target), ..vm("vm", "elsewhere", 1) }
    };
    let (two, three) = (with(2), with(3));
    let [n1, n2] = ["n1", "n2"].map(NodeName::new);
    let mut occupancy = Occupancy::new(&snapshot);
    let fits = |occupancy: &Occupancy<'_>, vm, node| occupancy.probe(Candidate::target_of(vm)).fits(node, Moment::Now);
    assert_eq!(fits(&occupancy, &two, &n1), Ok(()), "one is attached, the other driver's does not count");
    assert!(matches!(fits(&occupancy, &three, &n1), Err(Misfit::TooManyVolumes { limit: 3, attached: 1, .. })));
    assert_eq!(fits(&occupancy, &three, &n2), Ok(()), "without a limit there is none");
    let before = occupancy.mark();
    occupancy.place(Candidate::target_of(&two), &n1);
    assert!(matches!(fits(&occupancy, &two, &n1), Err(Misfit::TooManyVolumes { attached: 3, .. })));
    occupancy.roll_back(before);
    assert_eq!(fits(&occupancy, &two, &n1), Ok(()));
}

#[test]
fn a_host_port_is_taken_once() {
    let mut snapshot = cluster([node("n1", "a")]);
    let port = |protocol: &str| Scheduling { host_ports: vec![(protocol.into(), 53)], ..wants(1, 1) };
    add(&mut snapshot, pod("there", Some("n1"), "dns", port("UDP")));
    assert_eq!(ask(&snapshot, &port("UDP"), "n1"), Err(Misfit::PortTaken { protocol: "UDP".into(), port: 53 }));
    assert_eq!(ask(&snapshot, &port("TCP"), "n1"), Ok(()));
}

fn term(app: &str, key: &str) -> PodAffinityTerm {
    PodAffinityTerm {
        selector: Selector::label("app", app),
        namespaces: vec!["default".into()],
        all_namespaces: false,
        topology_key: key.into(),
    }
}

#[test]
fn affinity_goes_to_its_partners_place_and_the_first_of_a_group_anywhere() {
    let mut snapshot = cluster([node("n1", "a"), node("n2", "a"), node("n3", "b")]);
    let near = |app: &str| Scheduling { affinity: vec![term(app, "zone")], ..wants(1, 1) };
    let lonely = Misfit::Affinity { topology_key: "zone".into() };
    assert_eq!(ask(&snapshot, &near("db"), "n1"), Err(lonely.clone()));
    assert_eq!(ask(&snapshot, &near("web"), "n3"), Ok(()), "it is the first of its group");
    add(&mut snapshot, pod("db", Some("n1"), "db", wants(1, 1)));
    assert_eq!(ask(&snapshot, &near("db"), "n2"), Ok(()));
    assert_eq!(ask(&snapshot, &near("db"), "n3"), Err(lonely));
    let no_label = Scheduling { affinity: vec![term("web", "rack")], ..wants(1, 1) };
    assert!(ask(&snapshot, &no_label, "n1").is_err(), "even the first of a group needs the node's label");
}

#[test]
fn anti_affinity_holds_both_ways() {
    let mut snapshot = cluster([node("n1", "a"), node("n2", "a"), node("n3", "b")]);
    add(&mut snapshot, pod("db", Some("n1"), "db", wants(1, 1)));
    let away = Scheduling { anti_affinity: vec![term("db", "zone")], ..wants(1, 1) };
    let refused = Misfit::AntiAffinity { topology_key: "zone".into(), value: "a".into() };
    assert_eq!(ask(&snapshot, &away, "n2"), Err(refused));
    assert_eq!(ask(&snapshot, &away, "n3"), Ok(()));

    let jealous = Scheduling { anti_affinity: vec![term("web", "zone")], ..wants(1, 1) };
    add(&mut snapshot, pod("jealous", Some("n3"), "db", jealous));
    let refused = Misfit::OthersAntiAffinity { topology_key: "zone".into(), value: "b".into() };
    assert_eq!(ask(&snapshot, &wants(1, 1), "n3"), Err(refused));
    assert_eq!(ask(&snapshot, &wants(1, 1), "n1"), Ok(()));
}

#[test]
fn anti_affinity_without_a_label_to_look_up_holds_too() {
    let mut snapshot = cluster([node("n1", "a"), node("n2", "b")]);
    let mut any = term("web", "zone");
    any.selector.requirements[0] = Requirement { key: "app".into(), operator: Operator::Exists, values: vec![] };
    let jealous = Scheduling { anti_affinity: vec![any], ..wants(1, 1) };
    add(&mut snapshot, pod("jealous", Some("n1"), "db", jealous));
    assert!(ask(&snapshot, &wants(1, 1), "n1").is_err());
    assert_eq!(ask(&snapshot, &wants(1, 1), "n2"), Ok(()));
}

#[test]
fn topology_spread_keeps_places_level() {
    let mut snapshot = cluster([node("n1", "a"), node("n2", "b"), Node::new("n3", Resources::default())]);
    snapshot.nodes.get_mut(&NodeName::new("n3")).unwrap().allocatable = node("x", "x").allocatable;
    let spread = |min_domains| Scheduling {
        spread: vec![SpreadConstraint {
            max_skew: 1,
            topology_key: "zone".into(),
            selector: Selector::label("app", "web"),
            min_domains,
        }],
        ..wants(1, 1)
    };
    add(&mut snapshot, pod("w1", Some("n1"), "web", wants(1, 1)));
    assert!(matches!(ask(&snapshot, &spread(None), "n1"), Err(Misfit::Spread { skew: 2, .. })));
    assert_eq!(ask(&snapshot, &spread(None), "n2"), Ok(()));
    assert!(matches!(ask(&snapshot, &spread(None), "n3"), Err(Misfit::SpreadKeyMissing { .. })));
    add(&mut snapshot, pod("w2", Some("n2"), "web", wants(1, 1)));
    assert_eq!(ask(&snapshot, &spread(None), "n1"), Ok(()));
    assert!(ask(&snapshot, &spread(Some(3)), "n1").is_err(), "with fewer places than wanted the least is zero");
}

#[test]
fn spread_counts_only_nodes_the_pod_may_use_and_pods_that_stay() {
    let mut snapshot = cluster([node("n1", "a"), node("n2", "b")]);
    let mut picky = Scheduling {
        spread: vec![SpreadConstraint {
            max_skew: 1,
            topology_key: "zone".into(),
            selector: Selector::label("app", "web"),
            min_domains: None,
        }],
        ..wants(1, 1)
    };
    add(&mut snapshot, pod("w1", Some("n1"), "web", wants(1, 1)));
    assert!(ask(&snapshot, &picky, "n1").is_err());
    snapshot.pods.values_mut().next().unwrap().terminating = true;
    assert_eq!(ask(&snapshot, &picky, "n1"), Ok(()), "a terminating pod no longer counts");
    snapshot.pods.values_mut().next().unwrap().terminating = false;
    picky.node_selector.insert("zone".into(), "a".into());
    assert_eq!(ask(&snapshot, &picky, "n1"), Ok(()), "zone b is out of reach, so a is the emptiest place");
}

fn with_quota(hard: &[(&str, u128)], used: &[(&str, u128)]) -> Snapshot {
    let amounts = |pairs: &[(&str, u128)]| -> BTreeMap<String, u128> {
        pairs.iter().map(|(name, units)| ((*name).to_owned(), units * 1000)).collect()
    };
    let quota = Quota { name: "team".into(), hard: amounts(hard), used: amounts(used) };
    let namespace = Namespace { quotas: vec![quota], ..Namespace::default() };
    Snapshot { namespaces: BTreeMap::from([("default".into(), namespace)]), ..cluster([node("n1", "a")]) }
}

#[test]
fn quotas_must_let_the_second_launcher_in() {
    let full = with_quota(&[("pods", 2)], &[("pods", 2)]);
    assert!(matches!(ask(&full, &wants(1, 1), "n1"), Err(Misfit::Quota { resource, .. }) if resource == "pods"));
    let gib = 1 << 30;
    let memory = with_quota(&[("requests.memory", 10 * gib)], &[("requests.memory", 8 * gib)]);
    assert_eq!(ask(&memory, &wants(1, 2), "n1"), Ok(()));
    assert!(matches!(ask(&memory, &wants(1, 3), "n1"), Err(Misfit::Quota { .. })));
    let limits = with_quota(&[("limits.memory", 10 * gib)], &[]);
    assert!(matches!(ask(&limits, &wants(1, 1), "n1"), Err(Misfit::QuotaNeeds { .. })));
    let unrelated = with_quota(&[("services", 1)], &[("services", 1)]);
    assert_eq!(ask(&unrelated, &wants(1, 1), "n1"), Ok(()));
}

#[test]
fn planned_moves_count_at_once_and_can_be_taken_back() {
    let mut snapshot = with_quota(&[("pods", 5)], &[("pods", 3)]);
    snapshot.nodes.insert(NodeName::new("n2"), node("n2", "b"));
    let (first, second) = (vm("vm1", "n1", 20), vm("vm2", "n1", 20));
    let n2 = NodeName::new("n2");
    let mut occupancy = Occupancy::new(&snapshot);
    let start = occupancy.mark();
    assert!(occupancy.place(Candidate::target_of(&first), &n2));
    let target = Candidate::target_of(&second);
    assert!(matches!(occupancy.probe(target).fits(&n2, Moment::Now), Err(Misfit::InsufficientMemory { .. })));
    assert_eq!(occupancy.on(&n2).unwrap().vms, 1);
    assert!(occupancy.place(target, &n2));
    assert!(occupancy.probe(target).quota().is_err());
    occupancy.roll_back(start);
    assert_eq!(occupancy.probe(target).fits(&n2, Moment::Now), Ok(()));
    assert_eq!(occupancy.probe(target).quota(), Ok(()));
    assert_eq!(occupancy.on(&n2).unwrap().vms, 0);
    assert!(!occupancy.place(target, &NodeName::new("gone")));
}

#[test]
fn a_vm_counts_once_on_each_end_of_its_migration() {
    let mut snapshot = cluster([node("n1", "a"), node("n2", "b")]);
    let moving = vm("vm", "n1", 8);
    snapshot.vms.insert(moving.key.clone(), moving.clone());
    let launcher = |name: &str, node: &str, target_of| Pod {
        owner: PodOwner::Vm { vm: moving.key.clone(), uid: moving.uid.clone(), target_of },
        ..pod(name, Some(node), "web", wants(200, 8))
    };
    add(&mut snapshot, launcher("source", "n1", None));
    let migration = Migration {
        name: MigrationName::new("default", "m"),
        uid: Uid::new("m-uid"),
        vm: moving.key.clone(),
        phase: MigrationPhase::Pending,
        plan: None,
        system: false,
        source: Some(NodeName::new("n1")),
        target: Some(NodeName::new("n2")),
        mode: None,
        created: Timestamp::default(),
        trouble: None,
        deleting: false,
    };
    snapshot.migrations.insert(migration.name.clone(), migration);
    let uses = |snapshot: &Snapshot| {
        let occupancy = Occupancy::new(snapshot);
        ["n1", "n2"].map(|name| {
            let on = occupancy.on(&NodeName::new(name)).unwrap();
            (on.memory, on.pods, on.vms, on.vm_memory)
        })
    };
    let expected = [(Bytes::gib(8), 1, 1, Bytes::gib(8)); 2];
    assert_eq!(uses(&snapshot), expected, "the target pod is not there yet");
    add(&mut snapshot, launcher("target", "n2", Some(Uid::new("m-uid"))));
    assert_eq!(uses(&snapshot), expected, "the target pod is there");
    let refused =
        fits(Candidate::target_of(&moving), &snapshot.nodes[&NodeName::new("n1")], &Occupancy::new(&snapshot));
    assert_eq!(refused, Err(Misfit::SourceNode));
}
