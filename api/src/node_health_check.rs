//! NodeHealthCheck (`remediation.medik8s.io/v1alpha1`), as far as we look at it: it repairs nodes that do not answer, and
//! sleeping nodes do not. A cluster may do without it.

use k8s_openapi::apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString};
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// Which nodes it watches, and when it repairs them.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "remediation.medik8s.io",
    version = "v1alpha1",
    kind = "NodeHealthCheck",
    plural = "nodehealthchecks",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeHealthCheckSpec {
    /// The nodes that it watches; an empty one watches all.
    pub selector: LabelSelector,
    /// It repairs while at least so many of them, or so large a share, are healthy; 51 % by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_healthy: Option<IntOrString>,
    /// It repairs while at most so many of them, or so large a share, are not; instead of `minHealthy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unhealthy: Option<IntOrString>,
}
