//! The real cluster.

use super::{
    cluster::{Cluster, ClusterError, Heartbeat, InTheWay},
    heartbeat::{Verdict, judge},
    merge_patch::merge_patch,
    record,
};
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use miyako_api::{
    control_plane,
    names::{kubernetes::MIRROR_POD, kubevirt, manager},
    node_power::{AgentStatus, NodePower},
};
use serde_json::json;
use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::timeout;

/// How long the API server may take to answer. Short: right after a sleep the network card may still be negotiating,
/// and the next try is what gets through.
const LONGEST_ANSWER: Duration = Duration::from_secs(3);

/// Makes a client with connections of its own.
pub type Connect = Box<dyn Fn() -> kube::Result<Client> + Send + Sync>;

/// The API server, spoken to for one node.
pub struct KubeCluster {
    node: String,
    connect: Connect,
    client: Mutex<Client>,
}

impl KubeCluster {
    /// The cluster as seen from `node`.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(node: impl Into<String>, connect: Connect) -> kube::Result<Self> {
        let client = Mutex::new(connect()?);
        Ok(Self { node: node.into(), connect, client })
    }

    /// A client whose connections were made since the last sleep.
    pub(super) fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The name of its node.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    async fn pods(&self) -> Result<Vec<Pod>, ClusterError> {
        // Without a version the API server answers from its storage, not from its cache.
        let here = ListParams::default().fields(&format!("spec.nodeName={}", self.node));
        let pods: Api<Pod> = Api::all(self.client());
        Ok(ask("list the node's pods", pods.list(&here)).await?.items)
    }
}

async fn ask<T>(
    what: &'static str,
    request: impl Future<Output = Result<T, kube::Error>> + Send,
) -> Result<T, ClusterError> {
    match timeout(LONGEST_ANSWER, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(ClusterError::Conflict { what }),
        Ok(Err(source)) => Err(ClusterError::Kube { what, source: Box::new(source) }),
        Err(_) => Err(ClusterError::TimedOut { what, limit: LONGEST_ANSWER }),
    }
}

fn writer() -> PatchParams {
    PatchParams { field_manager: Some(manager::AGENT.into()), ..PatchParams::default() }
}

impl Cluster for KubeCluster {
    async fn node_power(&self) -> Result<Option<NodePower>, ClusterError> {
        let powers: Api<NodePower> = Api::all(self.client());
        ask("read the NodePower", powers.get_opt(&self.node)).await
    }

    async fn in_the_way(&self) -> Result<InTheWay, ClusterError> {
        let nodes: Api<Node> = Api::all(self.client());
        let (node, pods) = tokio::try_join!(ask("read the node", nodes.get(&self.node)), self.pods())?;
        Ok(InTheWay {
            control_plane: control_plane_by(&node, &pods),
            pods: pods.iter().filter(|pod| is_in_the_way(pod)).map(name_of).collect(),
        })
    }

    async fn report(&self, seen: &NodePower, agent: &AgentStatus) -> Result<NodePower, ClusterError> {
        let before = seen.status.as_ref().and_then(|status| status.agent.as_ref());
        let patch = json!({
            "metadata": { "uid": seen.metadata.uid, "resourceVersion": seen.metadata.resource_version },
            "status": { "agent": merge_patch(&json!(before), &json!(agent)) },
        });
        let powers: Api<NodePower> = Api::all(self.client());
        ask("write status.agent", powers.patch_status(&self.node, &writer(), &Patch::Merge(&patch))).await
    }

    async fn renew_heartbeat(&self, now: i64) -> Result<Heartbeat, ClusterError> {
        let nodes: Api<Node> = Api::all(self.client());
        let (node, pods) = tokio::try_join!(ask("read the node", nodes.get(&self.node)), self.pods())?;
        match judge(&node, &pods) {
            Verdict::NoKubeVirt => Ok(Heartbeat::NoKubeVirt),
            Verdict::NotYet(why) => Ok(Heartbeat::NotYet(why)),
            Verdict::Renew => {
                // At its version: virt-handler's own word, should it come right now, is worth more.
                let patch = json!({ "metadata": {
                    "resourceVersion": node.metadata.resource_version,
                    "labels": { kubevirt::SCHEDULABLE: "true" },
                    "annotations": { kubevirt::HEARTBEAT: as_virt_handler_writes_it(now) },
                }});
                ask("renew KubeVirt's heartbeat", nodes.patch(&self.node, &writer(), &Patch::Merge(&patch))).await?;
                Ok(Heartbeat::Fresh)
            }
        }
    }

    fn reconnect(&self) {
        match (self.connect)() {
            Ok(client) => *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client,
            // The old one will find out by itself that its connections are dead.
            Err(error) => tracing::warn!(%error, "could not make a new client after the sleep"),
        }
    }
}

/// `metav1.Time` as Go marshals it: RFC 3339 in UTC, whole seconds.
fn as_virt_handler_writes_it(now: i64) -> Option<Time> {
    record::to_api(now - now.rem_euclid(1000))
}

fn name_of(pod: &Pod) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", text(&pod.metadata.namespace), text(&pod.metadata.name))
}

fn is_static(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR_POD))
}

/// By what the node belongs to the control plane: its labels, its taints, or what its kubelet starts from files. A
/// finished pod of etcd is one that is being started again.
fn control_plane_by(node: &Node, pods: &[Pod]) -> Option<String> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let labels = node.metadata.labels.iter().flatten();
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let by_label =
        labels.filter(|(key, value)| control_plane::is_role(key, value)).map(|(key, _)| format!("label {key}"));
    let by_taint =
        taints.filter(|taint| control_plane::is_role(&taint.key, "")).map(|taint| format!("taint {}", taint.key));
    let parts = pods.iter().filter(|pod| is_static(pod)).filter(|pod| {
        control_plane::is_static_pod(control_plane::manifest(pod.metadata.name.as_deref().unwrap_or_default(), name))
    });
    by_label.chain(by_taint).chain(parts.map(|pod| format!("static pod {}", name_of(pod)))).next()
}

fn is_in_the_way(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let finished = matches!(phase, Some("Succeeded" | "Failed"));
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let daemon = owners.iter().any(|owner| owner.controller == Some(true) && owner.kind == "DaemonSet");
    !finished && !is_static(pod) && !daemon
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    fn owned_by(kind: &str) -> serde_json::Value {
        json!([{ "apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": "1", "controller": true }])
    }

    #[test]
    fn pods_that_belong_to_the_node_alone_are_not_in_the_way() {
        let cases = [
            (json!({ "metadata": { "name": "web" } }), true),
            (json!({ "metadata": { "name": "web", "ownerReferences": owned_by("ReplicaSet") } }), true),
            (
                json!({ "metadata": { "name": "virt-launcher-a", "ownerReferences": owned_by("VirtualMachineInstance") } }),
                true,
            ),
            (json!({ "metadata": { "name": "proxy", "ownerReferences": owned_by("DaemonSet") } }), false),
            (json!({ "metadata": { "name": "nginx", "annotations": { MIRROR_POD: "1" } } }), false),
            (json!({ "metadata": { "name": "job" }, "status": { "phase": "Succeeded" } }), false),
            (json!({ "metadata": { "name": "job" }, "status": { "phase": "Failed" } }), false),
            (json!({ "metadata": { "name": "job" }, "status": { "phase": "Pending" } }), true),
        ];
        for (value, expected) in cases {
            assert_eq!(is_in_the_way(&pod(value.clone())), expected, "{value}");
        }
    }

    #[test]
    fn a_machine_of_the_control_plane_is_known_by_any_of_its_signs() {
        let node = |labels: serde_json::Value, taints: serde_json::Value| -> Node {
            let node = json!({ "metadata": { "name": "n1", "labels": labels }, "spec": { "taints": taints } });
            serde_json::from_value(node).unwrap()
        };
        let mirror = |name: &str, annotations: serde_json::Value| {
            pod(json!({ "metadata": { "namespace": "kube-system", "name": name, "annotations": annotations } }))
        };
        let from_file = json!({ MIRROR_POD: "1" });
        let by = |node: &Node, pods: &[Pod]| control_plane_by(node, pods);
        let worker = node(json!({ "node-role.kubernetes.io/worker": "true" }), json!([]));
        assert_eq!(by(&worker, &[]), None);
        let etcd = node(json!({ "node-role.kubernetes.io/etcd": "true" }), json!([]));
        assert_eq!(by(&etcd, &[]).as_deref(), Some("label node-role.kubernetes.io/etcd"));
        let master = node(json!({}), json!([{ "key": "node-role.kubernetes.io/master", "effect": "NoSchedule" }]));
        assert_eq!(by(&master, &[]).as_deref(), Some("taint node-role.kubernetes.io/master"));
        for part in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
            let name = format!("{part}-n1");
            let found = by(&worker, &[mirror("nginx-proxy-n1", from_file.clone()), mirror(&name, from_file.clone())]);
            assert_eq!(found, Some(format!("static pod kube-system/{name}")));
        }
        // One that a person named so is an ordinary pod, which is in the way as such.
        assert_eq!(by(&worker, &[mirror("etcd-n1", json!({}))]), None);
    }

    #[test]
    fn the_heartbeat_looks_like_virt_handlers() {
        assert_eq!(json!(as_virt_handler_writes_it(1_800_000_000_999)), json!("2027-01-15T08:00:00Z"));
    }
}
