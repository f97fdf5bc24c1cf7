//! Tests of the observer's parts together, over objects written as YAML.

mod holds;
mod joined;
mod nonsense;
mod own_writes;
mod placed;
mod refused_targets;
mod scale;
mod watched;

use super::{
    seen::{Kind, Seen, Update, Version, Watched},
    watch::Lenient,
    world::World,
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota},
    storage::v1::{CSINode, StorageClass},
};
use miyako_api::{
    ConsolidationPlan, ConsolidationPolicy, NodePower, NodePowerClass,
    kubevirt::{KubeVirt, MigrationPolicy, VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration},
};
use miyako_core::model::{Policies, Snapshot, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use std::sync::LazyLock;

const CLUSTER: &str = include_str!("../../../tests/fixtures/observe/cluster.yaml");

/// 2026-01-05 00:00 UTC.
const NOW: Timestamp = Timestamp::from_secs(1_767_571_200);

/// The objects of the small cluster.
fn cluster() -> Vec<Value> {
    static OBJECTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
        serde_yaml::Deserializer::from_str(CLUSTER).map(|document| Value::deserialize(document).unwrap()).collect()
    });
    OBJECTS.clone()
}

/// An object of the small cluster.
fn object(kind: &str, name: &str) -> Value {
    let is = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    cluster().into_iter().find(is).unwrap_or_else(|| panic!("the cluster has no {kind} {name}"))
}

/// What the watch of its kind makes of an object, as it does over the wire.
fn see(object: &Value) -> (Kind, Seen) {
    fn read<K: Watched>(object: &Value) -> (Kind, Seen) {
        let lenient: Lenient<K> = serde_json::from_value(object.clone()).unwrap();
        (K::KIND, K::seen(&lenient.metadata, lenient.object.as_ref().map_err(String::as_str)))
    }
    match object["kind"].as_str().unwrap() {
        "Namespace" => read::<Namespace>(object),
        "Node" => read::<Node>(object),
        "NodePower" => read::<NodePower>(object),
        "CSINode" => read::<CSINode>(object),
        "StorageClass" => read::<StorageClass>(object),
        "PersistentVolume" => read::<PersistentVolume>(object),
        "PersistentVolumeClaim" => read::<PersistentVolumeClaim>(object),
        "ResourceQuota" => read::<ResourceQuota>(object),
        "MigrationPolicy" => read::<MigrationPolicy>(object),
        "KubeVirt" => read::<KubeVirt>(object),
        "DaemonSet" => read::<DaemonSet>(object),
        "VirtualMachine" => read::<VirtualMachine>(object),
        "VirtualMachineInstance" => read::<VirtualMachineInstance>(object),
        "Pod" => read::<Pod>(object),
        "VirtualMachineInstanceMigration" => read::<VirtualMachineInstanceMigration>(object),
        "NodePowerClass" => read::<NodePowerClass>(object),
        "ConsolidationPolicy" => read::<ConsolidationPolicy>(object),
        "ConsolidationPlan" => read::<ConsolidationPlan>(object),
        "ConfigMap" => read::<ConfigMap>(object),
        "Event" => read::<Event>(object),
        other => panic!("{other} is not watched"),
    }
}

/// A world that has listed these objects.
fn world_of(objects: &[Value]) -> World {
    let mut world = World::new();
    let seen: Vec<_> = objects.iter().map(see).collect();
    for kind in Kind::ALL {
        let all = seen.iter().filter(|(of, _)| *of == kind).map(|(_, seen)| seen.clone()).collect();
        world.apply(kind, Update::All(all, Version(1000)), NOW);
    }
    world
}

fn apply(world: &mut World, object: &Value) {
    let (kind, seen) = see(object);
    world.apply(kind, Update::Is(Box::new(seen)), NOW);
}

fn remove(world: &mut World, object: &Value) {
    let (kind, seen) = see(object);
    world.apply(kind, Update::Gone(seen.key, seen.uid, Version(u64::MAX)), NOW);
}

fn look(world: &mut World) -> (&Snapshot, &Policies) {
    world.refresh(NOW);
    world.view()
}
