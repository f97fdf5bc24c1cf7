//! The cluster autoscaler, as far as it removes nodes of one group: those that have not answered for long.

use super::{Acts, Scene, annotated, labelled, name, unready_for};
use futures::{FutureExt as _, future::BoxFuture};

/// Its account.
const ACTOR: &str = "cluster-autoscaler";
/// `--scale-down-unready-time`, by default.
const UNREADY: i64 = 20 * 60;

/// One group of nodes, which may shrink to nothing.
#[derive(Debug)]
pub struct Autoscaler {
    /// Label and value of the group's nodes.
    pub group: (&'static str, &'static str),
}

impl Acts for Autoscaler {
    fn act<'a>(&'a mut self, scene: Scene<'a>) -> BoxFuture<'a, kube::Result<()>> {
        async move {
            for node in scene.nodes() {
                let mine = labelled(&node, self.group.0) == Some(self.group.1);
                let disabled = annotated(&node, "cluster-autoscaler.kubernetes.io/scale-down-disabled") == Some("true");
                let unready = unready_for(&node, scene.now).is_some_and(|seconds| seconds >= UNREADY);
                if mine && !disabled && unready {
                    let how = scene.how(name(&node));
                    scene.delete_node(ACTOR, name(&node)).await?;
                    scene.deeds.push(format!("the cluster autoscaler removed the {how} node {}", name(&node)));
                }
            }
            Ok(())
        }
        .boxed()
    }
}
