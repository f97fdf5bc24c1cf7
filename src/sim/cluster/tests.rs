//! Scheduler, kubelets and sleeping nodes, on the in-memory API server under paused time.

use super::{NodeSpec, fall_asleep, wake_up};
use crate::sim::world::{World, WorldSettings};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use miyako_core::model::Bytes;
use serde_json::{Value, json};
use std::time::Duration;

async fn world(nodes: &[NodeSpec]) -> World {
    let world = World::start(WorldSettings::default()).await.unwrap();
    for node in nodes {
        world.add_node(node).await.unwrap();
    }
    world
}

fn node(name: &str) -> NodeSpec {
    NodeSpec::new(name, 8, Bytes::gib(16))
}

async fn create(world: &World, name: &str, memory: &str, more: Value) {
    let mut pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"memory": memory}}}]},
    });
    if let (Value::Object(spec), Value::Object(more)) = (&mut pod["spec"], more) {
        spec.extend(more);
    }
    let api: Api<Pod> = Api::default_namespaced(world.admin.clone());
    api.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
}

/// Node and phase of a pod, once the cluster had time to act.
async fn seen(world: &World, name: &str) -> (Option<String>, String) {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let api: Api<Pod> = Api::default_namespaced(world.admin.clone());
    let pod = api.get(name).await.unwrap();
    (pod.spec.unwrap().node_name, pod.status.unwrap_or_default().phase.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn pods_are_spread_and_run() {
    let world = world(&[node("a"), node("b")]).await;
    create(&world, "p1", "4Gi", json!({})).await;
    assert_eq!(seen(&world, "p1").await, (Some("a".into()), "Running".into()));
    create(&world, "p2", "1Gi", json!({})).await;
    assert_eq!(seen(&world, "p2").await.0.as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_a_place_is_told_why_and_placed_when_room_comes() {
    let world = world(&[node("a")]).await;
    create(&world, "large", "12Gi", json!({})).await;
    assert_eq!(seen(&world, "large").await.0.as_deref(), Some("a"));
    create(&world, "waits", "8Gi", json!({})).await;
    assert_eq!(seen(&world, "waits").await.0, None);
    let api: Api<Pod> = Api::default_namespaced(world.admin.clone());
    let conditions = api.get("waits").await.unwrap().status.unwrap().conditions.unwrap();
    let told = conditions.iter().find(|condition| condition.type_ == "PodScheduled").unwrap();
    assert_eq!((told.status.as_str(), told.reason.as_deref()), ("False", Some("Unschedulable")));
    assert!(told.message.as_ref().unwrap().starts_with("0/1 nodes are available: 1 "), "{told:?}");
    api.delete("large", &kube::api::DeleteParams::default()).await.unwrap();
    assert_eq!(seen(&world, "waits").await, (Some("a".into()), "Running".into()));
}

#[tokio::test(start_paused = true)]
async fn selectors_taints_and_new_nodes_count() {
    let mut tainted = node("b");
    tainted.taints = json!([{"key": "reserved", "effect": "NoSchedule"}]);
    let world = world(&[node("a"), tainted]).await;
    create(&world, "p", "1Gi", json!({"nodeSelector": {"kubernetes.io/hostname": "b"}})).await;
    assert_eq!(seen(&world, "p").await.0, None);
    create(
        &world,
        "tolerant",
        "1Gi",
        json!({
            "nodeSelector": {"kubernetes.io/hostname": "b"}, "tolerations": [{"operator": "Exists"}],
        }),
    )
    .await;
    assert_eq!(seen(&world, "tolerant").await.0.as_deref(), Some("b"));
    create(&world, "early", "1Gi", json!({"nodeSelector": {"kubernetes.io/hostname": "c"}})).await;
    assert_eq!(seen(&world, "early").await.0, None);
    world.add_node(&node("c")).await.unwrap();
    assert_eq!(seen(&world, "early").await.0.as_deref(), Some("c"));
}

#[tokio::test(start_paused = true)]
async fn a_sleeping_node_takes_no_pod_until_it_wakes() {
    let world = world(&[node("a")]).await;
    fall_asleep(&world.admin, "a", (world.now)()).await.unwrap();
    create(&world, "p", "1Gi", json!({})).await;
    assert_eq!(seen(&world, "p").await.0, None);
    wake_up(&world.admin, "a", (world.now)()).await.unwrap();
    assert_eq!(seen(&world, "p").await.0.as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_node_has_what_kubevirt_needs() {
    let world = world(&[node("a")]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let nodes: Api<Node> = Api::all(world.admin.clone());
    let made = nodes.get("a").await.unwrap();
    for label in [
        "kubevirt.io/schedulable",
        "cpu-model.node.kubevirt.io/Haswell",
        "machine-type.node.kubevirt.io/q35",
        "cpu-vendor.node.kubevirt.io/Intel",
    ] {
        assert_eq!(made.labels().get(label).map(String::as_str), Some("true"), "{label}");
    }
    let allocatable = made.status.unwrap().allocatable.unwrap();
    for device in ["kvm", "tun", "vhost-net"] {
        assert!(allocatable.contains_key(&format!("devices.kubevirt.io/{device}")), "{device}");
    }
    let pods: Api<Pod> = Api::namespaced(world.admin.clone(), "kubevirt");
    let handlers = pods.list(&ListParams::default().labels("kubevirt.io=virt-handler")).await.unwrap();
    assert_eq!(handlers.items.len(), 1);
    assert_eq!(handlers.items[0].spec.as_ref().unwrap().node_name.as_deref(), Some("a"));
}
