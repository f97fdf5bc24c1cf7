//! VirtualMachine (`kubevirt.io/v1`): what keeps a VirtualMachineInstance alive. We read its metadata (people's marks)
//! and tell it Events, since VMIs vanish.

use super::tolerant;
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `spec` of a VirtualMachine, of which only the metadata of the object is read.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachine",
    plural = "virtualmachines",
    shortname = "vm",
    namespaced,
    schema = "disabled",
    status = "VirtualMachineStatus",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineSpec {
    /// `Always`, `Halted`, `Manual`, `RerunOnFailure`, `Once`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_strategy: Option<String>,
}

/// `status` of a VirtualMachine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineStatus {
    /// `Running`, `Migrating`, `Stopped`, ….
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub printable_status: Option<String>,
    /// A snapshot that runs.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub snapshot_in_progress: Option<String>,
    /// A restore that runs.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub restore_in_progress: Option<String>,
    /// A memory dump that runs or is kept; only its presence and phase matter.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub memory_dump_request: Option<Value>,
}
