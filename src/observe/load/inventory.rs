//! Which nodes and VMs there are: what is measured of anything else is refused, so memory is bounded by the cluster.

use miyako_core::model::{Cores, MigrationMode, NodeName, PowerState, Snapshot, Timestamp, Uid, Vm, VmKey};
use std::collections::{BTreeMap, BTreeSet};

/// A VM as the API server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmPlace {
    /// The VMI's uid.
    pub uid: Uid,
    /// Where its guest runs. During a migration two nodes run a launcher for it; only this one's figures are the VM's.
    pub node: Option<NodeName>,
}

/// The nodes and VMs that exist.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// The CPU that each node has.
    pub nodes: BTreeMap<NodeName, Cores>,
    /// The IP addresses of each node that has any.
    pub addresses: BTreeMap<NodeName, Vec<String>>,
    /// The nodes that are asleep or on the way there or back: their agents' silence is no problem.
    pub asleep: BTreeSet<NodeName>,
    /// The VMs, and where each runs.
    pub vms: BTreeMap<VmKey, VmPlace>,
    /// When each VM that migrated came to where it is: what its launcher there used before was not the VM's load.
    pub arrived: BTreeMap<VmKey, Timestamp>,
}

impl Inventory {
    /// What a snapshot says. A node's CPU is its allocatable: what the system keeps for itself matters little for
    /// telling an absurd figure from a high one.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        Self {
            nodes: snapshot.nodes.iter().map(|(name, node)| (name.clone(), node.allocatable.cpu.cores())).collect(),
            addresses: addresses(snapshot).map(|(name, addresses)| (name.clone(), addresses.to_vec())).collect(),
            asleep: asleep(snapshot).cloned().collect(),
            vms: snapshot
                .vms
                .iter()
                .map(|(key, vm)| (key.clone(), VmPlace { uid: vm.uid.clone(), node: guest_node(vm).cloned() }))
                .collect(),
            arrived: arrivals(snapshot).map(|(key, at)| (key.clone(), at)).collect(),
        }
    }

    /// Whether it says what the snapshot says. Asked once a second, and nearly always so; hence without building one.
    #[must_use]
    pub fn is_of(&self, snapshot: &Snapshot) -> bool {
        self.nodes.len() == snapshot.nodes.len()
            && self.vms.len() == snapshot.vms.len()
            && self.asleep.iter().eq(asleep(snapshot))
            && self.addresses.iter().map(|(name, addresses)| (name, addresses.as_slice())).eq(addresses(snapshot))
            && self.arrived.iter().map(|(key, at)| (key, *at)).eq(arrivals(snapshot))
            && self
                .nodes
                .iter()
                .zip(&snapshot.nodes)
                .all(|((name, &cores), (known, node))| name == known && cores == node.allocatable.cpu.cores())
            && self.vms.iter().zip(&snapshot.vms).all(|((key, place), (known, vm))| {
                key == known && place.uid == vm.uid && place.node.as_ref() == guest_node(vm)
            })
    }
}

/// Where a VM's guest runs: in post-copy at the target from the switch on, while the VMI names the source until the end.
fn guest_node(vm: &Vm) -> Option<&NodeName> {
    let under_way = vm.last_migration.as_ref().filter(|last| !last.completed && !last.failed && last.ended.is_none());
    let switched = under_way.filter(|last| last.mode == Some(MigrationMode::PostCopy));
    switched.and_then(|last| last.target.as_ref()).or(vm.node.as_ref())
}

fn arrivals(snapshot: &Snapshot) -> impl Iterator<Item = (&VmKey, Timestamp)> {
    let arrived = |vm: &Vm| {
        let last = vm.last_migration.as_ref()?;
        if last.completed && !last.failed && last.target == vm.node { last.ended } else { None }
    };
    snapshot.vms.iter().filter_map(move |(key, vm)| Some((key, arrived(vm)?)))
}

fn addresses(snapshot: &Snapshot) -> impl Iterator<Item = (&NodeName, &[String])> {
    let nodes = snapshot.nodes.iter().filter(|(_, node)| !node.addresses.is_empty());
    nodes.map(|(name, node)| (name, node.addresses.as_slice()))
}

fn asleep(snapshot: &Snapshot) -> impl Iterator<Item = &NodeName> {
    let sleeps = |power| matches!(power, PowerState::Suspending | PowerState::Suspended | PowerState::Waking);
    snapshot.nodes.iter().filter(move |(_, node)| sleeps(node.power)).map(|(name, _)| name)
}
