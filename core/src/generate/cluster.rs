//! A plausible cluster.

use super::{Dice, damage, policies, workload};
use crate::model::{
    Bytes, Cores, LoadHistory, MilliCpu, Node, NodeName, Policies, PowerState, Resources, Role, Snapshot, Span,
    Timestamp,
};

/// How large a cluster is made, and how it is troubled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Shared nodes.
    pub shared: usize,
    /// Dedicated nodes.
    pub dedicated: usize,
    /// VMs to place; fewer if they do not fit.
    pub vms: usize,
    /// DaemonSet pods on each node.
    pub daemons: usize,
    /// So many of a hundred VMs have a constraint beyond requests, or something that keeps them from moving.
    pub special: u64,
    /// So many of a hundred shared nodes are overloaded.
    pub hot: u64,
    /// So many things are broken afterwards, one by one.
    pub damage: usize,
}

impl Shape {
    /// A small cluster in which much happens, for tests.
    pub const SMALL: Self = Self { shared: 5, dedicated: 7, vms: 50, daemons: 2, special: 30, hot: 40, damage: 0 };

    /// A cluster as in a data centre, for benchmarks: 20 VMs and 10 other pods a node.
    #[must_use]
    pub fn large(nodes: usize) -> Self {
        let shared = nodes * 7 / 10;
        Self { shared, dedicated: nodes - shared, vms: nodes * 20, daemons: 10, special: 5, hot: 1, damage: 0 }
    }
}

/// A snapshot, the policies for it and its moment.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The cluster.
    pub snapshot: Snapshot,
    /// What people declared.
    pub policies: Policies,
    /// The moment of the snapshot.
    pub now: Timestamp,
}

/// What a generated node stands on.
pub(super) struct Place {
    pub(super) name: NodeName,
    pub(super) role: Role,
    /// What is left for VMs.
    pub(super) free_memory: u64,
    pub(super) free_cores: u64,
    pub(super) cores: f64,
    /// CPU in use so far.
    pub(super) load: f64,
    /// This shared node is to be overloaded.
    pub(super) hot: bool,
    pub(super) usable: bool,
}

/// A history in which one value was measured during the last half hour and a minute.
pub(super) fn steady(now: Timestamp, cores: f64) -> LoadHistory {
    let mut history = LoadHistory::default();
    history.push(now, Span::from_secs(31 * 60), Cores::new(cores).unwrap_or(Cores::ZERO));
    history
}

/// A history in which one value was measured until five minutes ago, and another one since.
pub(super) fn calmed_down(now: Timestamp, before: f64, cores: f64) -> LoadHistory {
    let mut history = LoadHistory::default();
    let calm = Span::from_secs(5 * 60);
    history.push(now - calm, Span::from_secs(26 * 60), Cores::new(before).unwrap_or(Cores::ZERO));
    history.push(now, calm, Cores::new(cores).unwrap_or(Cores::ZERO));
    history
}

impl Cluster {
    /// Makes a cluster up. The same shape and seed give the same one.
    #[must_use]
    pub fn generate(shape: &Shape, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let now = Timestamp::from_secs(1_800_000_000);
        let mut cluster = Self { snapshot: Snapshot::default(), policies: policies::policies(&mut dice), now };
        let mut places = cluster.add_nodes(shape, &mut dice);
        workload::add_vms(&mut cluster, shape, &mut places, &mut dice);
        workload::add_daemons(&mut cluster, shape);
        for place in places.iter().filter(|place| place.usable) {
            let load = (place.load + 0.1).min(place.cores);
            cluster.snapshot.load.nodes.insert(place.name.clone(), steady(now, load));
        }
        policies::trouble(&mut cluster, &mut dice);
        damage::break_things(&mut cluster, shape.damage, &mut dice);
        cluster
    }

    fn add_nodes(&mut self, shape: &Shape, dice: &mut Dice) -> Vec<Place> {
        let roles = std::iter::repeat_n(Role::Shared, shape.shared)
            .chain(std::iter::repeat_n(Role::Dedicated, shape.dedicated));
        let pools: Vec<_> = policies::pools(&self.policies);
        roles
            .enumerate()
            .map(|(index, role)| {
                let pool = pools[index % pools.len()];
                let (node, place) = node(index, role, pool, shape, dice);
                self.snapshot.nodes.insert(node.name.clone(), node);
                place
            })
            .collect()
    }
}

fn node(index: usize, role: Role, pool: &str, shape: &Shape, dice: &mut Dice) -> (Node, Place) {
    let (prefix, cores, gib) = match role {
        // Some have little memory for their cores.
        Role::Shared => ("shared", *dice.pick(&[16_u64, 32]), *dice.pick(&[192, 192, 48])),
        Role::Dedicated => ("dedicated", *dice.pick(&[8_u64, 16]), *dice.pick(&[64, 64, 16])),
    };
    let mut node = Node::new(
        format!("{prefix}-{index:05}"),
        Resources {
            ephemeral_storage: Bytes::gib(100),
            extended: [("devices.kubevirt.io/kvm".to_owned(), 1000)].into(),
            ..Resources::new(MilliCpu(cores * 1000), Bytes::gib(gib), 110)
        },
    );
    for (key, value) in [
        ("kubevirt.io/schedulable", "true".to_owned()),
        ("role", prefix.to_owned()),
        ("pool", pool.to_owned()),
        ("topology.kubernetes.io/zone", format!("zone-{}", index % 3)),
    ] {
        node.labels.insert(key.into(), value);
    }
    let special = |dice: &mut Dice| dice.percent(shape.special / 3);
    node.wake_tested = (!special(dice)).then_some(Timestamp::default());
    node.control_plane = (special(dice) && dice.percent(30)).then(|| "label node-role.kubernetes.io/etcd".to_owned());
    node.keep_awake = (special(dice) && dice.percent(30)).then(|| "licence server".to_owned());
    if special(dice) {
        node.taints.push(workload::taint("example.com/gpu"));
    }
    if special(dice) {
        node.unschedulable = true;
    }
    if special(dice) && dice.percent(50) {
        node.virt_handler_ready = false;
    }
    if special(dice) && dice.percent(50) {
        node.maintenance = Some("node upgrade".into());
    }
    if role == Role::Dedicated && dice.percent(shape.special) {
        node.power = *dice.pick(&[PowerState::Suspended, PowerState::Suspended, PowerState::Waking]);
        node.ready = false;
        node.taints.push(workload::taint("miyako.dev/asleep"));
    }
    let place = Place {
        name: node.name.clone(),
        role,
        free_memory: gib - 4,
        free_cores: cores,
        cores: cores as f64,
        load: 0.0,
        hot: role == Role::Shared && dice.percent(shape.hot),
        usable: node.is_usable(),
    };
    (node, place)
}
