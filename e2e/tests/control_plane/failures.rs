//! What happens when parts fail or others are in need: a leader dies or freezes, the API server restarts, a node is
//! evacuated.

use crate::world::{self, Setting, World};
use anyhow::{Context as _, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{EvictParams, ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use miyako_api::kubevirt::VirtualMachineInstanceMigration;
use miyako_api::names::{kubevirt, ours};
use miyako_e2e::installation::{Replica, wait_for_leader};
use miyako_e2e::scene::Scene;
use miyako_e2e::wait::{Look, throughout, until};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// One of two replicas leads. It is killed: the other leads and does the work.
pub(crate) async fn leader_is_killed(scene: Arc<Scene>) -> anyhow::Result<()> {
    let world = World::begin(&scene, 2).await?;
    world.apply_policy(json!({ "mode": "Automatic" })).await?;
    let leader = wait_for_leader(&scene, &all(&world)).await?;
    leader.process().kill()?;
    let other = wait_for_leader(&scene, &others(&world, leader)).await?;
    world.overload("vm-0");
    world.wait_for_vm("vm-0", "dedicated-0").await?;
    ensure!(other.process().ended()?.is_none(), "the new leader has ended");
    world.nothing_was_forbidden(&scene)
}

/// The leader freezes past its lease in the middle of the work, the other takes over, and when the first one wakes up it
/// follows: the VM is moved once, and the lease stays where it went.
pub(crate) async fn leader_freezes(scene: Arc<Scene>) -> anyhow::Result<()> {
    let world = World::begin(&scene, 2).await?;
    world.apply_policy(json!({ "mode": "Automatic" })).await?;
    let leader = wait_for_leader(&scene, &all(&world)).await?;
    leader.process().pause()?;
    world.overload("vm-0");
    let other = wait_for_leader(&scene, &others(&world, leader)).await?;
    leader.process().resume()?;
    world.wait_for_vm("vm-0", "dedicated-0").await?;
    let leases: Api<Lease> = Api::namespaced(scene.admin(), scene.namespace());
    throughout("the lease stays where it went and nothing moves twice", Duration::from_secs(10), || async {
        let holder = leases.get(ours::LEASE).await?.spec.and_then(|spec| spec.holder_identity);
        let moves = moves_of(&world, "vm-0").await?;
        Ok(Look::holds(
            holder.as_deref() == Some(other.identity()) && moves == 1,
            format!("{holder:?} leads, {moves} migrations"),
        ))
    })
    .await?;
    ensure!(leader.process().ended()?.is_none(), "the one that froze has ended");
    Ok(())
}

/// The API server restarts while a VM is moving: nobody gives up, and the plan comes to its end.
pub(crate) async fn api_server_restarts(scene: Arc<Scene>) -> anyhow::Result<()> {
    // Slow enough that the restart comes in the middle.
    let world = World::begin_with(&scene, 1, Setting { bandwidth: 1e8, ..Setting::default() }).await?;
    world.apply_policy(json!({ "mode": "Automatic", "migration": { "mode": "PreCopy" } })).await?;
    world.overload("vm-0");
    until("vm-0 begins to move", world::SOON, || async {
        let moves = moves_of(&world, "vm-0").await?;
        Ok(Look::holds(moves > 0, "not yet"))
    })
    .await?;
    scene.stand().restart_api_server().await?;
    world.wait_for_vm("vm-0", "dedicated-0").await?;
    world
        .wait_for_plan(miyako_api::consolidation_plan::PlanPhase::Succeeded, |plan| world::moves(plan, "vm-0"))
        .await?;
    for replica in &world.replicas {
        ensure!(replica.process().ended()?.is_none(), "{} has ended", replica.identity());
    }
    ensure!(moves_of(&world, "vm-0").await? == 1, "vm-0 was moved more than once");
    Ok(())
}

/// While an evacuation waits for one of KubeVirt's slots, we begin nothing; afterwards we do.
pub(crate) async fn evacuation_goes_first(scene: Arc<Scene>) -> anyhow::Result<()> {
    let migrations = json!({ "parallelMigrationsPerCluster": 1, "parallelOutboundMigrationsPerNode": 1 });
    let world = World::begin_with(&scene, 1, Setting { migrations, bandwidth: 1e8, ..Setting::default() }).await?;
    // A person's migration holds the only slot.
    let person: VirtualMachineInstanceMigration = serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
        "metadata": { "name": "by-hand" },
        "spec": { "vmiName": "vm-3", "addedNodeSelector": { "kubernetes.io/hostname": "shared-1" } },
    }))?;
    world.migrations().create(&PostParams::default(), &person).await?;
    let launcher = launcher_of(&scene, &world, "vm-2").await?;
    let pods: Api<Pod> = Api::namespaced(scene.admin(), scene.namespace());
    let eviction = tokio::spawn(async move { pods.evict(&launcher, &EvictParams::default()).await });
    until("vm-2 is to be evacuated", world::SOON, || async {
        let status = world.vms().get("vm-2").await?.status.unwrap_or_default();
        Ok(Look::holds(status.evacuation_node_name.is_some(), "not yet"))
    })
    .await?;
    world.apply_policy(json!({ "mode": "Automatic" })).await?;
    // These two alone overload their node, also when the others have gone.
    world.set_load("vm-0", 1.95);
    world.set_load("vm-1", 1.8);

    until("vm-0 begins to move, once the evacuation has its slot", world::SOON, || async {
        let all = world.migrations().list(&ListParams::default()).await?.items;
        let ours = all.iter().any(|one| one.spec.vmi_name == "vm-0");
        let evacuation = all.iter().find(|one| one.annotations().contains_key(kubevirt::EVACUATION_MIGRATION));
        let phase = evacuation.and_then(|one| one.status.as_ref()?.phase.clone());
        let waits = matches!(phase.as_deref(), None | Some("" | "Pending"));
        Ok(if ours {
            Look::Done(ensure_not(waits, &format!("we began while the evacuation was {phase:?}")))
        } else {
            Look::NotYet(format!("the evacuation is {phase:?}"))
        })
    })
    .await??;
    world.wait_for_vm("vm-0", "dedicated-0").await?;
    eviction.abort();
    Ok(())
}

fn ensure_not(bad: bool, what: &str) -> anyhow::Result<()> {
    ensure!(!bad, "{what}");
    Ok(())
}

fn all(world: &World) -> Vec<&Replica> {
    world.replicas.iter().collect()
}

fn others<'a>(world: &'a World, leader: &Replica) -> Vec<&'a Replica> {
    world.replicas.iter().filter(|replica| replica.identity() != leader.identity()).collect()
}

async fn moves_of(world: &World, vm: &str) -> anyhow::Result<usize> {
    let migrations = world.migrations().list(&ListParams::default()).await?.items;
    Ok(migrations.iter().filter(|one| one.spec.vmi_name == vm).count())
}

async fn launcher_of(scene: &Scene, world: &World, vm: &str) -> anyhow::Result<String> {
    let uid = world.vms().get(vm).await?.uid().context("a VMI without a uid")?;
    let pods: Api<Pod> = Api::namespaced(scene.admin(), scene.namespace());
    let launchers = ListParams::default().labels(&format!("{}={uid}", kubevirt::CREATED_BY));
    let pod = pods.list(&launchers).await?.items.into_iter().next().context("no launcher")?;
    Ok(pod.name_any())
}
