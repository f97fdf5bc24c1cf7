//! KubeVirt (`kubevirt.io/v1`): the installation itself.

use super::{KubeVirtCondition, tolerant};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `spec` of the KubeVirt CR.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "KubeVirt",
    plural = "kubevirts",
    shortname = "kv",
    namespaced,
    schema = "disabled",
    status = "KubeVirtStatus",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeVirtSpec {
    /// Its settings.
    #[serde(deserialize_with = "tolerant::or_default")]
    pub configuration: KubeVirtConfiguration,
}

/// Settings of KubeVirt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeVirtConfiguration {
    /// Defaults of migrations.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub migrations: Option<MigrationConfiguration>,
    /// Feature gates and allocation ratios.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub developer_configuration: Option<DeveloperConfiguration>,
    /// What an eviction does to VMs that do not say so themselves.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub eviction_strategy: Option<String>,
}

/// Settings of migrations: cluster-wide in the KubeVirt CR, as applied in a VMI's `migrationState`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationConfiguration {
    /// Migrations at once in the cluster; KubeVirt's default is 5.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub parallel_migrations_per_cluster: Option<u32>,
    /// Migrations at once out of one node; KubeVirt's default is 2.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub parallel_outbound_migrations_per_node: Option<u32>,
    /// Bytes per second; absent or 0 is unlimited.
    #[serde(deserialize_with = "tolerant::quantity", skip_serializing_if = "Option::is_none")]
    pub bandwidth_per_migration: Option<Quantity>,
    /// Seconds per GiB; KubeVirt's default is 150.
    #[serde(
        rename = "completionTimeoutPerGiB",
        deserialize_with = "tolerant::or_default",
        skip_serializing_if = "Option::is_none"
    )]
    pub completion_timeout_per_gib: Option<i64>,
    /// Seconds without progress until a migration is aborted; KubeVirt's default is 150.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub progress_timeout: Option<i64>,
    /// Allows the switch to post-copy.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub allow_post_copy: Option<bool>,
    /// Slows the guest down until pre-copy converges.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub allow_auto_converge: Option<bool>,
    /// Allows post-copy or a pause when time is up.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub allow_workload_disruption: Option<bool>,
    /// The longest downtime of pre-copy, in milliseconds.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub max_downtime_ms: Option<i64>,
    /// Migrates without TLS.
    #[serde(rename = "disableTLS", deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub disable_tls: Option<bool>,
    /// A network of migrations' own.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The taint that evacuates a node; KubeVirt's default is `kubevirt.io/drain`.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub node_drain_taint_key: Option<String>,
}

/// Feature gates and allocation ratios.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeveloperConfiguration {
    /// Gates that are open.
    #[serde(deserialize_with = "tolerant::list", skip_serializing_if = "Vec::is_empty")]
    pub feature_gates: Vec<String>,
    /// vCPUs per CPU requested; KubeVirt's default is 10.
    #[serde(
        rename = "cpuAllocationRatio",
        deserialize_with = "tolerant::or_default",
        skip_serializing_if = "Option::is_none"
    )]
    pub cpu_allocation_ratio: Option<u32>,
    /// Node labels that every launcher asks for, besides its VM's own.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selectors: BTreeMap<String, String>,
}

/// `status` of the KubeVirt CR.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeVirtStatus {
    /// `Deploying`, `Deployed`, `Deleting`, `Deleted`.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The version that runs.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub observed_kube_virt_version: Option<String>,
    /// The version that is being installed.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub target_kube_virt_version: Option<String>,
    /// VMs whose launcher is of an older version.
    #[serde(deserialize_with = "tolerant::or_default", skip_serializing_if = "Option::is_none")]
    pub outdated_virtual_machine_instance_workloads: Option<i64>,
    /// `Available`, `Progressing`, `Degraded`.
    #[serde(deserialize_with = "tolerant::list", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<KubeVirtCondition>,
}
