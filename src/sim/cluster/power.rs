//! How a sleeping node looks to everybody else: its kubelet says nothing any more. Nobody in this stand suspends nodes
//! by itself; a stand that wants sleeping nodes says so.

use super::nodes::ready;
use crate::sim::kubevirt::time;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

/// The node falls asleep: not ready, and tainted as unreachable once its lease has lapsed.
///
/// # Errors
/// When the API server refuses.
pub async fn fall_asleep(user: &Client, node: &str, now: Timestamp) -> kube::Result<()> {
    let key = "node.kubernetes.io/unreachable";
    let taints = json!([
        {"key": key, "effect": "NoSchedule", "timeAdded": time(now)},
        {"key": key, "effect": "NoExecute", "timeAdded": time(now)},
    ]);
    patch(user, node, taints, ready(false, now)).await
}

/// The node is awake again.
///
/// # Errors
/// When the API server refuses.
pub async fn wake_up(user: &Client, node: &str, now: Timestamp) -> kube::Result<()> {
    patch(user, node, json!([]), ready(true, now)).await
}

async fn patch(user: &Client, node: &str, unreachable: Value, ready: Value) -> kube::Result<()> {
    let nodes: Api<Node> = Api::all(user.clone());
    let old = nodes.get(node).await?;
    let mut taints: Vec<Value> = old
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
        .filter(|taint| taint.key != "node.kubernetes.io/unreachable")
        .map(|taint| json!(taint))
        .collect();
    taints.extend(unreachable.as_array().cloned().unwrap_or_default());
    nodes.patch(node, &PatchParams::default(), &Patch::Merge(json!({"spec": {"taints": taints}}))).await?;
    let status = json!({"status": {"conditions": [ready]}});
    nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}
