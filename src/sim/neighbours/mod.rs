//! Programs of others that act on nodes, as far as they matter to a node that sleeps: each does what the real one would do
//! with the objects that it is given, and tells what it did to nodes. `docs/neighbours.md` says what Miyako makes of each.

mod autoscaler;
mod cluster_api;
mod descheduler;
mod health_checks;
mod karpenter;
mod kured;
mod machine_config;
mod metal3;
mod self_remediation;
mod upgrades;
mod velero;

pub use autoscaler::Autoscaler;
pub use cluster_api::ClusterApi;
pub use descheduler::Descheduler;
pub use health_checks::{MachineHealthChecks, NodeHealthChecks};
pub use karpenter::Karpenter;
pub use kured::Kured;
pub use machine_config::MachineConfigOperator;
pub use metal3::Metal3;
pub use self_remediation::SelfRemediation;
pub use upgrades::SystemUpgrades;
pub use velero::Velero;

use super::apiserver::ApiServer;
use super::cluster::Machines;
use crate::sim::at::text;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

/// What a program of somebody else's sees and may do.
pub struct Scene<'a> {
    /// The API server.
    pub server: &'a ApiServer,
    /// The machines, by their BMCs or from within.
    pub machines: &'a mut Machines,
    /// What is told.
    pub deeds: &'a mut Vec<String>,
    /// The time.
    pub now: Timestamp,
}

/// A program of somebody else's.
pub trait Acts: Send {
    /// Its CustomResourceDefinitions.
    fn definitions(&self) -> Vec<Value> {
        Vec::new()
    }

    /// One second of it.
    fn act<'a>(&'a mut self, scene: Scene<'a>) -> BoxFuture<'a, kube::Result<()>>;
}

impl Scene<'_> {
    fn nodes(&self) -> Vec<Value> {
        self.server.view(|view| view.list("", "nodes", "").cloned().collect())
    }

    fn objects(&self, group: &str, plural: &str) -> Vec<Value> {
        self.server.view(|view| view.list(group, plural, "").cloned().collect())
    }

    /// Pods on a node that no DaemonSet owns and that are not over.
    fn busy(&self, node: &str) -> bool {
        self.server.view(|view| {
            view.list("", "pods", "").any(|pod| {
                let owners = pod.pointer("/metadata/ownerReferences").and_then(Value::as_array);
                let daemon = owners.is_some_and(|owners| owners.iter().any(|owner| owner["kind"] == "DaemonSet"));
                text(pod, "/spec/nodeName") == node && !daemon && !is_over(pod)
            })
        })
    }

    async fn patch_node(&self, actor: &str, node: &str, patch: Value) -> kube::Result<()> {
        let nodes: Api<Node> = Api::all(self.server.client(actor));
        nodes.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    async fn cordon(&self, actor: &str, node: &str, on: bool) -> kube::Result<()> {
        self.patch_node(actor, node, json!({"spec": {"unschedulable": on}})).await
    }

    async fn delete_node(&self, actor: &str, node: &str) -> kube::Result<()> {
        let nodes: Api<Node> = Api::all(self.server.client(actor));
        nodes.delete(node, &DeleteParams::default()).await.map(drop)
    }

    /// Whether a machine sleeps, for what is told.
    fn how(&self, node: &str) -> &'static str {
        if self.machines.is_asleep(node) { "sleeping" } else { "awake" }
    }
}

fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn is_over(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

fn annotated<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"].get(key).and_then(Value::as_str)
}

fn labelled<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"].get(key).and_then(Value::as_str)
}

/// For how many seconds a node has not been ready; none while it is.
fn unready_for(node: &Value, now: Timestamp) -> Option<i64> {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array)?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
    let since: Timestamp = text(ready, "/lastTransitionTime").parse().ok()?;
    (ready["status"] != "True").then(|| now.as_second() - since.as_second())
}

/// Whether a label selector, as Kubernetes writes it, matches an object.
fn selects(selector: &Value, object: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let mut expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    equal.into_iter().all(|(key, value)| labelled(object, key) == value.as_str())
        && expressions.all(|one| {
            let value = labelled(object, text(one, "/key"));
            let listed = one["values"].as_array().is_some_and(|all| all.iter().any(|one| one.as_str() == value));
            match text(one, "/operator") {
                "In" => value.is_some() && listed,
                "NotIn" => value.is_none() || !listed,
                "Exists" => value.is_some(),
                _ => value.is_none(),
            }
        })
}

/// A CustomResourceDefinition of somebody else's that takes whatever it is given.
#[must_use]
pub fn definition(group: &str, scope: &str, version: &str, kind: &str) -> Value {
    let (plural, singular) = (format!("{}s", kind.to_lowercase()), kind.to_lowercase());
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": singular},
            "versions": [{
                "name": version, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}
