//! The main job: a busy VM leaves an overloaded node, and comes back when it is idle.

use crate::world::{self, World};
use anyhow::ensure;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use miyako_api::ConsolidationPolicy;
use miyako_api::consolidation_plan::PlanPhase;
use miyako_api::kubevirt::VirtualMachineInstanceMigration;
use miyako_api::names::{kubevirt::MIGRATION_FINALIZER, ours, reason};
use miyako_e2e::installation::OPERATOR;
use miyako_e2e::scene::Scene;
use miyako_e2e::wait::{Look, until};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Overload → migration → moved → Event, plan and condition; then idle → back.
pub(crate) async fn overload_and_back(scene: Arc<Scene>) -> anyhow::Result<()> {
    let world = World::begin(&scene, 1).await?;
    world.apply_policy(json!({ "mode": "Automatic" })).await?;
    world.overload("vm-0");
    let migration = until("a migration of vm-0 is created", world::SOON, || async {
        let migrations = world.migrations().list(&ListParams::default()).await?.items;
        Ok(Look::some(migrations.into_iter().find(|one| one.spec.vmi_name == "vm-0"), "none"))
    })
    .await?;
    is_ours(&migration)?;
    world.wait_for_vm("vm-0", "dedicated-0").await?;

    let plan = world.wait_for_plan(PlanPhase::Succeeded, |plan| world::moves(plan, "vm-0")).await?;
    ensure!(plan.spec.created_for.starts_with("Overload"), "another reason: {}", plan.spec.created_for);
    ensure!(
        migration.labels().get(ours::PLAN).is_some_and(|name| *name == plan.name_any()),
        "the migration is of another plan: {:?}",
        migration.labels()
    );
    wait_for_event(&scene, "VirtualMachineInstance", "vm-0", reason::MIGRATED).await?;
    ready(&world).await?;

    world.set_load("vm-0", 0.1);
    until("vm-0 is back on a shared node", world::SOON, || async {
        let node = world.vms().get("vm-0").await?.status.and_then(|status| status.node_name).unwrap_or_default();
        Ok(Look::holds(node.starts_with("shared-"), node))
    })
    .await?;
    world.wait_for_plan(PlanPhase::Succeeded, |plan| plan.spec.created_for.starts_with("Idle")).await?;
    world.nothing_was_forbidden(&scene)
}

/// While nothing happens the operator asks the API server for next to nothing: its lease, and now and then a status.
pub(crate) async fn quiet_cluster_costs_little(scene: Arc<Scene>) -> anyhow::Result<()> {
    const WATCHED_FOR: Duration = Duration::from_secs(30);
    let world = World::begin(&scene, 1).await?;
    world.apply_policy(json!({ "mode": "Automatic" })).await?;
    world.calm();
    ready(&world).await?;
    // What the beginning costs is another matter.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = scene.stand().audit()?.len();
    tokio::time::sleep(WATCHED_FOR).await;
    let log = scene.stand().audit()?;
    let (mut renewals, mut writes, mut reads) = (0, Vec::new(), Vec::new());
    for request in log.of(scene.namespace(), OPERATOR, before) {
        let lease = request.object_ref.as_ref().is_some_and(|object| object.resource.as_deref() == Some("leases"));
        match (lease, request.writes()) {
            (true, _) => renewals += 1,
            (false, true) => writes.push((&request.verb, &request.uri)),
            // A watch is logged when it ends, every five to ten minutes.
            (false, false) if request.verb == "watch" => {}
            (false, false) => reads.push((&request.verb, &request.uri)),
        }
    }
    print!("{renewals} of the lease, {} writes, {} reads in {WATCHED_FOR:?}; ", writes.len(), reads.len());
    ensure!(renewals <= 14, "the lease costs {renewals} requests in {WATCHED_FOR:?}");
    ensure!(writes.len() <= 4, "writes for nothing: {writes:?}");
    ensure!(reads.len() <= 2, "reads for nothing: {reads:?}");
    Ok(())
}

fn is_ours(migration: &VirtualMachineInstanceMigration) -> anyhow::Result<()> {
    let labels = migration.labels();
    ensure!(labels.get(ours::MANAGED_BY).map(String::as_str) == Some(ours::MIYAKO), "labels: {labels:?}");
    ensure!(migration.finalizers().iter().any(|name| name == MIGRATION_FINALIZER), "virt-api did not see it");
    let target = migration.spec.added_node_selector.get("kubernetes.io/hostname");
    ensure!(target.map(String::as_str) == Some("dedicated-0"), "it goes to {target:?}");
    Ok(())
}

async fn wait_for_event(scene: &Scene, kind: &str, name: &str, reason: &str) -> anyhow::Result<()> {
    let events: Api<Event> = Api::namespaced(scene.admin(), scene.namespace());
    until(&format!("an Event {reason} on {name}"), Duration::from_secs(30), || async {
        let told: Vec<_> = events
            .list(&ListParams::default())
            .await?
            .into_iter()
            .filter(|event| {
                event
                    .regarding
                    .as_ref()
                    .is_some_and(|about| about.kind.as_deref() == Some(kind) && about.name.as_deref() == Some(name))
            })
            .filter_map(|event| event.reason)
            .collect();
        Ok(Look::holds(told.iter().any(|told| told == reason), format!("{told:?}")))
    })
    .await
}

async fn ready(world: &World) -> anyhow::Result<()> {
    until("the policy is Ready", world::SOON, || async {
        let policy: ConsolidationPolicy = world.policies().get(world::POLICY).await?;
        let conditions = policy.status.map(|status| status.conditions).unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
        let holds = ready
            .is_some_and(|ready| ready.status == "True" && ready.observed_generation == policy.metadata.generation);
        Ok(Look::holds(holds, format!("{conditions:?}")))
    })
    .await
}
