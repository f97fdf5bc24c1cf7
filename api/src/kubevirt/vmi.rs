//! VirtualMachineInstance (`kubevirt.io/v1`): one running VM.

use super::{VirtualMachineInstanceStatus, tolerant};
use k8s_openapi::{
    api::core::v1::{Affinity, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// `spec` of a VirtualMachineInstance.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachineInstance",
    plural = "virtualmachineinstances",
    shortname = "vmi",
    namespaced,
    schema = "disabled",
    status = "VirtualMachineInstanceStatus",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineInstanceSpec {
    /// The machine.
    pub domain: Domain,
    /// Its volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Node labels the VM asks for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// What an eviction does: `None`, `LiveMigrate`, `LiveMigrateIfPossible`, `External`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eviction_strategy: Option<String>,
    /// Its affinities, copied to its launcher pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Its tolerations, copied to its launcher pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Its spread constraints, copied to its launcher pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Its CPU architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The scheduler of its launcher pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// The priority class of its launcher pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// `Paused` starts it paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_strategy: Option<String>,
    /// Devices by dynamic resource allocation; we do not model them, so only their presence matters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_claims: Vec<Value>,
}

/// The machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Domain {
    /// Its processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Its memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Resources its launcher pod asks for.
    pub resources: Resources,
    /// Its devices.
    pub devices: Devices,
    /// Confidential computing (SEV, TDX, …), which KubeVirt can't migrate; only its presence matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_security: Option<Value>,
}

/// The processor of a VM.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    /// Cores per socket; absent means 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Sockets; absent means 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u32>,
    /// Threads per core; absent means 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Pins each vCPU to a core of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedicated_cpu_placement: Option<bool>,
    /// One more dedicated core for the emulator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolate_emulator_thread: Option<bool>,
    /// `host-model`, `host-passthrough`, or a model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Features asked for or forbidden.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<CpuFeature>,
    /// NUMA passthrough; only its presence matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa: Option<Value>,
    /// Real-time scheduling; only its presence matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime: Option<Value>,
}

impl Cpu {
    /// The number of virtual CPUs: sockets × cores × threads, each 1 where absent.
    #[must_use]
    pub fn vcpus(&self) -> u32 {
        let part = |part: Option<u32>| part.unwrap_or(1).max(1);
        part(self.sockets).saturating_mul(part(self.cores)).saturating_mul(part(self.threads))
    }
}

/// A CPU feature.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuFeature {
    /// Its name.
    pub name: String,
    /// `require` (default), `force`, `optional`, `disable` or `forbid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// The memory of a VM.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// What the guest sees.
    #[serde(deserialize_with = "tolerant::quantity", skip_serializing_if = "Option::is_none")]
    pub guest: Option<Quantity>,
    /// The most the guest may grow to.
    #[serde(deserialize_with = "tolerant::quantity", skip_serializing_if = "Option::is_none")]
    pub max_guest: Option<Quantity>,
    /// Backed by huge pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hugepages: Option<Hugepages>,
}

/// Huge pages of a VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hugepages {
    /// Their size, for example `2Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_size: Option<String>,
}

/// Resources of a VM's launcher pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// Asked for.
    #[serde(deserialize_with = "tolerant::quantities", skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
    /// At most.
    #[serde(deserialize_with = "tolerant::quantities", skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
    /// QEMU's own memory is left out of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overcommit_guest_overhead: Option<bool>,
}

/// Devices of a VM.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Devices {
    /// PCI and mediated devices of the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_devices: Vec<Device>,
    /// GPUs of the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Device>,
    /// Network interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Shared file systems (virtiofs); only their presence matters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filesystems: Vec<Value>,
    /// USB devices of a client; only its presence matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_passthrough: Option<Value>,
}

/// A device of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    /// Its name within the VM.
    pub name: String,
    /// The device plugin's resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name within the VM.
    pub name: String,
    /// Present when it is a virtual function of the host's card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sriov: Option<Value>,
}

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// Its name within the VM.
    pub name: String,
    /// A PersistentVolumeClaim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimRef>,
    /// A DataVolume, whose claim bears its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_volume: Option<ClaimRef>,
    /// A copy-on-write layer over a claim, kept on the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<Value>,
    /// An image from a registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_disk: Option<Value>,
    /// A file of the node: not migratable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_disk: Option<Value>,
    /// An empty disk of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_disk: Option<Value>,
    /// A memory dump in progress, or kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_dump: Option<ClaimRef>,
}

impl Volume {
    /// The PersistentVolumeClaim behind it, if there is one.
    #[must_use]
    pub fn claim(&self) -> Option<&str> {
        [&self.persistent_volume_claim, &self.data_volume, &self.memory_dump]
            .into_iter()
            .flatten()
            .map(ClaimRef::claim)
            .find(|claim| !claim.is_empty())
    }

    /// It was plugged into the running VM.
    #[must_use]
    pub fn is_hotplugged(&self) -> bool {
        [&self.persistent_volume_claim, &self.data_volume].into_iter().flatten().any(|claim| claim.hotpluggable)
    }
}

/// A claim behind a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimRef {
    /// The claim, of a claim's volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim_name: Option<String>,
    /// The DataVolume, of a DataVolume's volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// It was plugged into the running VM.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hotpluggable: bool,
}

impl ClaimRef {
    fn claim(&self) -> &str {
        self.claim_name.as_deref().or(self.name.as_deref()).unwrap_or_default()
    }
}
