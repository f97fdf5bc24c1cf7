//! What is left on Nodes: the taint, the labels and the condition of nodes that are not simply awake.
//!
//! Nodes are woken before the operator goes (the chart's hook before an uninstall); what is found here was left by one
//! that could not be, or by an operator that died.

use super::CleanUpError;
use super::Left;
use crate::act::unmark;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use miyako_api::names::{manager, ours};
use miyako_core::model::NodeCondition;
use serde_json::json;

/// Nodes that one request lists: whole ones, because taints are not in the metadata.
const PAGE: u32 = 100;

/// Takes everything of ours off all nodes; says how many had anything.
pub(super) async fn run(client: &Client, left: &mut Left) -> Result<usize, CleanUpError> {
    let api: Api<Node> = Api::all(client.clone());
    let params = PatchParams { field_manager: Some(manager::NODE_POWER.into()), ..PatchParams::default() };
    let mut done = 0;
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let nodes = api.list(&page).await;
        let nodes = nodes.map_err(|source| CleanUpError::List { plural: "nodes".to_owned(), source })?;
        for node in &nodes.items {
            let mut answer = Ok(());
            if is_marked(node) {
                let patch = Patch::Merge(unmark(node));
                answer = api.patch(&node.name_any(), &params, &patch).await.map(drop);
            }
            if answer.is_ok() && has_condition(node) {
                let gone = json!({ "type": NodeCondition::TYPE, "$patch": "delete" });
                let patch = Patch::Strategic(json!({ "status": { "conditions": [gone] } }));
                answer = api.patch_status(&node.name_any(), &params, &patch).await.map(drop);
            }
            if is_marked(node) || has_condition(node) {
                done += left.judge(&node.metadata, answer);
            }
        }
        match nodes.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(done),
        }
    }
}

fn is_marked(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.into_iter().any(|taint| taint.key == ours::POWER)
        || node.labels().contains_key(ours::POWER)
        || node.annotations().contains_key(ours::OWN_LABELS)
}

fn has_condition(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == NodeCondition::TYPE)
}
