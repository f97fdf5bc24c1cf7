//! Random nodes and pods with every constraint that the planner claims to understand, for comparing its answers with
//! the real scheduler's. The same seed gives the same objects.

use crate::control_plane::nodes::NewNode;
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
const APPS: [&str; 4] = ["red", "green", "blue", "none"];
const DISKS: [&str; 2] = ["ssd", "hdd"];
const TAINTS: [(&str, &str, &str); 3] =
    [("dedicated", "databases", "NoSchedule"), ("dedicated", "builds", "NoExecute"), ("noisy", "", "PreferNoSchedule")];
const PORTS: [u16; 3] = [8080, 8443, 9100];
const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Nodes of different sizes in three zones, some tainted.
pub fn nodes(random: &mut ChaCha8Rng, count: usize) -> Vec<NewNode> {
    (0..count)
        .map(|index| {
            let mut node = NewNode::new(format!("random-{index}"))
                .cpus(one(random, &[4, 8, 16]))
                .memory(one(random, &["6Gi", "12Gi", "24Gi"]))
                .pods(one(random, &[3, 6, 20]))
                .label(ZONE, one(random, &ZONES))
                .label("disk", one(random, &DISKS))
                .label("generation", &random.random_range(1..=4).to_string());
            if random.random_bool(0.3) {
                let (key, value, effect) = one(random, &TAINTS);
                node = node.taint(key, value, effect);
            }
            node
        })
        .collect()
}

/// A pod that is already on a node.
pub fn resident(random: &mut ChaCha8Rng, name: &str, node: &str) -> Value {
    let mut pod = pod(random, name);
    pod["spec"]["nodeName"] = json!(node);
    pod
}

/// Volumes that can be used in one zone each, or where a disk of a kind is: as cloud disks and local ones can.
pub fn volumes(random: &mut ChaCha8Rng, count: usize, prefix: &str) -> Vec<Value> {
    (0..count)
        .map(|index| {
            let (key, value) =
                if random.random_bool(0.6) { (ZONE, one(random, &ZONES)) } else { ("disk", one(random, &DISKS)) };
            let place = json!({ "matchExpressions": [{ "key": key, "operator": "In", "values": [value] }] });
            json!({
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": { "name": format!("{prefix}-{index}") },
                "spec": {
                    "capacity": { "storage": "1Gi" },
                    "accessModes": ["ReadWriteMany"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "storageClassName": "",
                    "local": { "path": "/none" },
                    "nodeAffinity": { "required": { "nodeSelectorTerms": [place] } },
                },
            })
        })
        .collect()
}

/// Lets a pod use a claim.
pub fn with_claim(mut pod: Value, claim: &str) -> Value {
    pod["spec"]["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": claim } }]);
    pod
}

/// What a namespace's pods may ask for together: now and then little, now and then enough.
pub fn quota(random: &mut ChaCha8Rng, name: &str) -> Value {
    let mut hard = json!({});
    for (resource, choices) in [
        ("pods", ["3", "5", "20"]),
        ("requests.cpu", ["2", "6", "20"]),
        ("memory", ["3Gi", "8Gi", "40Gi"]),
        ("limits.memory", ["1Gi", "8Gi", "40Gi"]),
        ("requests.devices.kubevirt.io/kvm", ["1", "2", "9"]),
    ] {
        if random.random_bool(0.4) {
            hard[resource] = json!(one(random, &choices));
        }
    }
    json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": name }, "spec": { "hard": hard } })
}

/// A pod that looks for a node, or asks for one of the given by its name as a migration's target does.
pub fn candidate(random: &mut ChaCha8Rng, name: &str, nodes: &[String]) -> Value {
    let mut pod = pod(random, name);
    let spec = &mut pod["spec"];
    if random.random_bool(0.6)
        && let Some(node) = nodes.choose(random)
    {
        spec["nodeSelector"][HOSTNAME] = json!(node);
    }
    if random.random_bool(0.2) {
        spec["nodeSelector"]["disk"] = json!(one(random, &DISKS));
    }
    if random.random_bool(0.2) {
        spec["affinity"]["nodeAffinity"] = json!({
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [node_term(random)] },
        });
    }
    if random.random_bool(0.15) {
        spec["affinity"]["podAffinity"] = required_pods(random);
    }
    if random.random_bool(0.25) {
        spec["topologySpreadConstraints"] = json!([{
            "maxSkew": random.random_range(1..=3),
            "topologyKey": one(random, &[ZONE, HOSTNAME, "disk"]),
            "whenUnsatisfiable": one(random, &["DoNotSchedule", "DoNotSchedule", "ScheduleAnyway"]),
            "labelSelector": app_selector(random),
        }]);
    }
    pod
}

/// What residents and candidates have in common: requests, labels, ports, tolerations, anti-affinity.
fn pod(random: &mut ChaCha8Rng, name: &str) -> Value {
    let mut requests = json!({});
    if random.random_bool(0.9) {
        requests["cpu"] = json!(one(random, &["100m", "500m", "1", "1500m", "3"]));
    }
    if random.random_bool(0.9) {
        requests["memory"] = json!(one(random, &["128Mi", "1Gi", "1500M", "3Gi", "0.5Gi"]));
    }
    if random.random_bool(0.3) {
        requests["devices.kubevirt.io/kvm"] = json!("1");
    }
    // Extended resources must have equal limits.
    let mut limits = json!({});
    if let Some(kvm) = requests.get("devices.kubevirt.io/kvm") {
        limits["devices.kubevirt.io/kvm"] = kvm.clone();
    }
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": one(random, &APPS) } },
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": "none", "resources": { "requests": requests, "limits": limits },
            }],
        },
    });
    let spec = &mut pod["spec"];
    if random.random_bool(0.2) {
        let port = one(random, &PORTS);
        spec["containers"][0]["ports"] = json!([{ "containerPort": port, "hostPort": port }]);
    }
    if random.random_bool(0.2) {
        spec["initContainers"] = json!([{
            "name": "init", "image": "none",
            "resources": { "requests": { "cpu": one(random, &["50m", "2"]), "memory": "256Mi" } },
        }]);
        if random.random_bool(0.5) {
            spec["initContainers"][0]["restartPolicy"] = json!("Always");
        }
    }
    if random.random_bool(0.3) {
        spec["tolerations"] = json!([toleration(random)]);
    }
    if random.random_bool(0.08) {
        spec["affinity"]["podAntiAffinity"] = required_pods(random);
    }
    pod
}

fn toleration(random: &mut ChaCha8Rng) -> Value {
    let (key, value, effect) = one(random, &TAINTS);
    match random.random_range(0..4) {
        0 => json!({ "operator": "Exists" }),
        1 => json!({ "key": key, "operator": "Exists", "effect": effect }),
        2 => json!({ "key": key, "value": value }),
        _ => json!({ "key": key, "operator": "Equal", "value": value, "effect": effect }),
    }
}

fn node_term(random: &mut ChaCha8Rng) -> Value {
    let requirement = match random.random_range(0..5) {
        0 => json!({ "key": "disk", "operator": "In", "values": [one(random, &DISKS)] }),
        1 => json!({ "key": ZONE, "operator": "NotIn", "values": [one(random, &ZONES)] }),
        2 => json!({ "key": "generation", "operator": "Gt", "values": ["2"] }),
        3 => json!({ "key": "generation", "operator": "Lt", "values": ["3"] }),
        _ => json!({ "key": "absent", "operator": "DoesNotExist" }),
    };
    json!({ "matchExpressions": [requirement] })
}

fn required_pods(random: &mut ChaCha8Rng) -> Value {
    json!({
        "requiredDuringSchedulingIgnoredDuringExecution": [{
            "labelSelector": app_selector(random),
            "topologyKey": one(random, &[ZONE, HOSTNAME, "disk"]),
        }],
    })
}

fn app_selector(random: &mut ChaCha8Rng) -> Value {
    let app = one(random, &APPS);
    match random.random_range(0..6) {
        0..3 => json!({ "matchLabels": { "app": app } }),
        3 => json!({ "matchExpressions": [{ "key": "app", "operator": "NotIn", "values": [app] }] }),
        _ => json!({ "matchExpressions": [{ "key": "app", "operator": "In", "values": [app, "red"] }] }),
    }
}

fn one<T: Copy>(random: &mut ChaCha8Rng, choices: &[T]) -> T {
    choices[random.random_range(0..choices.len())]
}
