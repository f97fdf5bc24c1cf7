//! Metal3's baremetal-operator: each host's power is looked at now and then and set to what `spec.online` says.

use super::{Acts, Scene, annotated, definition, name};
use futures::{FutureExt as _, future::BoxFuture};
use serde_json::Value;

/// Between two looks at a host, in seconds.
const POLL: i64 = 60;

/// It finds its hosts' machines by their name.
#[derive(Debug, Default)]
pub struct Metal3;

impl Acts for Metal3 {
    fn definitions(&self) -> Vec<Value> {
        vec![definition("metal3.io", "Namespaced", "v1alpha1", "BareMetalHost")]
    }

    fn act<'a>(&'a mut self, scene: Scene<'a>) -> BoxFuture<'a, kube::Result<()>> {
        async move {
            if scene.now.as_second() % POLL != 0 {
                return Ok(());
            }
            for host in scene.objects("metal3.io", "baremetalhosts") {
                let left_alone = ["baremetalhost.metal3.io/detached", "baremetalhost.metal3.io/paused"]
                    .iter()
                    .any(|key| annotated(&host, key).is_some());
                let machine = name(&host);
                if host["spec"]["online"] == true && !left_alone && scene.machines.is_asleep(machine) {
                    scene.machines.press_button(machine, scene.now);
                    scene.deeds.push(format!("Metal3 turned {machine} on"));
                }
            }
            Ok(())
        }
        .boxed()
    }
}
