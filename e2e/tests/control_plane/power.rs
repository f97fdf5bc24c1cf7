//! The agent's power room with the chart's rights: real orders through the real API server, on a simulated machine.

#![allow(clippy::disallowed_methods, reason = "orders are dated by the real clock")]

use crate::world::{self, SOON, Setting};
use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use miyako_api::NodePower;
use miyako_api::node_power::{AgentStatus, WokenBy};
use miyako_e2e::control_plane::nodes::NewNode;
use miyako_e2e::control_plane::objects;
use miyako_e2e::installation::OPERATOR;
use miyako_e2e::scene::Scene;
use miyako_e2e::sleepers::power_role;
use miyako_e2e::wait::{Look, until};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

fn with_power() -> Setting {
    Setting { values: &["agent.power.enabled=true"], ..Setting::default() }
}

/// Orders a node to be as desired, from now on.
async fn order(scene: &Scene, node: &str, desired: &str, generation: i64) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let power = json!({
        "apiVersion": "miyako.dev/v1alpha1", "kind": "NodePower", "metadata": { "name": node },
        "spec": {
            "desired": desired, "generation": generation, "reason": "a test",
            "issuedAt": now, "expiresAt": now + Duration::from_secs(10),
        },
    });
    // Orders are the operator's: admission refuses them from anybody else.
    let operator = scene.stand().client_for_service_account(scene.namespace(), OPERATOR).await?;
    objects::apply(&operator, &[power]).await.map(drop)
}

/// What the node's agent says, once it is as expected.
async fn word(
    scene: &Scene,
    node: &str,
    what: &str,
    expected: impl Fn(&AgentStatus) -> bool,
) -> anyhow::Result<AgentStatus> {
    let powers: Api<NodePower> = Api::all(scene.admin());
    until(what, SOON, || async {
        let agent = powers.get(node).await?.status.and_then(|status| status.agent).unwrap_or_default();
        let said = format!("{agent:?}");
        Ok(Look::some(Some(agent).filter(&expected), said))
    })
    .await
}

/// An order is acknowledged before the machine sleeps, its outcome is told, KubeVirt's heartbeat is renewed, and nobody
/// obeys it again.
pub(crate) async fn an_order_is_carried_out_once(scene: Arc<Scene>) -> anyhow::Result<()> {
    world::furnish(&scene, with_power()).await?;
    // Nothing is scheduled any more, so nothing but DaemonSets' pods comes to a new node.
    let node = "sleeper";
    scene.add_nodes(&[NewNode::new(node)]).await?;
    order(&scene, node, "Awake", 1).await?;
    let host = power_role(&scene, node).await?;
    let first = word(&scene, node, "the agent takes note", |agent| agent.acknowledged_generation == Some(1)).await?;
    ensure!(first.boot_id.is_some() && first.obstacles.is_empty(), "{first:?}");
    let nodes: Api<Node> = Api::all(scene.admin());
    let stale = json!({ "metadata": {
        "annotations": { "kubevirt.io/heartbeat": "2026-01-02T03:04:05Z" },
        "labels": { "kubevirt.io/schedulable": "false" },
    }});
    nodes.patch(node, &PatchParams::default(), &Patch::Merge(&stale)).await?;

    order(&scene, node, "Suspended", 2).await?;
    let falling = |agent: &AgentStatus| agent.attempt == Some(2) && agent.acknowledged_generation == Some(2);
    word(&scene, node, "the order is acknowledged", falling).await?;
    let mut asleep = host.is_asleep();
    timeout(SOON, asleep.wait_for(|asleep| *asleep)).await.context("it does not sleep")?.map(drop)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    host.wake();

    let told =
        |agent: &AgentStatus| agent.last_sleep.as_ref().is_some_and(|sleep| sleep.kube_virt_after_millis.is_some());
    let back = word(&scene, node, "the agent tells how its node slept", told).await?;
    let slept = back.last_sleep.clone().context("told")?;
    ensure!(slept.generation == Some(2) && slept.woken_by == WokenBy::Request, "{back:?}");
    ensure!(back.attempt.is_none() && back.refusal.is_none() && back.resumed_at.is_some(), "{back:?}");
    let after = nodes.get(node).await?;
    ensure!(after.labels()["kubevirt.io/schedulable"] == "true", "{:?}", after.labels());
    ensure!(after.annotations()["kubevirt.io/heartbeat"] != "2026-01-02T03:04:05Z", "{:?}", after.annotations());

    // The same order with a new date, and then one that shows that the agent has looked.
    order(&scene, node, "Suspended", 2).await?;
    order(&scene, node, "Awake", 3).await?;
    word(&scene, node, "the agent takes note", |agent| agent.acknowledged_generation == Some(3)).await?;
    ensure!(host.sleeps() == 1, "it slept {} times", host.sleeps());
    Ok(())
}

/// A node with VMs refuses, whoever ordered it.
pub(crate) async fn a_node_with_vms_is_not_suspended(scene: Arc<Scene>) -> anyhow::Result<()> {
    let node = "shared-0";
    world::furnish(&scene, with_power()).await?;
    order(&scene, node, "Suspended", 1).await?;
    let host = power_role(&scene, node).await?;
    let refused = word(&scene, node, "the agent answers", |agent| agent.acknowledged_generation == Some(1)).await?;
    let why = refused.refusal.context("no refusal")?;
    ensure!(why.contains("virt-launcher-vm-0") && why.contains("drain the node"), "{why}");
    ensure!(host.sleeps() == 0, "it slept");
    Ok(())
}
