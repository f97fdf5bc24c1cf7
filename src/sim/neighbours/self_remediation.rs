//! Self Node Remediation by itself: its agent on each node reboots the node when it could not reach the API server for a
//! while. After a resume that is so where the network takes long to come back.

use super::{Acts, Scene, name};
use futures::{FutureExt as _, future::BoxFuture};
use std::collections::BTreeSet;

/// On machines whose network takes longer to come back than the agents' patience.
#[derive(Debug, Default)]
pub struct SelfRemediation {
    asleep: BTreeSet<String>,
}

/// How long such a reboot takes, in seconds.
const REBOOTS: i64 = 45;

impl Acts for SelfRemediation {
    fn act<'a>(&'a mut self, scene: Scene<'a>) -> BoxFuture<'a, kube::Result<()>> {
        async move {
            for node in scene.nodes() {
                let name = name(&node);
                if scene.machines.is_asleep(name) {
                    self.asleep.insert(name.to_owned());
                } else if self.asleep.remove(name) {
                    scene.machines.reboot(name, REBOOTS, scene.now).await?;
                    scene.deeds.push(format!("the agent of {name} rebooted it"));
                }
            }
            Ok(())
        }
        .boxed()
    }
}
