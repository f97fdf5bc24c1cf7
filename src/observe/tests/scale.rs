//! What the picture of a large cluster weighs, and what a tick costs: by what changed, not by what there is.

#![allow(clippy::disallowed_methods, reason = "measures real time; nothing is decided by it")]

use super::{NOW, apply, look, object, see};
use crate::observe::{
    pool::Pool,
    seen::{Kind, Update, Version},
    world::World,
};
use serde_json::{Value, json};
use std::time::Instant;

const NODES: usize = 1000;
const VMS: usize = 20_000;
const OTHER_PODS: usize = 10_000;

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn node(number: usize) -> Value {
    let mut node = object("Node", "node-a");
    node["metadata"]["name"] = json!(format!("node-{number}"));
    node["metadata"]["labels"]["kubernetes.io/hostname"] = json!(format!("node-{number}"));
    // As many as virt-handler sets on a real server.
    for feature in 0..200 {
        node["metadata"]["labels"][format!("cpu-feature.node.kubevirt.io/feature-{feature}")] = json!("true");
    }
    node
}

fn vmi(number: usize) -> Value {
    let mut vmi = object("VirtualMachineInstance", "db");
    vmi["metadata"]["name"] = json!(format!("db-{number}"));
    vmi["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{number:012}"));
    vmi["metadata"]["namespace"] = json!(format!("team-{}", number % 100));
    vmi["status"]["nodeName"] = json!(format!("node-{}", number % NODES));
    vmi["spec"]["volumes"] = json!([]);
    vmi
}

fn launcher(number: usize) -> Value {
    let mut pod = object("Pod", "virt-launcher-db-1");
    let uid = format!("00000000-0000-4000-8000-{number:012}");
    pod["metadata"]["name"] = json!(format!("virt-launcher-db-{number}-abcde"));
    pod["metadata"]["uid"] = json!(format!("10000000-0000-4000-8000-{number:012}"));
    pod["metadata"]["namespace"] = json!(format!("team-{}", number % 100));
    pod["metadata"]["annotations"]["kubevirt.io/domain"] = json!(format!("db-{number}"));
    pod["metadata"]["labels"]["kubevirt.io/created-by"] = json!(uid);
    pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!([{"labelSelector": {"matchLabels": {"kubevirt.io/created-by": uid}}, "topologyKey": "kubernetes.io/hostname"}]);
    pod["spec"]["nodeName"] = json!(format!("node-{}", number % NODES));
    pod["spec"]["nodeSelector"]["kubernetes.io/hostname"] = json!(format!("node-{}", number % NODES));
    pod["spec"]["volumes"] = json!([]);
    pod
}

fn other_pod(number: usize) -> Value {
    let mut pod = object("Pod", "virt-handler-a");
    pod["metadata"]["name"] = json!(format!("web-{number}"));
    pod["metadata"]["uid"] = json!(format!("20000000-0000-4000-8000-{number:012}"));
    pod["metadata"]["labels"] = json!({"app": "web", "pod-template-hash": "5f6d7c8b9", "team": "a"});
    pod["spec"]["nodeName"] = json!(format!("node-{}", number % NODES));
    pod
}

fn list(world: &mut World, kind: Kind, objects: impl Iterator<Item = Value>) {
    let mut pool = Pool::default();
    let all = objects.map(|object| see(&object).1.sharing(&mut pool)).collect();
    world.apply(kind, Update::All(all, Version(1000)), NOW);
}

#[test]
#[ignore = "a minute in a debug build; `cargo test --release -- --ignored large_cluster` takes seconds"]
fn a_large_cluster_stays_small_and_a_tick_costs_what_changed() {
    let before = resident();
    let mut world = World::new();
    for kind in Kind::ALL {
        match kind {
            Kind::Node => list(&mut world, kind, (0..NODES).map(node)),
            Kind::VirtualMachineInstance => list(&mut world, kind, (0..VMS).map(vmi)),
            Kind::Pod => list(&mut world, kind, (0..VMS).map(launcher).chain((0..OTHER_PODS).map(other_pod))),
            _ => list(&mut world, kind, std::iter::empty()),
        }
    }
    let began = Instant::now();
    look(&mut world);
    let first = began.elapsed();
    let weight = resident().saturating_sub(before) >> 20;
    assert_eq!(look(&mut world).0.vms.len(), VMS);
    let began = Instant::now();
    look(&mut world);
    let idle = began.elapsed();
    let changed: Vec<_> = (0..200).map(|number| vmi(number * 97)).collect();
    let began = Instant::now();
    changed.iter().for_each(|vmi| apply(&mut world, vmi));
    look(&mut world);
    let busy = began.elapsed();
    println!("{weight} MiB; first join {first:?}, idle tick {idle:?}, tick with 200 changed VMs {busy:?}");
    assert!(weight < 200, "{weight} MiB");
    assert!(idle < first / 50 && busy < first / 2, "idle {idle:?}, busy {busy:?}, first {first:?}");
}
