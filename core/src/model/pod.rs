//! Pods, pruned to what placement and power need.

use super::{Bytes, Labels, MilliCpu, Name, NodeName, NodeSelector, PodKey, Selector, TaintEffect, Uid, VmKey};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// Amounts that pods request and nodes allocate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: Bytes,
    /// Ephemeral storage.
    pub ephemeral_storage: Bytes,
    /// Pods. A pod asks for one; an allocatable says how many.
    pub pods: u64,
    /// Everything else by its name: huge pages, devices.
    pub extended: BTreeMap<String, u64>,
}

impl Resources {
    /// CPU and memory for so many pods, and nothing else.
    #[must_use]
    pub fn new(cpu: MilliCpu, memory: Bytes, pods: u64) -> Self {
        Self { cpu, memory, pods, ..Self::default() }
    }

    /// Whether this is at least as much of everything as the other, pods aside.
    #[must_use]
    pub fn cover(&self, other: &Self) -> bool {
        self.cpu >= other.cpu
            && self.memory >= other.memory
            && self.ephemeral_storage >= other.ephemeral_storage
            && other.extended.iter().all(|(name, amount)| self.extended.get(name).is_some_and(|own| own >= amount))
    }

    /// Adds what another asks for.
    pub fn add(&mut self, other: &Self) {
        self.cpu += other.cpu;
        self.memory += other.memory;
        self.ephemeral_storage += other.ephemeral_storage;
        self.pods = self.pods.saturating_add(other.pods);
        for (name, amount) in &other.extended {
            let sum = self.extended.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Takes away what another asked for.
    pub fn remove(&mut self, other: &Self) {
        self.cpu = self.cpu.saturating_sub(other.cpu);
        self.memory = self.memory.saturating_sub(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.saturating_sub(other.ephemeral_storage);
        self.pods = self.pods.saturating_sub(other.pods);
        for (name, amount) in &other.extended {
            if let Some(sum) = self.extended.get_mut(name) {
                *sum = sum.saturating_sub(*amount);
            }
        }
    }
}

/// How a toleration compares the taint's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TolerationOperator {
    /// Any value.
    Exists,
    /// This value.
    Equal,
}

/// What taint a pod puts up with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toleration {
    /// The taint's key; none means all keys (with `Exists`).
    pub key: Option<String>,
    /// How the value compares.
    pub operator: TolerationOperator,
    /// The value for `Equal`.
    pub value: String,
    /// The effect; none means all effects.
    pub effect: Option<TaintEffect>,
}

/// A required pod (anti-)affinity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAffinityTerm {
    /// Which pods.
    pub selector: Selector,
    /// In which namespaces; empty with no `all_namespaces` is never left: the edge fills in the pod's own.
    pub namespaces: Vec<Name>,
    /// In all namespaces (an empty `namespaceSelector`).
    pub all_namespaces: bool,
    /// The node label whose equal values make one place.
    pub topology_key: String,
}

/// A `DoNotSchedule` topology spread constraint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpreadConstraint {
    /// How much fuller than the emptiest place one may get.
    pub max_skew: u32,
    /// The node label that makes places.
    pub topology_key: String,
    /// Which pods of the namespace count.
    pub selector: Selector,
    /// Below so many places the minimum counts as zero.
    pub min_domains: Option<u32>,
}

/// All that decides where a pod may run, as far as we understand it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// What it asks for.
    pub requests: Resources,
    /// What its containers may use at most, summed; zero where one of them has no limit. Only quotas ask for it.
    pub limits: Resources,
    /// `nodeSelector`.
    pub node_selector: BTreeMap<String, String>,
    /// Required node affinity.
    pub node_affinity: Option<NodeSelector>,
    /// Tolerations.
    pub tolerations: Vec<Toleration>,
    /// Required pod affinity.
    pub affinity: Vec<PodAffinityTerm>,
    /// Required pod anti-affinity.
    pub anti_affinity: Vec<PodAffinityTerm>,
    /// Hard topology spread.
    pub spread: Vec<SpreadConstraint>,
    /// Host ports: protocol and number.
    pub host_ports: Vec<(String, u16)>,
    /// Where its volumes can be used: every one of these must match the node.
    pub volume_topology: Vec<NodeSelector>,
    /// How many volumes of each CSI driver must be attached to its node.
    pub csi_volumes: BTreeMap<String, u64>,
    /// What tells processors apart, as the node says on which a VM with the host's own processor (`host-passthrough`)
    /// runs: a migration needs a node that says the same, no less and no more.
    pub same_cpu: Option<Labels>,
}

/// Who is behind a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodOwner {
    /// The launcher of a VM.
    Vm {
        /// The VM's name.
        vm: VmKey,
        /// The VMI's uid (`kubevirt.io/created-by`).
        uid: Uid,
        /// Created as the target of this migration (its uid).
        target_of: Option<Uid>,
    },
    /// A DaemonSet, by name.
    DaemonSet(Name),
    /// A static (mirror) pod.
    Static {
        /// The name in its file: the pod's without its node's.
        manifest: Name,
        /// It is a part of the control plane, such as etcd.
        control_plane: bool,
    },
    /// Anything else.
    Other,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodPhase {
    /// Not running yet.
    Pending,
    /// Running.
    Running,
    /// Succeeded or Failed: no longer uses anything.
    Finished,
}

/// A pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// Namespace and name.
    pub key: PodKey,
    /// Its uid.
    pub uid: Uid,
    /// Where it runs, once bound.
    pub node: Option<NodeName>,
    /// How far it is.
    pub phase: PodPhase,
    /// Its condition Ready is True.
    pub ready: bool,
    /// Being deleted.
    pub terminating: bool,
    /// Its labels.
    pub labels: Labels,
    /// Who is behind it.
    pub owner: PodOwner,
    /// The scheduler said that it fits nowhere.
    pub unschedulable: bool,
    /// What decides where it may run.
    pub scheduling: Arc<Scheduling>,
}

impl Pod {
    /// Still uses the node's resources.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.phase != PodPhase::Finished
    }

    /// It belongs to a DaemonSet: it is there for its node, and no node is needed for it.
    #[must_use]
    pub fn serves_its_node(&self) -> bool {
        matches!(self.owner, PodOwner::DaemonSet(_))
    }

    /// The VM whose launcher it is.
    #[must_use]
    pub fn vm(&self) -> Option<&VmKey> {
        match &self.owner {
            PodOwner::Vm { vm, .. } => Some(vm),
            _ => None,
        }
    }
}
