//! `mode: Recommend`: a plan waits for a person, who approves in their own name; it ends by itself when it is no
//! longer wished.

use crate::world::{self, World};
use anyhow::{Context as _, ensure};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use miyako_api::ConsolidationPlan;
use miyako_api::consolidation_plan::PlanPhase;
use miyako_e2e::child::Program;
use miyako_e2e::control_plane::objects;
use miyako_e2e::scene::Scene;
use miyako_e2e::wait::{Look, throughout};
use serde_json::{Value, json};
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
    explain_as_amy(&scene, &world).await?;
    let said = miyako(&scene, "jane", &["approve", &plan.name_any()]).await?;
    ensure!(said.contains("approved by jane"), "{said}");
    let said = miyako(&scene, "jane", &["approve", "--all", "--output", "json"]).await?;
    let approvals: Value = serde_json::from_str(&said).context(said)?;
    ensure!(approvals == json!({ "approvedBy": "jane", "plans": [] }), "{approvals}");
    world.wait_for_plan(PlanPhase::Succeeded, |done| done.name_any() == plan.name_any()).await?;
    world.wait_for_vm("vm-0", "dedicated-0").await?;
    world.nothing_was_forbidden(&scene)
}

/// amy may ask why, and nothing else. Loads are not in the API, so some of the answer is the operator's.
async fn explain_as_amy(scene: &Scene, world: &World) -> anyhow::Result<()> {
    bind(scene, "amy", "miyako-explain").await?;
    let vm = format!("{}/vm-1", scene.namespace());
    let alone = miyako(scene, "amy", &["explain", "vm", &vm, "--namespace", scene.namespace()]).await?;
    ensure!(alone.contains("--operator-url asks it") && alone.contains("shared-0"), "{alone}");
    let page = world.replicas.first().context("a replica runs")?.page();
    let asked = ["explain", "vm", &vm, "--namespace", scene.namespace(), "--operator-url", &page, "--output", "json"];
    let said = miyako(scene, "amy", &asked).await?;
    let told: Value = serde_json::from_str(&said).context(said)?;
    let says = told["says"].as_str().unwrap_or_default();
    ensure!(says.starts_with("It stays: its node is overloaded"), "{told}");
    ensure!(miyako(scene, "amy", &["approve", "--all"]).await.is_err(), "amy may only ask");
    Ok(())
}

/// Runs the command line as a person and returns what it printed.
async fn miyako(scene: &Scene, user: &str, words: &[&str]) -> anyhow::Result<String> {
    let kubeconfig = scene.stand().kubeconfig_for_user(user, &[])?;
    let name = format!("{}-miyako-{user}", scene.namespace());
    let mut program = Program::new(name, env!("CARGO_BIN_EXE_miyako-under-test")).env("KUBECONFIG", kubeconfig);
    for word in words {
        program = program.arg(*word);
    }
    scene.run(&program, world::SOON).await
}

/// When the VM of a plan goes and its node is still overloaded, the plan gives way to a new one; when all is quiet,
/// that one expires.
pub(crate) async fn supersede_and_expire(scene: Arc<Scene>) -> anyhow::Result<()> {
    let world = World::begin(&scene, 1).await?;
    world.apply_policy(json!({ "mode": "Recommend" })).await?;
    for (vm, cores) in [("vm-0", 1.9), ("vm-1", 1.7), ("vm-2", 1.1), ("vm-3", 1.1)] {
        world.set_load(vm, cores);
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
    bind(scene, user, "miyako-edit").await?;
    scene.stand().client_for_user(user, &[]).await
}

/// Gives a person one of the chart's roles.
pub(crate) async fn bind(scene: &Scene, user: &str, role: &str) -> anyhow::Result<()> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": format!("{role}-{user}"), "labels": { "app.kubernetes.io/name": "miyako" } },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    });
    objects::apply(&scene.admin(), &[binding]).await?;
    Ok(())
}

async fn approve_as(person: &Client, plan: &ConsolidationPlan, name: &str) -> kube::Result<ConsolidationPlan> {
    let plans: Api<ConsolidationPlan> = Api::all(person.clone());
    let patch = json!({ "spec": { "approved": true, "approvedBy": name } });
    plans.patch(&plan.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await
}
