//! The status of a VirtualMachineInstance: where it runs, whether it can migrate, and its newest migration.

use super::{MigrationConfiguration, PhaseTransition, tolerant};
use k8s_openapi::apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

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
