//! The demo's cluster: twenty nodes in two zones, a hundred and fifty VMs with the days of offices, web servers and
//! nightly jobs, all packed onto the shared nodes at the beginning, as the papers do. Empty nodes sleep; now and then one
//! does not wake ([`super::mishaps`]).

use crate::sim::cluster::{Fate, NodeSpec};
use crate::sim::kubevirt::create::VmSpec;
use crate::sim::oracle::{Foreseen, Oracle, Zone};
use crate::sim::simulation::{BEGINS, CLASS_LABEL, Scenario, SimulatedVm};
use crate::sim::workload::Pattern;
use miyako_api::consolidation_policy::Profile;
use miyako_api::names::{kubernetes, marks};
use miyako_core::model::{Bytes, PowerFigures, VmKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The zones, each with its shared and dedicated nodes.
const ZONES: [(&str, usize, usize); 2] = [("a", 3, 8), ("b", 2, 7)];
/// Shared nodes: few cores for their memory.
const SHARED: (u32, Bytes) = (10, Bytes::gib(384));
/// Dedicated nodes: small, so that a busy VM or a few fill one.
const DEDICATED: (u32, Bytes) = (8, Bytes::gib(96));
/// How many VMs there are.
const VMS: usize = 150;

/// What people call their VMs, how many of ten there are, and what these do.
const TEAMS: [(&str, &str, usize, Pattern); 5] = [
    ("office", "desk", 3, Pattern::Office),
    ("shop", "web", 3, Pattern::Web),
    ("analytics", "batch", 1, Pattern::NightBatch),
    ("ci", "runner", 1, Pattern::RandomHours),
    ("internal", "tool", 2, Pattern::Constant(0.06)),
];

/// What shared nodes draw; dedicated ones draw what a class says by default.
const SHARED_POWER: PowerFigures = PowerFigures { idle: 130, full: 320, asleep: 9 };
/// Cores that a node needs for itself.
const SYSTEM: f64 = 0.2;

/// So many dedicated nodes are awake whatever the load is: the spare one, and the one with somebody's pod.
const FLOOR: usize = 2;

/// The demo's world, under a policy with this profile.
#[must_use]
pub fn scenario(seed: u64, profile: Profile) -> Scenario {
    let machines = Some(Fate::default());
    let mut scenario = Scenario { noise: 0.02, system: SYSTEM, machines, ..Scenario::reactive(seed) };
    let mut shared = Vec::new();
    for (zone, with_much_memory, with_cores_for_all) in ZONES {
        for index in 1..=with_much_memory {
            let name = format!("shared-{zone}{index}");
            scenario.add_node(&name, "shared", SHARED.0, SHARED.1);
            shared.push(name);
        }
        for index in 1..=with_cores_for_all {
            scenario.add_node(&format!("dedicated-{zone}{index}"), "dedicated", DEDICATED.0, DEDICATED.1);
        }
    }
    for node in &mut scenario.nodes {
        let zone = if node.name.contains("-a") { "zone-a" } else { "zone-b" };
        node.labels.insert(kubernetes::ZONE.into(), zone.into());
        scenario.objects.push(proved_to_wake(&node.name));
    }
    for object in &mut scenario.objects {
        if object["kind"] == "NodePowerClass" {
            object["spec"]["wake"] = json!([{
                "driver": "amt",
                "address": "{node}.amt.example.org",
                "secretRef": {"name": "amt", "namespace": "miyako-system"},
            }]);
        }
        match object["metadata"]["name"].as_str() {
            Some("pack") => {
                // Storage is per zone, and so VMs stay in theirs.
                object["spec"]["stayWithin"] = json!([kubernetes::ZONE]);
                // Busy VMs find a node that is awake already, and a node may break at any time.
                object["spec"]["spare"] = json!({"dedicatedNodes": 1});
                object["spec"]["keepAwake"] = json!({"failures": 1});
                object["spec"]["profile"] = json!(profile);
                // A day is long enough for the profile's own admission window.
                object["spec"]["thresholds"] = json!({});
            }
            Some("shared") => {
                let PowerFigures { idle, full, asleep } = SHARED_POWER;
                object["spec"]["power"] = json!({"idleWatts": idle, "fullWatts": full, "asleepWatts": asleep});
            }
            _ => {}
        }
    }
    scenario.vms = vms(&shared);
    scenario.objects.push(kept_awake());
    scenario
}

/// A planner that knows the future of such a world, and the VMs as it sees them.
pub(super) fn oracle(scenario: &Scenario) -> (Oracle, BTreeMap<VmKey, Foreseen>) {
    let mut zones: BTreeMap<&str, Zone> = BTreeMap::new();
    for node in &scenario.nodes {
        let zone = zones.entry(label(node, kubernetes::ZONE)).or_default();
        match label(node, CLASS_LABEL) {
            "shared" => zone.shared.push(f64::from(SHARED.0) - SYSTEM),
            _ => zone.dedicated.push(DEDICATED.0),
        }
    }
    let number = |name: &str| {
        let node = scenario.nodes.iter().find(|node| node.name == name)?;
        zones.keys().position(|zone| *zone == label(node, kubernetes::ZONE))
    };
    let foreseen = |vm: &SimulatedVm| {
        let opted_out = vm.spec.annotations.get(marks::CONSOLIDATE).is_some_and(|mark| mark == marks::NEVER);
        let (vcpus, pinned) = (vm.spec.vcpus, opted_out || !vm.spec.migratable);
        let zone = number(&vm.node)?;
        Some((VmKey::new(&vm.spec.namespace, &vm.spec.name), Foreseen { zone, vcpus, peak: 0.0, mean: 0.0, pinned }))
    };
    let vms = scenario.vms.iter().filter_map(foreseen).collect();
    let zones = zones.into_values().collect();
    (Oracle { zones, shared: SHARED_POWER, dedicated: PowerFigures::default(), system: SYSTEM, floor: FLOOR }, vms)
}

fn label<'a>(node: &'a NodeSpec, key: &str) -> &'a str {
    node.labels.get(key).map_or("", String::as_str)
}

/// The VMs, dealt to the shared nodes in turn.
fn vms(shared: &[String]) -> Vec<SimulatedVm> {
    let teams: Vec<_> = TEAMS.iter().flat_map(|team| std::iter::repeat_n(team, team.2)).collect();
    let mut vms = Vec::new();
    for (index, node) in (0..VMS).zip(shared.iter().cycle()) {
        // Five at a time, so that each shared node gets one of every kind.
        let (namespace, kind, _, pattern) = teams[index / shared.len() % teams.len()];
        let vcpus = [1, 1, 2, 1, 1, 2, 1, 4][index % 8];
        let mut spec = VmSpec::new(namespace, &format!("{kind}-{index:03}"), vcpus, Bytes::gib(2 * u64::from(vcpus)));
        match index {
            // A database that its owner wants left alone, …
            13 | 77 => drop(spec.annotations.insert(marks::CONSOLIDATE.into(), marks::NEVER.into())),
            // … two VMs with a disk on their node, …
            29 | 101 => spec.migratable = false,
            // … and one that may not be lost in post-copy.
            50 => drop(spec.annotations.insert(marks::POST_COPY.into(), marks::NEVER.into())),
            _ => {}
        }
        vms.push(SimulatedVm { spec, node: node.clone(), pattern: pattern.clone() });
    }
    vms
}

/// What a node's wake test leaves behind: without it no node counts as able to sleep.
fn proved_to_wake(node: &str) -> Value {
    let at = crate::time::to_api(BEGINS);
    json!({
        "apiVersion": "miyako.dev/v1alpha1",
        "kind": "NodePower",
        "metadata": {"name": node},
        "spec": {"desired": "Awake", "generation": 1, "issuedAt": at, "expiresAt": at, "reason": "wake test"},
        "status": {"phase": "Awake", "lastWakeTest": {"at": at, "succeeded": true, "message": "AMT, 6 s"}},
    })
}

/// A pod that somebody tied to one node: it keeps that node awake, and the report says so.
fn kept_awake() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": "license-server"},
        "spec": {
            "nodeName": "dedicated-b7",
            "containers": [{"name": "license-server", "image": "license-server", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}],
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}
