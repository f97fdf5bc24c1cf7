//! A quiet cluster, in which nodes could sleep: many are empty, and something speaks against the sleep of some.

use super::{Cluster, Dice, Shape, workload};
use crate::model::{
    AgentWord, Bytes, HealthCheck, Labels, Name, Neighbour, Node, NodeName, Pod, PodKey, PodOwner, PodPhase,
    PowerRecord, RepairsWhile, Restless, Scheduling, Selector, Share, Span, Timestamp, Uid, VmKey, WakeAddress,
    WakeWay,
};
use std::sync::Arc;

/// How many things can speak against the sleep of one node.
const OBJECTIONS: usize = 17;

impl Cluster {
    /// Makes a quiet cluster up. The same seed gives the same one.
    #[must_use]
    pub fn night(seed: u64) -> Self {
        let shape = Shape { shared: 3, dedicated: 9, vms: 6, daemons: 1, special: 12, hot: 0, damage: 0 };
        let mut cluster = Self::generate(&shape, seed);
        let mut dice = Dice::new(seed ^ 0x4E16_4874);
        cluster.now = cluster.now + Span::from_secs(seed % 60);
        cluster.pass(Span::from_secs(1));
        for class in cluster.policies.classes.values_mut() {
            class.sleep.can_be_woken = true;
        }
        for policy in cluster.policies.policies.values_mut() {
            policy.min_awake = u32::try_from(dice.below(10)).unwrap_or(0);
            policy.keep_awake_failures = u32::try_from(dice.below(3)).unwrap_or(0);
        }
        let nodes: Vec<NodeName> = cluster.snapshot.nodes.keys().cloned().collect();
        for name in nodes {
            cluster.trust(&name, &mut dice);
            if dice.percent(40) {
                let objection = dice.below(OBJECTIONS);
                cluster.object(&name, objection);
            }
        }
        if dice.percent(20) {
            cluster.without_wake_drivers(&mut dice);
        }
        if dice.percent(40) {
            cluster.leave_little_room(&mut dice);
        }
        if dice.percent(30) {
            cluster.add_health_check(&mut dice);
        }
        if dice.percent(30) {
            cluster.add_pending_pod(&mut dice);
        }
        cluster
    }

    /// The node has an agent, has shown that it wakes, and has been empty for hours.
    fn trust(&mut self, name: &NodeName, dice: &mut Dice) {
        let hours = |dice: &mut Dice| Span::from_secs(3600 * (1 + dice.below(20) as u64));
        let record = PowerRecord {
            uid: Some(Uid::new(format!("power-{name}"))),
            noted: true,
            empty_since: Some(self.now - hours(dice)),
            agent: AgentWord { boot_id: Some("boot".into()), ..AgentWord::default() },
            ..PowerRecord::default()
        };
        self.snapshot.powers.insert(name.clone(), record);
        if let Some(node) = self.snapshot.nodes.get_mut(name) {
            node.wake_tested = Some(self.now - hours(dice));
        }
    }

    /// One thing that speaks against the node's sleep.
    fn object(&mut self, name: &NodeName, objection: usize) {
        let now = self.now;
        let Some(node) = self.snapshot.nodes.get_mut(name) else { return };
        match objection {
            0 => node.control_plane = Some("label node-role.kubernetes.io/etcd".into()),
            1 => node.gateway = Some("label egress-node".into()),
            2 => node.keep_awake = Some("licence server".into()),
            3 => node.wake_tested = None,
            4 => node.wake_tested = Some(Timestamp::default()),
            5 => node.maintenance = Some("node upgrade".into()),
            6 => node.unschedulable = true,
            7 => node.taints.push(workload::taint("example.com/gpu")),
            8 => node.attached_volumes.push("pvc-1".into()),
            9 => self.add_pod(name, "web", PodOwner::Other),
            10 => self.add_pod(name, "longhorn-instance-manager-r", PodOwner::Other),
            11 => self.add_pod(name, "own-agent", PodOwner::DaemonSet("own-agent".into())),
            12 => {
                self.add_pod(name, "own-vip", PodOwner::Static { manifest: "own-vip".into(), control_plane: false });
            }
            13 => {
                let restless = Restless { times: 3, until: Some(now + Span::from_secs(3600)), why: "acpi".into() };
                self.snapshot.powers.entry(name.clone()).or_default().restless = Some(restless);
            }
            14 => {
                self.snapshot.machine_checks.insert(name.clone(), Name::from("machines/workers"));
            }
            15 => {
                let pool = Neighbour::MachineConfigPool { pool: "worker".into() };
                self.snapshot.neighbours.insert(name.clone(), pool);
            }
            _ => {
                let (vm, uid) = (VmKey::new("team-0", "unseen"), Uid::new("unseen"));
                self.add_pod(name, "virt-launcher-unseen", PodOwner::Vm { vm, uid, target_of: None });
            }
        }
    }

    /// One class says not how its nodes are woken, or names a way that leads nowhere.
    fn without_wake_drivers(&mut self, dice: &mut Dice) {
        let at = dice.below(self.policies.classes.len());
        let Some(class) = self.policies.classes.values_mut().nth(at) else { return };
        if dice.percent(50) {
            class.sleep.can_be_woken = false;
        } else {
            let address = WakeAddress { labels: ["mac".to_owned()].into(), is_mac: true, wrong: None };
            class.sleep.ways.push(WakeWay { driver: "wol".into(), address, ..WakeWay::default() });
        }
    }

    /// One or two nodes alone have room for another VM.
    fn leave_little_room(&mut self, dice: &mut Dice) {
        let count = self.snapshot.nodes.len();
        let roomy = [dice.below(count), dice.below(count)];
        for (at, node) in self.snapshot.nodes.values_mut().enumerate() {
            if !roomy.contains(&at) {
                node.allocatable.memory = Bytes::gib(1);
            }
        }
    }

    fn add_pod(&mut self, node: &NodeName, name: &str, owner: PodOwner) {
        let pod = pod(&format!("{name}-{node}"), Some(node.clone()), owner, Scheduling::default());
        self.snapshot.pods.insert(pod.key.clone(), pod);
    }

    /// A NodeHealthCheck over all nodes that allows a few of them to be away.
    fn add_health_check(&mut self, dice: &mut Dice) {
        let away = u32::try_from(1 + dice.below(3)).unwrap_or(1);
        let check = HealthCheck { nodes: Selector::default(), repairs: RepairsWhile::Unhealthy(Share::Count(away)) };
        self.snapshot.health_checks.insert("workers".into(), check);
    }

    /// A pod that one node alone could take; the scheduler has not looked at it yet.
    fn add_pending_pod(&mut self, dice: &mut Dice) {
        let names: Vec<_> =
            self.snapshot.nodes.values().filter(|node| dedicated(node)).map(|node| &node.name).collect();
        if names.is_empty() {
            return;
        }
        let node = names[dice.below(names.len())].to_string();
        let mut scheduling = Scheduling::default();
        scheduling.node_selector.insert("kubernetes.io/hostname".into(), node);
        let mut pod = pod("pending", None, PodOwner::Other, scheduling);
        pod.phase = PodPhase::Pending;
        self.snapshot.pods.insert(pod.key.clone(), pod);
    }
}

fn dedicated(node: &Node) -> bool {
    node.labels.get("role").is_some_and(|role| role == "dedicated")
}

fn pod(name: &str, node: Option<NodeName>, owner: PodOwner, scheduling: Scheduling) -> Pod {
    Pod {
        key: PodKey::new("team-0", name),
        uid: Uid::new(name),
        node,
        phase: PodPhase::Running,
        terminating: false,
        labels: Labels::new(),
        owner,
        unschedulable: false,
        ready: true,
        scheduling: Arc::new(scheduling),
    }
}
