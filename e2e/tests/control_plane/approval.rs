//! `mode: Recommend`: a plan waits for a person, who approves in their own name; it ends by itself when it is no
//! longer wished.

use crate::world::{self, World};
use anyhow::{Context as _, ensure};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use miyako_api::ConsolidationPlan;
use miyako_api::consolidation_plan::PlanPhase;
use miyako_e2e::control_plane::objects;
use miyako_e2e::scene::Scene;
use miyako_e2e::wait::{Look, throughout};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A recommended plan moves nothing until jane approves it; nobody can approve in another's name.
pub(crate) async fn approve(scene: Arc<Scene>) -> anyhow::Result<()> {
    let world = World::begin(&scene, 1).await?;
    world.apply_policy(json!({ "mode": "Recommend" })).await?;
    world.overload("vm-0");
    let plan = world.wait_for_plan(PlanPhase::Proposed, |plan| world::moves(plan, "vm-0")).await?;
    throughout("nothing moves without approval", Duration::from_secs(5), || async {
        let migrations = world.migrations().list(&ListParams::default()).await?.items;
        Ok(Look::holds(migrations.is_empty(), format!("{migrations:?}")))
    })
    .await?;

    let jane = editor(&scene, "jane").await?;
    let refused = approve_as(&jane, &plan, "john").await.err().context("jane approved in john's name")?;
    ensure!(refused.to_string().contains("approve in your own name: set spec.approvedBy to jane"), "{refused}");
    approve_as(&jane, &plan, "jane").await?;
    world.wait_for_plan(PlanPhase::Succeeded, |done| done.name_any() == plan.name_any()).await?;
    world.wait_for_vm("vm-0", "dedicated-0").await?;
    world.nothing_was_forbidden(&scene)
}

/// When the VM of a plan goes and its node is still overloaded, the plan gives way to a new one; when all is quiet,
/// that one expires.
pub(crate) async fn supersede_and_expire(scene: Arc<Scene>) -> anyhow::Result<()> {
    let world = World::begin(&scene, 1).await?;
    world.apply_policy(json!({ "mode": "Recommend" })).await?;
    for (vm, cores) in [("vm-0", 1.9), ("vm-1", 1.7), ("vm-2", 1.1), ("vm-3", 1.1)] {
        world.agents.set(vm, cores);
    }
    let first = world.wait_for_plan(PlanPhase::Proposed, |plan| world::moves(plan, "vm-0")).await?;
    world.vms().delete("vm-0", &DeleteParams::default()).await?;
    let second = world.wait_for_plan(PlanPhase::Proposed, |plan| world::moves(plan, "vm-1")).await?;
    let over = world.wait_for_plan(PlanPhase::Superseded, |plan| plan.name_any() == first.name_any()).await?;
    let by = over.status.and_then(|status| status.superseded_by);
    ensure!(by.as_deref() == Some(second.name_any().as_str()), "superseded by {by:?}");

    world.calm();
    world.wait_for_plan(PlanPhase::Expired, |plan| plan.name_any() == second.name_any()).await?;
    let migrations = world.migrations().list(&ListParams::default()).await?.items;
    ensure!(migrations.is_empty(), "something moved without approval: {migrations:?}");
    world.nothing_was_forbidden(&scene)
}

/// A person with the chart's role for editors.
pub(crate) async fn editor(scene: &Scene, user: &str) -> anyhow::Result<Client> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": format!("miyako-edit-{user}"), "labels": { "app.kubernetes.io/name": "miyako" } },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "miyako-edit" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    });
    objects::apply(&scene.admin(), &[binding]).await?;
    scene.stand().client_for_user(user, &[]).await
}

async fn approve_as(person: &Client, plan: &ConsolidationPlan, name: &str) -> kube::Result<ConsolidationPlan> {
    let plans: Api<ConsolidationPlan> = Api::all(person.clone());
    let patch = json!({ "spec": { "approved": true, "approvedBy": name } });
    plans.patch(&plan.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await
}
