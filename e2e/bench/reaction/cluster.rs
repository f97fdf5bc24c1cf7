//! The cluster that the operator is measured on.

use crate::notices::Notices;
use miyako::clock::{Clock as _, SystemClock};
use miyako::sim::cluster::NodeSpec;
use miyako::sim::kubevirt::ClockSettings;
use miyako::sim::kubevirt::create::VmSpec;
use miyako::sim::workload::Pattern;
use miyako::sim::world::{World, WorldSettings};
use miyako_core::model::{Bytes, NodeName, VmKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The operator's namespace.
pub(crate) const NAMESPACE: &str = "miyako-system";
/// What the operator shows as its token, which the API server takes for its name.
pub(crate) const OPERATOR: &str = "system:serviceaccount:miyako-system:miyako-operator";
/// The label that the classes select nodes by.
const CLASS: &str = "example.org/class";
/// VMs for each node.
const VMS_PER_NODE: usize = 20;
/// Cores of every node.
pub(crate) const CORES: u32 = 16;
/// vCPUs of every VM.
const VCPUS: u32 = 2;
/// What a VM uses of its vCPUs while nobody overloads it.
pub(crate) const QUIET: f64 = 0.1;

/// A cluster, its clock and what it has seen.
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) notices: Arc<Notices>,
    /// The VMs of each shared node at the beginning.
    pub(crate) shared: BTreeMap<NodeName, Vec<VmKey>>,
    pub(crate) patterns: BTreeMap<VmKey, Pattern>,
    nodes: usize,
}

impl Cluster {
    /// Builds it, in memory.
    pub(crate) async fn build(nodes: usize) -> anyhow::Result<Self> {
        // Migrations must not be what is waited for: many at once, over a fast network.
        let configuration =
            [("parallelMigrationsPerCluster", json!(100)), ("parallelOutboundMigrationsPerNode", json!(10))];
        let world = World::start(WorldSettings {
            seed: 1,
            begins: Some(SystemClock.now()),
            migrations: ClockSettings { bandwidth: 3e9, ..ClockSettings::default() },
            configuration: configuration.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            ..WorldSettings::default()
        })
        .await?;
        let notices = Arc::new(Notices::default());
        world.server.add_admission(notices.clone());
        for crd in miyako_api::crds() {
            world.server.add_crd(&serde_json::to_value(crd)?)?;
        }
        for object in objects() {
            world.server.create("admin", object).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        }
        let dedicated = nodes.div_ceil(10);
        let (mut shared, mut patterns) = (BTreeMap::new(), BTreeMap::new());
        for index in 0..nodes {
            let class = if index < dedicated { "dedicated" } else { "shared" };
            let name = format!("{class}-{index}");
            let mut node = NodeSpec::new(&name, CORES, Bytes::gib(256));
            node.labels.insert(CLASS.into(), class.into());
            world.add_node(&node).await?;
            if class == "dedicated" {
                continue;
            }
            let vms = nodes * VMS_PER_NODE / (nodes - dedicated);
            for number in 0..vms {
                let vm = VmSpec::new("vms", &format!("vm-{index}-{number}"), VCPUS, Bytes::gib(4));
                world.add_vm(&vm, &name).await?;
                let key = VmKey::new("vms", vm.name.as_str());
                patterns.insert(key.clone(), Pattern::Constant(QUIET));
                shared.entry(NodeName::new(&name)).or_insert_with(Vec::new).push(key);
            }
        }
        Ok(Self { world, notices, shared, patterns, nodes })
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    pub(crate) fn vms(&self) -> usize {
        self.patterns.len()
    }

    /// Requests that the operator has made so far, watches that were begun included.
    pub(crate) fn requests_of_operator(&self) -> u64 {
        let counts = self.world.server.request_counts();
        counts.iter().filter(|(kind, _)| kind.actor == OPERATOR).map(|(_, count)| count).sum()
    }
}

/// Our own objects, and what the chart brings along.
fn objects() -> Vec<Value> {
    let class = |name: &str, role: &str| {
        json!({
            "apiVersion": "miyako.dev/v1alpha1", "kind": "NodePowerClass", "metadata": {"name": name},
            "spec": {"role": role, "nodeSelector": {"matchLabels": {CLASS: name}}},
        })
    };
    let policy = json!({
        "apiVersion": "miyako.dev/v1alpha1", "kind": "ConsolidationPolicy", "metadata": {"name": "pack"},
        "spec": {
            "mode": "Automatic", "profile": "Reactive", "nodeClasses": ["shared", "dedicated"],
            "thresholds": { "admissionWindow": "5s" },
            "budgets": {"movesPerVmPerDay": 10, "concurrentMigrations": 50},
        },
    });
    let config_map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": NAMESPACE, "name": name}});
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "vms"}}),
        config_map("miyako-switches"),
        class("shared", "Shared"),
        class("dedicated", "Dedicated"),
        policy,
    ]
}

/// A kubeconfig that shows the operator's name as its token.
pub(crate) fn kubeconfig(folder: &Path, url: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "stand",
        "clusters": [{"name": "stand", "cluster": {"server": url}}],
        "users": [{"name": "operator", "user": {"token": OPERATOR}}],
        "contexts": [{"name": "stand", "context": {"cluster": "stand", "user": "operator"}}],
    });
    std::fs::write(&path, serde_json::to_vec(&text)?)?;
    Ok(path)
}
