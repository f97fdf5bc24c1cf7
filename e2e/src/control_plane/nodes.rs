//! Nodes that take VMs, kept alive by kwok.

use super::servers::SILENT_KUBELET;
use crate::wait::{Look, until};
use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// On everything that belongs to one scenario (label): its name.
pub const SCENARIO: &str = "e2e.miyako.dev/scenario";

/// How long a change of a node's state may take: the controller manager's grace is 50 s.
const AT_MOST: Duration = Duration::from_mins(2);

/// A node to be.
#[derive(Debug, Clone)]
pub struct NewNode {
    name: String,
    cpus: u32,
    memory: String,
    pods: u32,
    labels: BTreeMap<String, String>,
    taints: Vec<Value>,
}

impl NewNode {
    /// A node as KubeVirt's node labeller leaves it: 16 CPUs, 64 GiB, KVM, an Intel CPU model, the `q35` machine.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let labels = [
            ("kubernetes.io/hostname", name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", "amd64"),
            ("topology.kubernetes.io/zone", "zone-a"),
            ("kubevirt.io/schedulable", "true"),
            ("cpu-vendor.node.kubevirt.io/Intel", "true"),
            ("cpu-model.node.kubevirt.io/Haswell", "true"),
            ("cpu-model-migration.node.kubevirt.io/Haswell", "true"),
            ("host-model-cpu.node.kubevirt.io/Haswell", "true"),
            ("machine-type.node.kubevirt.io/q35", "true"),
            ("machine-type.node.kubevirt.io/pc-q35-rhel9.6.0", "true"),
        ];
        let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Self { name, cpus: 16, memory: "64Gi".to_owned(), pods: 110, labels, taints: Vec::new() }
    }

    /// Its CPUs.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Its memory, as a Kubernetes quantity.
    #[must_use]
    pub fn memory(mut self, memory: impl Into<String>) -> Self {
        self.memory = memory.into();
        self
    }

    /// How many pods it takes.
    #[must_use]
    pub fn pods(mut self, pods: u32) -> Self {
        self.pods = pods;
        self
    }

    /// One more label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// One more taint.
    #[must_use]
    pub fn taint(mut self, key: &str, value: &str, effect: &str) -> Self {
        self.taints.push(json!({ "key": key, "value": value, "effect": effect }));
        self
    }

    fn object(&self) -> Value {
        let resources = json!({
            "cpu": self.cpus.to_string(),
            "memory": self.memory,
            "pods": self.pods.to_string(),
            "ephemeral-storage": "100Gi",
            "devices.kubevirt.io/kvm": "1k",
            "devices.kubevirt.io/tun": "1k",
            "devices.kubevirt.io/vhost-net": "1k",
        });
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": self.name, "labels": self.labels },
            "spec": { "taints": self.taints },
            "status": { "capacity": resources, "allocatable": resources },
        })
    }
}

/// Adds nodes to the cluster and waits until all of them are Ready and untainted by Kubernetes.
///
/// # Errors
/// When one exists already or does not become Ready.
pub async fn add(client: &Client, scenario: &str, nodes: &[NewNode]) -> anyhow::Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    for node in nodes {
        let node = node.clone().label(SCENARIO, scenario);
        let object: Node = serde_json::from_value(node.object())?;
        api.create(&PostParams::default(), &object).await.with_context(|| format!("adding node {}", node.name))?;
    }
    for node in nodes {
        wait_ready(client, &node.name).await?;
    }
    Ok(())
}

/// Silences a node's kubelet, as suspend does: its lease lapses and Kubernetes comes to call it unreachable.
///
/// # Errors
/// When the node is gone.
pub async fn silence(client: &Client, node: &str) -> anyhow::Result<()> {
    set_silent(client, node, json!("true")).await
}

/// Lets a silenced node's kubelet speak again, and waits until the node is Ready and says of its pods what is true.
///
/// # Errors
/// When the node is gone or does not become Ready.
pub async fn wake(client: &Client, node: &str) -> anyhow::Result<()> {
    set_silent(client, node, Value::Null).await?;
    wait_ready(client, node).await?;
    tell_pods_ready(client, node).await
}

/// Says again that the running pods of a node are ready: the node lifecycle controller said that they were not when the
/// node fell silent, and a kubelet that is back says so, but kwok says it of each pod only once.
async fn tell_pods_ready(client: &Client, node: &str) -> anyhow::Result<()> {
    let everywhere: Api<Pod> = Api::all(client.clone());
    let here = ListParams::default().fields(&format!("spec.nodeName={node},status.phase=Running"));
    let ready = ["Ready", "ContainersReady"].map(|kind| json!({ "type": kind, "status": "True" }));
    let patch = Patch::Strategic(json!({ "status": { "conditions": ready } }));
    for pod in everywhere.list(&here).await? {
        if pod.metadata.deletion_timestamp.is_some() || pod_ready(&pod) {
            continue;
        }
        let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        match pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await {
            // Nobody's kubelet keeps a pod that was deleted meanwhile.
            Err(error) if miyako_api::answer::is_absent(&error) => {}
            told => drop(told.with_context(|| format!("the pod {} on {node}", pod.name_any()))?),
        }
    }
    Ok(())
}

fn pod_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

async fn set_silent(client: &Client, node: &str, value: Value) -> anyhow::Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let patch = json!({ "metadata": { "labels": { SILENT_KUBELET: value } } });
    api.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await.with_context(|| format!("node {node}"))?;
    Ok(())
}

/// Waits until a node is Ready and carries no taint of the node lifecycle controller.
///
/// # Errors
/// When that takes too long.
pub async fn wait_ready(client: &Client, node: &str) -> anyhow::Result<()> {
    wait_for(client, node, "is Ready", |object| ready(object) == Some("True") && !kubernetes_taints(object)).await
}

/// Waits until Kubernetes has noticed that a node's kubelet is silent.
///
/// # Errors
/// When that takes too long.
pub async fn wait_unreachable(client: &Client, node: &str) -> anyhow::Result<()> {
    wait_for(client, node, "is unreachable", |object| ready(object) == Some("Unknown") && kubernetes_taints(object))
        .await
}

async fn wait_for(client: &Client, node: &str, what: &str, holds: fn(&Node) -> bool) -> anyhow::Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    until(&format!("node {node} {what}"), AT_MOST, || async {
        let object = api.get(node).await?;
        let taints = object.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        Ok(Look::holds(holds(&object), format!("Ready={:?}, taints {taints:?}", ready(&object))))
    })
    .await
}

fn ready(node: &Node) -> Option<&str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready").map(|condition| condition.status.as_str())
}

fn kubernetes_taints(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.is_some_and(|taints| taints.iter().any(|taint| taint.key.starts_with("node.kubernetes.io/")))
}
