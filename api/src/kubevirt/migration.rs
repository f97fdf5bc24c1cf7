//! VirtualMachineInstanceMigration (`kubevirt.io/v1`): the request to move one VM.

use super::{KubeVirtCondition, MigrationState, tolerant};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `spec` of a VirtualMachineInstanceMigration. Immutable; deleting the object aborts the migration.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachineInstanceMigration",
    plural = "virtualmachineinstancemigrations",
    shortname = "vmim",
    namespaced,
    schema = "disabled",
    status = "VirtualMachineInstanceMigrationStatus",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineInstanceMigrationSpec {
    /// The VMI, in the same namespace.
    pub vmi_name: String,
    /// Node labels that the target must bear besides the VM's own selector, whose keys win.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub added_node_selector: BTreeMap<String, String>,
    /// Only virt-controller may set it (`system-critical`, `user-triggered`, `system-maintenance`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
}

/// `status` of a VirtualMachineInstanceMigration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineInstanceMigrationStatus {
    /// Unset, `Pending`, `Scheduling`, `Scheduled`, `PreparingTarget`, `TargetReady`, `Running`, `Succeeded`, `Failed`.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// When it entered each phase.
    #[serde(deserialize_with = "tolerant::list", skip_serializing_if = "Vec::is_empty")]
    pub phase_transition_timestamps: Vec<PhaseTransition>,
    /// The migration itself.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub migration_state: Option<MigrationState>,
    /// Its conditions, e.g. `migrationAbortRequested`, `migrationRejectedByResourceQuota`.
    #[serde(deserialize_with = "tolerant::list", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<KubeVirtCondition>,
}

/// When an object entered a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseTransition {
    /// The phase.
    pub phase: String,
    /// When.
    pub phase_transition_timestamp: Time,
}
