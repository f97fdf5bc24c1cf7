//! Cluster API: a MachineSet that shrinks removes machines first whose node does not answer.

use super::{Acts, Scene, labelled, name, unready_for};
use futures::{FutureExt as _, future::BoxFuture};

/// A MachineSet over the nodes of a group.
#[derive(Debug)]
pub struct ClusterApi {
    /// Label and value of its nodes.
    pub group: (&'static str, &'static str),
    /// So many nodes it is to have.
    pub replicas: usize,
}

impl Acts for ClusterApi {
    fn act<'a>(&'a mut self, scene: Scene<'a>) -> BoxFuture<'a, kube::Result<()>> {
        async move {
            let mut nodes = scene.nodes();
            nodes.retain(|node| labelled(node, self.group.0) == Some(self.group.1));
            if nodes.len() <= self.replicas {
                return Ok(());
            }
            nodes.sort_by_key(|node| std::cmp::Reverse(unready_for(node, scene.now)));
            if let Some(first) = nodes.first() {
                let how = scene.how(name(first));
                scene.delete_node("capi", name(first)).await?;
                scene.deeds.push(format!("Cluster API removed the {how} node {}", name(first)));
            }
            Ok(())
        }
        .boxed()
    }
}
