//! On which node everything is: names of nodes become numbers once, because names are slow to compare and every pod
//! and VM has one.

use crate::model::{Lookup, NodeName, Pod, Scheduling, Snapshot, Vm, VmKey};
use std::sync::Arc;

/// The place of each node in the order of the names.
#[derive(Clone)]
pub(crate) struct NodeNumbers<'a>(Arc<Lookup<'a, usize>>);

impl NodeNumbers<'_> {
    /// The node's number, if it is known.
    pub(crate) fn get(&self, name: &NodeName) -> Option<usize> {
        self.0.get(name.as_str()).copied()
    }
}

/// A pod on its node, with what every pod is asked for: all of it read in one walk, because 200 000 pods are too many
/// for any cache.
#[derive(Clone, Copy)]
pub(crate) struct Resident<'a> {
    pub(crate) node: usize,
    pub(crate) pod: &'a Pod,
    pub(crate) scheduling: &'a Scheduling,
    pub(crate) is_launcher: bool,
}

impl<'a> Resident<'a> {
    fn new(node: usize, pod: &'a Pod) -> Self {
        Self { node, pod, scheduling: &pod.scheduling, is_launcher: pod.vm().is_some() }
    }
}

/// A snapshot's pods and VMs with the numbers of their nodes.
pub(crate) struct Whereabouts<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// The snapshot's nodes are numbered in their order.
    pub(crate) nodes: NodeNumbers<'a>,
    /// Pods that use a known node, in the snapshot's order.
    pub(crate) pods: Vec<Resident<'a>>,
    /// Pods that are bound to no node, in the snapshot's order.
    pub(crate) unbound: Vec<&'a Pod>,
    /// All VMs in the snapshot's order, with the node that they run on if it is known.
    pub(crate) vms: Vec<(&'a Vm, Option<usize>)>,
}

impl<'a> Whereabouts<'a> {
    /// Looks up every pod's and VM's node.
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        let numbered = snapshot.nodes.keys().enumerate().map(|(number, name)| (name.as_str(), number));
        let nodes = NodeNumbers(Arc::new(numbered.collect()));
        let mut pods = Vec::with_capacity(snapshot.pods.len());
        let mut unbound = Vec::new();
        for pod in snapshot.pods.values() {
            match &pod.node {
                Some(node) if pod.is_active() => pods.extend(nodes.get(node).map(|node| Resident::new(node, pod))),
                Some(_) => {}
                None => unbound.push(pod),
            }
        }
        let home = |vm: &Vm| nodes.get(vm.node.as_ref()?);
        let vms = snapshot.vms.values().map(|vm| (vm, home(vm))).collect();
        Self { snapshot, nodes, pods, unbound, vms }
    }

    /// The VMs that run on a known node.
    pub(crate) fn guests(&self) -> impl Iterator<Item = (usize, &'a Vm)> {
        self.vms.iter().filter_map(|&(vm, home)| Some((home?, vm)))
    }

    /// A VM's place in the order of all.
    pub(crate) fn number_of(&self, vm: &VmKey) -> Option<usize> {
        self.vms.binary_search_by(|(other, _)| other.key.cmp(vm)).ok()
    }
}
