//! Why a pod can't run on a node, in words for people.

use crate::model::{Bytes, MilliCpu, TaintEffect};
use serde::{Deserialize, Serialize};

/// Why a pod does not fit a node. The variants follow the scheduler's filters; the sentences are for `explain`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "misfit")]
pub enum Misfit {
    /// The node is not known.
    #[error("the node is not in the cluster")]
    NoSuchNode,
    /// A live migration can't end where it began.
    #[error("the VM is there already")]
    SourceNode,
    /// A migration could not name it.
    #[error("the node has no label kubernetes.io/hostname, by which a migration names its target")]
    NoHostname,
    /// A migration that names it might end elsewhere.
    #[error("another node has the same label kubernetes.io/hostname={value}, by which a migration names its target")]
    HostnameOfTwo {
        /// The label's value.
        value: String,
    },
    /// A quota leaves no room for one more pod.
    #[error("quota {quota} leaves {left} of {resource}, {requested} are needed")]
    Quota {
        /// The ResourceQuota.
        quota: String,
        /// The resource, as the quota names it.
        resource: String,
        /// What the pod would add, in the resource's unit.
        requested: String,
        /// What is left of it, in the same unit.
        left: String,
    },
    /// A quota counts something that the pod does not declare; admission then refuses the pod.
    #[error("quota {quota} counts {resource}, which the VM's pod does not declare")]
    QuotaNeeds {
        /// The ResourceQuota.
        quota: String,
        /// The resource, as the quota names it.
        resource: String,
    },
    /// NodeUnschedulable.
    #[error("the node is cordoned")]
    Cordoned,
    /// TaintToleration.
    #[error("the taint {key}={value}:{effect:?} is not tolerated")]
    Taint {
        /// The taint's key.
        key: String,
        /// Its value.
        value: String,
        /// Its effect.
        effect: TaintEffect,
    },
    /// NodeAffinity, by `nodeSelector`.
    #[error("the node selector wants {key}={wanted}")]
    NodeSelector {
        /// The label's key.
        key: String,
        /// The value it must have.
        wanted: String,
    },
    /// NodeAffinity, by the required terms.
    #[error("the required node affinity does not match")]
    NodeAffinity,
    /// A guest that sees the host's own processor can't go on with another one.
    #[error("its processor is another one: {label} differs, and the VM's CPU model is host-passthrough")]
    OtherCpu {
        /// The first label that differs.
        label: String,
    },
    /// NodePorts.
    #[error("host port {port}/{protocol} is taken")]
    PortTaken {
        /// TCP, UDP or SCTP.
        protocol: String,
        /// The port.
        port: u16,
    },
    /// NodeResourcesFit: pods.
    #[error("the node's {allowed} pods are all there")]
    TooManyPods {
        /// How many it takes.
        allowed: u64,
    },
    /// NodeResourcesFit: CPU.
    #[error("{} cores requested, {} free", requested.cores(), free.cores())]
    InsufficientCpu {
        /// What the pod asks for.
        requested: MilliCpu,
        /// What is left.
        free: MilliCpu,
    },
    /// NodeResourcesFit: memory.
    #[error("{} MiB of memory requested, {} MiB free", requested.0 >> 20, free.0 >> 20)]
    InsufficientMemory {
        /// What the pod asks for.
        requested: Bytes,
        /// What is left.
        free: Bytes,
    },
    /// NodeResourcesFit: ephemeral storage.
    #[error("{} MiB of ephemeral storage requested, {} MiB free", requested.0 >> 20, free.0 >> 20)]
    InsufficientEphemeralStorage {
        /// What the pod asks for.
        requested: Bytes,
        /// What is left.
        free: Bytes,
    },
    /// NodeResourcesFit: huge pages, devices and other extended resources.
    #[error("{requested} of {name} requested, {free} free")]
    InsufficientExtended {
        /// The resource.
        name: String,
        /// What the pod asks for.
        requested: u64,
        /// What is left.
        free: u64,
    },
    /// NodeVolumeLimits: the node takes no more volumes of a CSI driver.
    #[error("the node takes {limit} volumes of {driver}, {attached} are attached or on their way")]
    TooManyVolumes {
        /// The CSI driver.
        driver: String,
        /// What the node takes.
        limit: u64,
        /// What it has or will have.
        attached: u64,
    },
    /// A volume can't be used there.
    #[error("a volume of it can't be used there")]
    VolumeTopology,
    /// PodTopologySpread: the node does not say which place it is in.
    #[error("topology spread wants the node label {topology_key}")]
    SpreadKeyMissing {
        /// The label's key.
        topology_key: String,
    },
    /// PodTopologySpread: the place would get too full.
    #[error("topology spread: {topology_key}={value} would be {skew} fuller than the emptiest, {max_skew} allowed")]
    Spread {
        /// The label's key.
        topology_key: String,
        /// The node's place.
        value: String,
        /// How much fuller than the emptiest place it would be.
        skew: u64,
        /// What is allowed.
        max_skew: u32,
    },
    /// InterPodAffinity: no pod there that it must be near to.
    #[error("pod affinity finds no partner in its {topology_key}")]
    Affinity {
        /// The node label that makes places.
        topology_key: String,
    },
    /// InterPodAffinity: a pod there that it must stay away from.
    #[error("pod anti-affinity keeps it out of {topology_key}={value}")]
    AntiAffinity {
        /// The node label that makes places.
        topology_key: String,
        /// The node's place.
        value: String,
    },
    /// InterPodAffinity: a pod there wants to be left alone by such pods.
    #[error("another pod's anti-affinity keeps it out of {topology_key}={value}")]
    OthersAntiAffinity {
        /// The node label that makes places.
        topology_key: String,
        /// The node's place.
        value: String,
    },
}
