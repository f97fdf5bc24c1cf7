//! Karpenter, as far as it removes nodes of its own that have been empty for long.

use super::{Acts, Scene, annotated, labelled, name};
use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;

/// Its account.
const ACTOR: &str = "karpenter";
/// From the taint to the end of the node, in seconds.
const DRAINS: i64 = 30;

/// With one `consolidateAfter` for all NodePools.
#[derive(Debug)]
pub struct Karpenter {
    /// In seconds.
    pub consolidate_after: i64,
    /// Since when its nodes have been empty.
    pub empty: BTreeMap<String, Timestamp>,
}

impl Acts for Karpenter {
    fn act<'a>(&'a mut self, scene: Scene<'a>) -> BoxFuture<'a, kube::Result<()>> {
        async move {
            for node in scene.nodes() {
                let (name, now) = (name(&node).to_owned(), scene.now);
                let kept = annotated(&node, "karpenter.sh/do-not-disrupt") == Some("true");
                if labelled(&node, "karpenter.sh/nodepool").is_none() || kept || scene.busy(&name) {
                    self.empty.remove(&name);
                    continue;
                }
                let since = self.empty.entry(name.clone()).or_insert(now).as_second();
                let over = now.as_second() - since - self.consolidate_after;
                if over == 0 {
                    let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
                    taints.push(json!({"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}));
                    scene.patch_node(ACTOR, &name, json!({"spec": {"taints": taints}})).await?;
                } else if over >= DRAINS {
                    let how = scene.how(&name);
                    scene.delete_node(ACTOR, &name).await?;
                    scene.deeds.push(format!("Karpenter removed the {how} node {name}"));
                    self.empty.remove(&name);
                }
            }
            Ok(())
        }
        .boxed()
    }
}
