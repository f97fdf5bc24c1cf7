//! MigrationPolicy (`migrations.kubevirt.io/v1alpha1`): how the VMs it matches migrate.

use super::tolerant;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// `spec` of a MigrationPolicy. Of several that match one replaces the others; they are never merged.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "migrations.kubevirt.io",
    version = "v1alpha1",
    kind = "MigrationPolicy",
    plural = "migrationpolicies",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationPolicySpec {
    /// Which VMs.
    pub selectors: Selectors,
    /// Slows the guest down until pre-copy converges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_auto_converge: Option<bool>,
    /// Bytes per second; 0 is unlimited.
    #[serde(deserialize_with = "tolerant::quantity", skip_serializing_if = "Option::is_none")]
    pub bandwidth_per_migration: Option<Quantity>,
    /// Seconds per GiB after which a migration is aborted, or switches to post-copy where that is allowed.
    #[serde(rename = "completionTimeoutPerGiB", skip_serializing_if = "Option::is_none")]
    pub completion_timeout_per_gib: Option<i64>,
    /// Allows the switch to post-copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_post_copy: Option<bool>,
    /// Allows post-copy or a pause of the VM when time is up; follows `allowPostCopy` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_workload_disruption: Option<bool>,
    /// The longest downtime of the last round of pre-copy, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_downtime_ms: Option<i64>,
    /// Fields that are not known here: in a policy of ours they are somebody else's.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// Which VMs a MigrationPolicy matches: those with all of these labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Selectors {
    /// Labels of the VM's namespace.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_selector: BTreeMap<String, String>,
    /// Labels of the VMI.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub virtual_machine_instance_selector: BTreeMap<String, String>,
    /// Fields that are not known here.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}
