//! What is in use on one node.

use crate::model::{Bytes, MilliCpu, Node, Resources, Scheduling, Vm};

/// What the pods on one node ask for.
#[derive(Debug, Clone)]
pub struct NodeUse<'a> {
    node: &'a Node,
    /// CPU requests.
    pub cpu: MilliCpu,
    /// Memory requests.
    pub memory: Bytes,
    /// Requests of ephemeral storage.
    pub ephemeral_storage: Bytes,
    /// Pods.
    pub pods: u64,
    /// VMs here or on their way from or to here.
    pub vms: u32,
    /// Their vCPUs.
    pub vcpus: u64,
    /// Memory requests of their launchers.
    pub vm_memory: Bytes,
    extended: Vec<(&'a str, u64)>,
    /// Volumes by CSI driver that are to be attached and may not be yet.
    attaching: Vec<(&'a str, u64)>,
    pub(super) ports: Vec<(&'a str, u16)>,
}

impl<'a> NodeUse<'a> {
    /// A node with nothing on it.
    pub(super) fn new(node: &'a Node) -> Self {
        Self {
            node,
            cpu: MilliCpu::default(),
            memory: Bytes::default(),
            ephemeral_storage: Bytes::default(),
            pods: 0,
            vms: 0,
            vcpus: 0,
            vm_memory: Bytes::default(),
            extended: Vec::new(),
            attaching: Vec::new(),
            ports: Vec::new(),
        }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// Requests of an extended resource.
    #[must_use]
    pub fn extended(&self, name: &str) -> u64 {
        self.extended.iter().find(|(known, _)| *known == name).map_or(0, |(_, amount)| *amount)
    }

    /// Volumes of a CSI driver that pods on their way here will bring.
    #[must_use]
    pub fn attaching(&self, driver: &str) -> u64 {
        self.attaching.iter().find(|(known, _)| *known == driver).map_or(0, |(_, count)| *count)
    }

    /// Counts the volumes of a pod that is on its way here.
    pub(super) fn attach(&mut self, pod: &'a Scheduling) {
        for (driver, count) in &pod.csi_volumes {
            add(&mut self.attaching, driver, *count);
        }
    }

    /// Counts a pod.
    pub(super) fn add_pod(&mut self, pod: &'a Scheduling) {
        let Resources { cpu, memory, ephemeral_storage, pods: _, extended } = &pod.requests;
        self.cpu += *cpu;
        self.memory += *memory;
        self.ephemeral_storage += *ephemeral_storage;
        self.pods += 1;
        for (name, amount) in extended {
            add(&mut self.extended, name, *amount);
        }
        self.ports.extend(pod.host_ports.iter().map(|(protocol, port)| (protocol.as_str(), *port)));
    }

    /// Counts a VM, beside its pod.
    pub(super) fn add_vm(&mut self, vm: &Vm) {
        self.vms += 1;
        self.vcpus += u64::from(vm.vcpus);
        self.vm_memory += vm.target.requests.memory;
    }
}

/// Adds to one of a few sums.
fn add<'a>(sums: &mut Vec<(&'a str, u64)>, name: &'a str, amount: u64) {
    match sums.iter_mut().find(|(known, _)| *known == name) {
        Some((_, sum)) => *sum = sum.saturating_add(amount),
        None => sums.push((name, amount)),
    }
}
