//! Which nodes and VMs there are: what is measured of anything else is refused, so memory is bounded by the cluster.

use miyako_core::model::{Cores, NodeName, Snapshot, Uid, VmKey};
use std::collections::BTreeMap;

/// A VM as the API server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmPlace {
    /// The VMI's uid.
    pub uid: Uid,
    /// Where it runs. During a migration two nodes run a launcher for it; only this one's figures are the VM's.
    pub node: Option<NodeName>,
}

/// The nodes and VMs that exist.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// The CPU that each node has.
    pub nodes: BTreeMap<NodeName, Cores>,
    /// The VMs, and where each runs.
    pub vms: BTreeMap<VmKey, VmPlace>,
}

impl Inventory {
    /// What a snapshot says. A node's CPU is its allocatable: what the system keeps for itself matters little for
    /// telling an absurd figure from a high one.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        Self {
            nodes: snapshot.nodes.iter().map(|(name, node)| (name.clone(), node.allocatable.cpu.cores())).collect(),
            vms: snapshot
                .vms
                .iter()
                .map(|(key, vm)| (key.clone(), VmPlace { uid: vm.uid.clone(), node: vm.node.clone() }))
                .collect(),
        }
    }
}
