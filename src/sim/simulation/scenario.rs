//! What a simulated world begins with.

use crate::sim::apiserver::EPOCH_SECONDS;
use crate::sim::cluster::{Fate, NodeSpec};
use crate::sim::kubevirt::ClockSettings;
use crate::sim::kubevirt::create::VmSpec;
use crate::sim::workload::Pattern;
use miyako_core::model::{Bytes, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The label by which the scenarios' classes select nodes.
pub const CLASS_LABEL: &str = "example.org/class";

/// When every simulation begins: a Monday, 2026-01-05 00:00 UTC.
pub const BEGINS: Timestamp = Timestamp::from_secs(EPOCH_SECONDS);

/// A VM and what it does.
#[derive(Debug, Clone)]
pub struct SimulatedVm {
    /// The VM.
    pub spec: VmSpec,
    /// Where it starts.
    pub node: String,
    /// Its load over time.
    pub pattern: Pattern,
}

/// A world's beginning.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Everything random follows from it.
    pub seed: u64,
    /// The nodes.
    pub nodes: Vec<NodeSpec>,
    /// The VMs.
    pub vms: Vec<SimulatedVm>,
    /// Our own resources, and whatever else is created at the beginning.
    pub objects: Vec<Value>,
    /// `spec.configuration.migrations` of the KubeVirt CR.
    pub migrations: BTreeMap<String, Value>,
    /// How fast migrations go.
    pub hands: ClockSettings,
    /// How much loads vary from second to second, as a share of the vCPUs.
    pub noise: f64,
    /// What a node needs for itself, in cores.
    pub system: f64,
    /// How machines sleep and wake; none: nodes have no agents that obey.
    pub machines: Option<Fate>,
    /// Keep a journal of all requests.
    pub journal: bool,
}

impl Scenario {
    /// An empty cluster with our two classes and a policy of the `Reactive` profile that acts. As in the papers, whose
    /// experiments last for minutes, a shared node takes a VM by the averages of the moment.
    #[must_use]
    pub fn reactive(seed: u64) -> Self {
        let class = |name: &str, role: &str| {
            json!({
                "apiVersion": "miyako.dev/v1alpha1",
                "kind": "NodePowerClass",
                "metadata": {"name": name},
                "spec": {"role": role, "nodeSelector": {"matchLabels": {CLASS_LABEL: name}}},
            })
        };
        let policy = json!({
            "apiVersion": "miyako.dev/v1alpha1",
            "kind": "ConsolidationPolicy",
            "metadata": {"name": "pack"},
            "spec": {
                "mode": "Automatic", "profile": "Reactive", "nodeClasses": ["shared", "dedicated"],
                "thresholds": {"admissionWindow": "5s"},
            },
        });
        Self {
            seed,
            nodes: Vec::new(),
            vms: Vec::new(),
            objects: vec![class("shared", "Shared"), class("dedicated", "Dedicated"), policy],
            migrations: BTreeMap::new(),
            hands: ClockSettings::default(),
            noise: 0.0,
            system: 0.0,
            machines: None,
            journal: false,
        }
    }

    /// The experiment of Reactive Cloud, Fig. 6: six VMs of one vCPU and 1.7 GB start on one shared node with one core
    /// for them; five dedicated nodes with one core each wait.
    #[must_use]
    pub fn reactive_cloud_figure_6(seed: u64) -> Self {
        let mut scenario = Self::reactive(seed);
        scenario.add_node("shared-0", "shared", 1, Bytes::gib(20));
        for index in 0..5 {
            scenario.add_node(&format!("dedicated-{index}"), "dedicated", 1, Bytes::gib(20));
        }
        for index in 0..6 {
            let spec = VmSpec::new("vms", &format!("vm{index}"), 1, Bytes::mib(1700));
            let pattern = Pattern::reactive_cloud_figure_6(BEGINS, index);
            scenario.vms.push(SimulatedVm { spec, node: "shared-0".into(), pattern });
        }
        scenario
    }

    /// An empty cluster whose nodes sleep when they are empty: both classes name a way to wake them, and the policy
    /// keeps one node awake.
    #[must_use]
    pub fn sleeping(seed: u64) -> Self {
        let mut scenario = Self { machines: Some(Fate::default()), ..Self::reactive(seed) };
        for object in &mut scenario.objects {
            if object["kind"] == "NodePowerClass" {
                object["spec"]["wake"] = json!([{"driver": "wol", "address": "02:00:00:00:00:01"}]);
            }
        }
        // Its few nodes could hardly sleep if one of them were to fail.
        scenario.policy(|spec| spec["keepAwake"] = json!({"failures": 0}));
        scenario
    }

    /// Changes the policy's spec.
    pub fn policy(&mut self, change: impl FnOnce(&mut Value)) {
        let policy = self.objects.iter_mut().find(|object| object["kind"] == "ConsolidationPolicy");
        if let Some(policy) = policy {
            change(&mut policy["spec"]);
        }
    }

    /// Says that every node showed in a test that it wakes, as a NodePower of an earlier day would.
    pub fn trust_all_nodes(&mut self) {
        for node in &self.nodes {
            self.objects.push(json!({
                "apiVersion": "miyako.dev/v1alpha1",
                "kind": "NodePower",
                "metadata": {"name": node.name},
                "spec": {
                    "desired": "Awake", "generation": 0, "issuedAt": "2026-01-04T00:00:00Z",
                    "expiresAt": "2026-01-04T00:00:00Z", "reason": "a test of yesterday",
                },
                "status": {
                    "phase": "Awake", "since": "2026-01-04T00:00:00Z",
                    "lastWakeTest": {"at": "2026-01-04T00:00:00Z", "succeeded": true},
                },
            }));
        }
    }

    /// Adds a node of one of the two classes.
    pub fn add_node(&mut self, name: &str, class: &str, cores: u32, memory: Bytes) {
        let mut node = NodeSpec::new(name, cores, memory);
        node.labels.insert(CLASS_LABEL.into(), class.into());
        self.nodes.push(node);
    }
}
