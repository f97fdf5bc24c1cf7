//! kured: nodes that ask for a reboot get it, one after the other. Its pod runs on the node itself, so nothing happens to one
//! that sleeps until it is awake.

use super::{Acts, Scene, name, unready_for};
use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeSet;

const ACTOR: &str = "kured";
const IN_PROGRESS: &str = "weave.works/kured-reboot-in-progress";
const DRAINS: i64 = 30;
const REBOOTS: i64 = 60;

/// The nodes on which `/var/run/reboot-required` is there.
#[derive(Debug, Default)]
pub struct Kured {
    /// They wait for a reboot.
    pub needs_reboot: BTreeSet<String>,
    /// Who has the lock, since when, and whether it was rebooted.
    pub lock: Option<(String, Timestamp, bool)>,
}

impl Kured {
    /// These nodes ask for a reboot.
    #[must_use]
    pub fn of(nodes: &[&str]) -> Self {
        Self { needs_reboot: nodes.iter().map(|&node| node.to_owned()).collect(), lock: None }
    }
}

impl Acts for Kured {
    fn act<'a>(&'a mut self, scene: Scene<'a>) -> BoxFuture<'a, kube::Result<()>> {
        async move {
            let nodes = scene.nodes();
            let runs = |node: &str| {
                let found = nodes.iter().find(|one| name(one) == node);
                found.is_some_and(|node| unready_for(node, scene.now).is_none()) && !scene.machines.is_asleep(node)
            };
            let Some((node, since, rebooted)) = &mut self.lock else {
                if let Some(next) = self.needs_reboot.iter().find(|node| runs(node)).cloned() {
                    let began = json!({
                        "metadata": {"annotations": {IN_PROGRESS: scene.now.to_string()}},
                        "spec": {"unschedulable": true},
                    });
                    scene.patch_node(ACTOR, &next, began).await?;
                    self.lock = Some((next, scene.now, false));
                }
                return Ok(());
            };
            let node = node.clone();
            if *rebooted && runs(&node) {
                let done = json!({"metadata": {"annotations": {IN_PROGRESS: null}}, "spec": {"unschedulable": false}});
                scene.patch_node(ACTOR, &node, done).await?;
                scene.deeds.push(format!("kured rebooted {node}"));
                self.needs_reboot.remove(&node);
                self.lock = None;
            } else if !*rebooted && scene.now.as_second() - since.as_second() >= DRAINS {
                if scene.machines.is_asleep(&node) {
                    scene.deeds.push(format!("kured found {node} asleep in the middle of its work"));
                }
                *rebooted = true;
                scene.machines.reboot(&node, REBOOTS, scene.now).await?;
            }
            Ok(())
        }
        .boxed()
    }
}
