//! What was seen live of KubeVirt 1.9 (`docs/design/0001-kubevirt-facts.md`), one test for each fact, on the in-memory
//! API server under paused time.

mod aborts;
mod evacuations;
mod faults;
mod lagging;
mod limits;
mod modes;
mod objects;
mod phases;
mod recorded;
mod refused_targets;
mod replay;
mod retention;
mod schemas;

use crate::sim::{
    cluster::NodeSpec,
    kubevirt::create::VmSpec,
    world::{World, WorldSettings},
};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use miyako_api::{
    kubevirt::{MigrationState, VirtualMachineInstance, VirtualMachineInstanceMigration as Migration},
    names::kubernetes::HOSTNAME,
};
use miyako_core::model::Bytes;
use serde_json::{Value, json};
use std::time::Duration;

const NAMESPACE: &str = "vms";

/// A world with nodes `n1`, `n2`, … of 16 cores and 64 GiB.
async fn world(nodes: usize) -> World {
    world_of(nodes, WorldSettings::default()).await
}

async fn world_of(nodes: usize, settings: WorldSettings) -> World {
    let world = World::start(settings).await.unwrap();
    for index in 1..=nodes {
        world.add_node(&NodeSpec::new(&format!("n{index}"), 16, Bytes::gib(64))).await.unwrap();
    }
    world
}

fn vm(name: &str) -> VmSpec {
    VmSpec::new(NAMESPACE, name, 1, Bytes::gib(1))
}

async fn add_vm(world: &World, name: &str, node: &str) {
    world.add_vm(&vm(name), node).await.unwrap();
}

fn migrations(world: &World) -> Api<Migration> {
    Api::namespaced(world.server.client("miyako"), NAMESPACE)
}

fn vmis(world: &World) -> Api<VirtualMachineInstance> {
    Api::namespaced(world.server.client("miyako"), NAMESPACE)
}

fn pods(world: &World) -> Api<Pod> {
    Api::namespaced(world.admin.clone(), NAMESPACE)
}

/// Asks for a migration of a VM to a node, as the operator does; named after both unless there is a third part.
async fn ask(world: &World, name: &str, vm: &str, target: Option<&str>) -> kube::Result<Migration> {
    let selector = target.map_or_else(|| json!({}), |node| json!({HOSTNAME: node}));
    let wanted = serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
        "metadata": {"name": name},
        "spec": {"vmiName": vm, "addedNodeSelector": selector},
    }))
    .unwrap();
    migrations(world).create(&PostParams::default(), &wanted).await
}

async fn cancel(world: &World, name: &str) {
    migrations(world).delete(name, &DeleteParams::default()).await.unwrap();
}

async fn sleep(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Waits until something holds; an hour of simulated time is enough for everything here.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    for look_number in 0..36_000 {
        if let Some(found) = look().await {
            return found;
        }
        // Closely at first, where fractions of a second are told apart.
        tokio::time::sleep(Duration::from_millis(if look_number < 200 { 10 } else { 100 })).await;
    }
    panic!("never came to pass: {what}");
}

async fn phase(world: &World, migration: &str) -> Option<String> {
    let migration = migrations(world).get_opt(migration).await.unwrap()?;
    Some(migration.status.unwrap_or_default().phase.unwrap_or_default())
}

async fn until_phase(world: &World, migration: &str, wanted: &str) {
    until(wanted, || async { (phase(world, migration).await.as_deref() == Some(wanted)).then_some(()) }).await;
}

async fn until_gone(world: &World, migration: &str) {
    until("gone", || async { phase(world, migration).await.is_none().then_some(()) }).await;
}

async fn vmi(world: &World, name: &str) -> VirtualMachineInstance {
    vmis(world).get(name).await.unwrap()
}

async fn state(world: &World, vm: &str) -> MigrationState {
    vmi(world, vm).await.status.unwrap().migration_state.unwrap_or_default()
}

async fn node_of(world: &World, vm: &str) -> String {
    vmi(world, vm).await.status.unwrap().node_name.unwrap_or_default()
}

/// The launchers of a VM: name, phase and node.
async fn launchers(world: &World, vm: &str) -> Vec<(String, String, String)> {
    let list = pods(world).list(&ListParams::default().labels(&format!("vm.kubevirt.io/name={vm}"))).await.unwrap();
    let text = |text: Option<String>| text.unwrap_or_default();
    list.into_iter()
        .map(|pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            (pod.name_any(), text(pod.status.and_then(|status| status.phase)), text(node))
        })
        .collect()
}

async fn active(world: &World, vm: &str) -> usize {
    launchers(world, vm)
        .await
        .iter()
        .filter(|(_, phase, _)| matches!(phase.as_str(), "Running" | "Pending" | ""))
        .count()
}

/// Moves a VM and waits until it is all over, the old launcher included.
async fn moved(world: &World, name: &str, vm: &str, target: &str) {
    ask(world, name, vm, Some(target)).await.unwrap();
    until_phase(world, name, "Succeeded").await;
    until("one launcher", || async { (active(world, vm).await == 1).then_some(()) }).await;
}

/// Reasons of all Events about an object.
async fn reasons(world: &World, about: &str) -> Vec<String> {
    let events: Api<Event> = Api::namespaced(world.admin.clone(), NAMESPACE);
    let all = events.list(&ListParams::default()).await.unwrap();
    let about = |event: &Event| event.involved_object.name.as_deref() == Some(about);
    all.into_iter().filter(about).filter_map(|event| event.reason).collect()
}

/// What a person with all rights patches.
async fn patch_vmi(world: &World, name: &str, patch: Value) {
    use kube::api::{Patch, PatchParams};
    let api: Api<VirtualMachineInstance> = Api::namespaced(world.kubevirt.virt_handler.clone(), NAMESPACE);
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// Time that has passed since a moment, in simulated seconds.
fn since(start: tokio::time::Instant) -> f64 {
    start.elapsed().as_secs_f64()
}
