//! Nodes as KubeVirt needs them, with the DaemonSet pods that every node has.

use super::daemons::pod_for;
use crate::sim::kubevirt::{self, create::running_pod_status, time};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Namespace, Node, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use miyako_api::names::{kubernetes, kubevirt as names};
use miyako_core::model::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A node to be made.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    /// Its name, which is its host name too.
    pub name: String,
    /// Cores for pods.
    pub cores: u32,
    /// Memory for pods.
    pub memory: Bytes,
    /// Pods at most.
    pub pods: u32,
    /// Its CPU's model.
    pub cpu_model: String,
    /// Its CPU's vendor.
    pub cpu_vendor: String,
    /// More labels, for example its zone or those that a NodePowerClass selects by.
    pub labels: BTreeMap<String, String>,
    /// Its taints, as in `spec.taints`.
    pub taints: Value,
}

impl NodeSpec {
    /// A node with nothing special about it.
    #[must_use]
    pub fn new(name: &str, cores: u32, memory: Bytes) -> Self {
        Self {
            name: name.into(),
            cores,
            memory,
            pods: 110,
            cpu_model: "Haswell".into(),
            cpu_vendor: "Intel".into(),
            labels: BTreeMap::new(),
            taints: json!([]),
        }
    }

    /// The Node, with its status.
    #[must_use]
    pub fn node(&self, now: Timestamp) -> Value {
        let mut labels = BTreeMap::from([
            (kubernetes::HOSTNAME.to_owned(), self.name.clone()),
            ("kubernetes.io/os".to_owned(), "linux".to_owned()),
            ("kubernetes.io/arch".to_owned(), "amd64".to_owned()),
            (names::SCHEDULABLE.to_owned(), "true".to_owned()),
        ]);
        for (prefix, what) in [
            (names::CPU_MODEL_PREFIX, self.cpu_model.as_str()),
            (names::CPU_MODEL_MIGRATION_PREFIX, self.cpu_model.as_str()),
            (names::HOST_MODEL_CPU_PREFIX, self.cpu_model.as_str()),
            (names::CPU_VENDOR_PREFIX, self.cpu_vendor.as_str()),
            (names::MACHINE_TYPE_PREFIX, "q35"),
        ] {
            labels.insert(format!("{prefix}{what}"), "true".into());
        }
        labels.extend(self.labels.clone());
        let resources = json!({
            "cpu": self.cores.to_string(),
            "memory": format!("{}Ki", self.memory.0 / 1024),
            "pods": self.pods.to_string(),
            "ephemeral-storage": "200Gi",
            "devices.kubevirt.io/kvm": "1k",
            "devices.kubevirt.io/tun": "1k",
            "devices.kubevirt.io/vhost-net": "1k",
        });
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.name,
                "labels": labels,
                "annotations": {names::HEARTBEAT: time(now)},
            },
            "spec": {"taints": self.taints},
            "status": {
                "capacity": resources,
                "allocatable": resources,
                "conditions": [ready(true, now)],
                "nodeInfo": {
                    "architecture": "amd64", "operatingSystem": "linux", "bootID": format!("boot-1-of-{}", self.name),
                    "containerRuntimeVersion": "containerd://2.1.0", "kernelVersion": "6.12.0",
                    "kubeProxyVersion": "", "kubeletVersion": "v1.36.3", "machineID": self.name,
                    "osImage": "simulated", "systemUUID": self.name,
                },
            },
        })
    }
}

/// The condition `Ready` of a node.
pub(super) fn ready(ready: bool, now: Timestamp) -> Value {
    let (status, reason, message) = if ready {
        ("True", "KubeletReady", "kubelet is posting ready status")
    } else {
        ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
    };
    json!({
        "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": time(now), "lastTransitionTime": time(now),
    })
}

/// Which taints the pods of a DaemonSet put up with, besides those that the controller adds.
enum Tolerates {
    /// All of them, as network plugins do.
    Everything,
    /// The one that old clusters kept for critical parts, as virt-handler does.
    CriticalAddonsOnly,
}

/// Something that runs on every node.
struct Everywhere {
    namespace: &'static str,
    name: &'static str,
    /// The label of its pods.
    label: (&'static str, &'static str),
    /// What its template says.
    tolerations: Tolerates,
    /// Requests.
    cpu: &'static str,
    memory: &'static str,
}

const EVERYWHERE: [Everywhere; 4] = [
    Everywhere {
        namespace: kubevirt::NAMESPACE,
        name: "virt-handler",
        label: (names::APP, names::HANDLER),
        tolerations: Tolerates::CriticalAddonsOnly,
        cpu: "10m",
        memory: "325Mi",
    },
    Everywhere {
        namespace: "kube-system",
        name: "kube-proxy",
        label: ("k8s-app", "kube-proxy"),
        tolerations: Tolerates::Everything,
        cpu: "100m",
        memory: "64Mi",
    },
    Everywhere {
        namespace: "kube-system",
        name: "cilium",
        label: ("k8s-app", "cilium"),
        tolerations: Tolerates::Everything,
        cpu: "100m",
        memory: "128Mi",
    },
    Everywhere {
        namespace: "monitoring",
        name: "node-exporter",
        label: ("app.kubernetes.io/name", "node-exporter"),
        tolerations: Tolerates::Everything,
        cpu: "100m",
        memory: "48Mi",
    },
];

/// Makes a node and the pods that every node has, all running. Their DaemonSets are made with the first node. The node
/// comes last: the DaemonSet controller finds nothing to do.
///
/// # Errors
/// When the API server refuses any of it.
pub async fn create_node(user: &Client, spec: &NodeSpec, now: Timestamp) -> kube::Result<Node> {
    for everywhere in &EVERYWHERE {
        let set = daemon_set(user, everywhere).await?;
        let mut pod = pod_for(&set, &spec.name);
        pod["spec"]["nodeName"] = json!(spec.name);
        let pods: Api<Pod> = Api::namespaced(user.clone(), everywhere.namespace);
        let pod = pods.create(&PostParams::default(), &parsed(pod)?).await?;
        let status = Patch::Merge(json!({"status": running_pod_status(now)}));
        pods.patch_status(&pod.name_any(), &PatchParams::default(), &status).await?;
    }
    let nodes: Api<Node> = Api::all(user.clone());
    let wanted = spec.node(now);
    let status = Patch::Merge(json!({"status": wanted["status"]}));
    nodes.create(&PostParams::default(), &parsed(wanted)?).await?;
    nodes.patch_status(&spec.name, &PatchParams::default(), &status).await
}

async fn daemon_set(user: &Client, everywhere: &Everywhere) -> kube::Result<DaemonSet> {
    let Everywhere { namespace, name, label, tolerations, cpu, memory } = everywhere;
    let sets: Api<DaemonSet> = Api::namespaced(user.clone(), namespace);
    if let Some(set) = sets.get_opt(name).await? {
        return Ok(set);
    }
    let namespaces: Api<Namespace> = Api::all(user.clone());
    if namespaces.get_opt(namespace).await?.is_none() {
        let wanted = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        namespaces.create(&PostParams::default(), &parsed(wanted)?).await?;
    }
    let labels = json!({label.0: label.1});
    let requests = json!({"requests": {"cpu": cpu, "memory": memory}});
    let tolerations: Vec<Value> = match tolerations {
        Tolerates::Everything => vec![json!({"operator": "Exists"})],
        Tolerates::CriticalAddonsOnly => vec![json!({"key": "CriticalAddonsOnly", "operator": "Exists"})],
    };
    let wanted = json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "tolerations": tolerations,
                    "containers": [{"name": name, "image": name, "resources": requests}],
                },
            },
        },
    });
    sets.create(&PostParams::default(), &parsed(wanted)?).await
}

fn parsed<T: DeserializeOwned>(value: Value) -> kube::Result<T> {
    serde_json::from_value(value).map_err(kube::Error::SerdeError)
}
