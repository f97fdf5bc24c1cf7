//! Who may write what into a NodePower, besides the operator and the node's agent: people ask, wakers tell.

use crate::admission::{Attempt, Trial};
use crate::approval::bind;
use crate::world::{self, Setting};
use miyako_e2e::control_plane::objects;
use miyako_e2e::installation::WAKER;
use miyako_e2e::scene::Scene;
use serde_json::{Value, json};
use std::sync::Arc;

use Attempt::{Create, Delete, Patch as Change, PatchStatus};

const NODE: &str = "shared-0";

fn node_power(name: &str) -> Value {
    json!({
        "apiVersion": "miyako.dev/v1alpha1", "kind": "NodePower", "metadata": { "name": name },
        "spec": {
            "desired": "Awake", "generation": 1, "reason": "a test",
            "issuedAt": "2026-01-02T03:04:05Z", "expiresAt": "2026-01-02T03:04:15Z",
        },
    })
}

/// A person asks by an annotation; orders are the operator's alone, even where the person may write anything.
pub(crate) async fn people_ask(scene: Arc<Scene>) -> anyhow::Result<()> {
    world::furnish(&scene, Setting::default()).await?;
    objects::apply(&scene.admin(), &[node_power(NODE)]).await?;
    bind(&scene, "paul", "miyako-power").await?;
    let asks = json!({ "metadata": { "annotations": { "miyako.dev/request": "wake paul 1" } } });
    let order = json!({ "spec": { "desired": "Suspended", "generation": 2 } });

    let mut trial = Trial::new(&scene.admin(), "miyako.dev", "v1alpha1", "NodePower", "").await?;
    trial.in_force(Change(NODE, order.clone())).await?;
    trial.refuses(Change(NODE, order.clone()), "an admin's order", "orders in a NodePower are the operator's").await;
    trial.takes(Change(NODE, asks.clone()), "an admin's request").await;
    trial.verdict()?;

    let paul = scene.stand().client_for_user("paul", &[]).await?;
    let mut trial = Trial::new(&paul, "miyako.dev", "v1alpha1", "NodePower", "").await?;
    trial.takes(Change(NODE, asks), "his request").await;
    trial.refuses(Change(NODE, order), "his order", "orders in a NodePower are the operator's").await;
    let phase = json!({ "status": { "phase": "Awake" } });
    trial.refuses(PatchStatus(NODE, phase), "the status", "forbidden").await;
    trial.refuses(Create(node_power("shared-1")), "a new one", "forbidden").await;
    trial.refuses(Delete(NODE), "deleting it", "forbidden").await;
    trial.verdict()
}

/// The waker writes `status.waker` of any NodePower, and nothing else.
pub(crate) async fn wakers_tell(scene: Arc<Scene>) -> anyhow::Result<()> {
    world::furnish(&scene, Setting { values: &["waker.enabled=true"], ..Setting::default() }).await?;
    objects::apply(&scene.admin(), &[node_power(NODE)]).await?;
    let waker = scene.stand().client_for_service_account(scene.namespace(), WAKER).await?;
    let mut trial = Trial::new(&waker, "miyako.dev", "v1alpha1", "NodePower", "").await?;
    let phase = json!({ "status": { "phase": "Suspended" } });
    trial.in_force(PatchStatus(NODE, phase.clone())).await?;
    let told = json!({ "generation": 1, "by": "waker-0", "at": "2026-01-02T03:04:05Z", "outcome": "Sent" });
    trial.takes(PatchStatus(NODE, json!({ "status": { "waker": told } })), "its own word").await;
    trial.refuses(PatchStatus(NODE, phase), "the operator's part", "only status.waker").await;
    let agent = json!({ "status": { "agent": { "acknowledgedGeneration": 1 } } });
    trial.refuses(PatchStatus(NODE, agent), "the agent's part", "only status.waker").await;
    trial.refuses(Change(NODE, json!({ "spec": { "desired": "Suspended" } })), "an order", "forbidden").await;
    trial.refuses(Delete(NODE), "deleting it", "forbidden").await;
    trial.verdict()?;

    let mut trial = Trial::new(&waker, "", "v1", "Node", "").await?;
    let label = json!({ "metadata": { "labels": { "miyako.dev/power": "asleep" } } });
    trial.refuses(Change(NODE, label), "a node's label", "forbidden").await;
    trial.verdict()
}
