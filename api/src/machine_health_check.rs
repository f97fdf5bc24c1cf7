//! MachineHealthChecks and the Machines that they select, as far as we look at them: OpenShift's Machine API
//! (`machine.openshift.io/v1beta1`) and Cluster API (`cluster.x-k8s.io/v1beta1` and `v1beta2`; a cluster serves one of them
//! or both). They replace the machine of a node that does not answer, and sleeping nodes do not. A cluster may do without.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// A condition of a node that makes its machine be replaced.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnhealthyCondition {
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// Its status.
    pub status: String,
}

/// What `v1beta2` gathers in `spec.checks`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Checks {
    /// What makes a node's machine be replaced.
    pub unhealthy_node_conditions: Vec<UnhealthyCondition>,
}

/// Which node a machine is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineStatus {
    /// Its node; none before it has joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_ref: Option<NodeRef>,
}

/// A reference to a Node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRef {
    /// Its name.
    pub name: String,
}

/// OpenShift's MachineHealthCheck.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "machine.openshift.io",
    version = "v1beta1",
    kind = "MachineHealthCheck",
    plural = "machinehealthchecks",
    root = "OpenShiftMachineHealthCheck",
    namespaced,
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct OpenShiftMachineHealthCheckSpec {
    /// The machines that it watches, by their labels.
    pub selector: LabelSelector,
    /// What makes a node's machine be replaced.
    pub unhealthy_conditions: Vec<UnhealthyCondition>,
}

/// OpenShift's Machine.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "machine.openshift.io",
    version = "v1beta1",
    kind = "Machine",
    plural = "machines",
    root = "OpenShiftMachine",
    status = "MachineStatus",
    namespaced,
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct OpenShiftMachineSpec {}

/// Cluster API's MachineHealthCheck.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "cluster.x-k8s.io",
    version = "v1beta2",
    kind = "MachineHealthCheck",
    plural = "machinehealthchecks",
    root = "ClusterApiMachineHealthCheck",
    namespaced,
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterApiMachineHealthCheckSpec {
    /// The machines that it watches, by their labels.
    pub selector: LabelSelector,
    /// The cluster whose machines it watches.
    pub cluster_name: String,
    /// What makes a node's machine be replaced.
    pub checks: Checks,
}

/// Cluster API's Machine.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "cluster.x-k8s.io",
    version = "v1beta2",
    kind = "Machine",
    plural = "machines",
    root = "ClusterApiMachine",
    status = "MachineStatus",
    namespaced,
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterApiMachineSpec {
    /// The cluster that it belongs to.
    pub cluster_name: String,
}

/// Cluster API's MachineHealthCheck before v1.11.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "cluster.x-k8s.io",
    version = "v1beta1",
    kind = "MachineHealthCheck",
    plural = "machinehealthchecks",
    root = "OldClusterApiMachineHealthCheck",
    namespaced,
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct OldClusterApiMachineHealthCheckSpec {
    /// The machines that it watches, by their labels.
    pub selector: LabelSelector,
    /// The cluster whose machines it watches.
    pub cluster_name: String,
    /// What makes a node's machine be replaced.
    pub unhealthy_conditions: Vec<UnhealthyCondition>,
}

/// Cluster API's Machine before v1.11.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "cluster.x-k8s.io",
    version = "v1beta1",
    kind = "Machine",
    plural = "machines",
    root = "OldClusterApiMachine",
    status = "MachineStatus",
    namespaced,
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct OldClusterApiMachineSpec {
    /// The cluster that it belongs to.
    pub cluster_name: String,
}
