//! VirtualMachineInstance (`kubevirt.io/v1`): one running VM.

use super::{MigrationConfiguration, PhaseTransition, tolerant};
use k8s_openapi::{
    api::core::v1::{Affinity, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
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

/// `status` of a VirtualMachineInstance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineInstanceStatus {
    /// `Pending`, `Scheduling`, `Scheduled`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The node it runs on.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Its conditions, e.g. `LiveMigratable`.
    #[serde(deserialize_with = "tolerant::list", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<KubeVirtCondition>,
    /// Its newest migration; outlives the VirtualMachineInstanceMigration.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub migration_state: Option<MigrationState>,
    /// The node it is being evacuated from.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub evacuation_node_name: Option<String>,
    /// Its launcher pods that are alive: uid to node. More than one while a migration ends.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub active_pods: BTreeMap<String, String>,
    /// `LiveMigration` or `BlockMigration`.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub migration_method: Option<String>,
    /// `Unix` where migrations go through virt-handler's sockets.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub migration_transport: Option<String>,
    /// Its volumes as they are.
    #[serde(deserialize_with = "tolerant::list", skip_serializing_if = "Vec::is_empty")]
    pub volume_status: Vec<VolumeStatus>,
    /// Volumes being moved to other claims.
    #[serde(deserialize_with = "tolerant::list", skip_serializing_if = "Vec::is_empty")]
    pub migrated_volumes: Vec<MigratedVolume>,
    /// Its launcher's image; differs from KubeVirt's while an upgrade is under way.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub launcher_container_image_version: Option<String>,
    /// Its SELinux context; migrations stay pending while it is unset.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub selinux_context: Option<String>,
    /// Its memory as it is, after hot-plugging.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStatus>,
    /// Its processor as it is, after hot-plugging.
    #[serde(
        rename = "currentCPUTopology",
        deserialize_with = "tolerant::or_default",
        skip_serializing_if = "Option::is_none"
    )]
    pub current_cpu_topology: Option<CpuTopology>,
    /// `frozen` while its file systems are.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub fs_freeze_status: Option<String>,
    /// A backup by changed blocks; only the presence of `backupStatus` within matters.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub changed_block_tracking: Option<Value>,
    /// `Guaranteed`, `Burstable`, `BestEffort`.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub qos_class: Option<String>,
    /// When it entered each phase.
    #[serde(deserialize_with = "tolerant::list", skip_serializing_if = "Vec::is_empty")]
    pub phase_transition_timestamps: Vec<PhaseTransition>,
}

impl VirtualMachineInstanceStatus {
    /// The condition of a type.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&KubeVirtCondition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

/// A condition as KubeVirt writes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeVirtCondition {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    #[serde(default)]
    pub status: String,
    /// Why, as a name.
    #[serde(default, deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, as a sentence.
    #[serde(default, deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Since when.
    #[serde(default, deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// When it was looked at; KubeVirt may write null.
    #[serde(default, deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<Time>,
}

impl KubeVirtCondition {
    /// It holds.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }

    /// It is known not to hold.
    #[must_use]
    pub fn is_false(&self) -> bool {
        self.status == "False"
    }
}

/// One migration, as both the VMI and the VirtualMachineInstanceMigration tell it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationState {
    /// The VirtualMachineInstanceMigration's uid.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub migration_uid: Option<String>,
    /// From where.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub source_node: Option<String>,
    /// To where.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub target_node: Option<String>,
    /// The launcher pod it leaves.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub source_pod: Option<String>,
    /// The launcher pod it goes to.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub target_pod: Option<String>,
    /// When memory began to move.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub start_timestamp: Option<Time>,
    /// When it was over.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub end_timestamp: Option<Time>,
    /// It is over, well or not.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "std::ops::Not::not")]
    pub completed: bool,
    /// It failed or was aborted.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// Someone asked to abort it.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "std::ops::Not::not")]
    pub abort_requested: bool,
    /// `Aborting`, `Succeeded`, `Failed`.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub abort_status: Option<String>,
    /// `PreCopy`, `PostCopy`, `Paused`.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Why it failed.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// The MigrationPolicy that was applied.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub migration_policy_name: Option<String>,
    /// The settings that were applied.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub migration_configuration: Option<MigrationConfiguration>,
    /// The target's virt-handler.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub target_node_address: Option<String>,
    /// The target's domain was seen.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "std::ops::Not::not")]
    pub target_node_domain_detected: bool,
    /// When the target's domain was ready.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub target_node_domain_ready_timestamp: Option<Time>,
    /// Ports of the target's virt-handler: port to the port within the launcher.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub target_direct_migration_node_ports: BTreeMap<String, i64>,
}

/// A volume as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeStatus {
    /// The volume's name within the VM.
    pub name: String,
    /// Of a hot-plugged volume: how far it is (`Ready` when plugged in).
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Present when it was hot-plugged.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub hotplug_volume: Option<Value>,
}

/// A volume being moved to another claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigratedVolume {
    /// The volume's name within the VM.
    pub volume_name: String,
}

/// Memory as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryStatus {
    /// When the guest booted.
    #[serde(deserialize_with = "tolerant::quantity", skip_serializing_if = "Option::is_none")]
    pub guest_at_boot: Option<Quantity>,
    /// Now.
    #[serde(deserialize_with = "tolerant::quantity", skip_serializing_if = "Option::is_none")]
    pub guest_current: Option<Quantity>,
    /// Asked for by a hot-plug.
    #[serde(deserialize_with = "tolerant::quantity", skip_serializing_if = "Option::is_none")]
    pub guest_requested: Option<Quantity>,
}

/// Processors as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuTopology {
    /// Cores per socket.
    pub cores: u32,
    /// Sockets.
    pub sockets: u32,
    /// Threads per core.
    pub threads: u32,
}
