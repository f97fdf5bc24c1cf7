//! Rancher's system-upgrade-controller: a Job for each node that does not carry the plan's label yet, one node at a time. The
//! Job's pod is bound to its node by affinity, tolerates a cordon, and cordons the node once it runs.

use super::{Acts, Scene, labelled, name, text};
use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

const ACTOR: &str = "system-upgrade-controller";
const NAMESPACE: &str = "system-upgrade";
/// How long a Job's pod works on its node, in seconds.
const WORKS: i64 = 60;

/// One plan for the nodes of a group.
#[derive(Debug)]
pub struct SystemUpgrades {
    /// Label and value of the nodes that it upgrades.
    pub group: (&'static str, &'static str),
    /// The label of those that it has upgraded.
    pub done: &'static str,
    /// The node that it works on, and since when its pod has run there.
    pub working: Option<(String, Option<Timestamp>)>,
}

impl SystemUpgrades {
    async fn begin(&mut self, scene: &Scene<'_>) -> kube::Result<()> {
        let mine = |node: &serde_json::Value| labelled(node, self.group.0) == Some(self.group.1);
        let next = scene.nodes().into_iter().find(|node| mine(node) && labelled(node, self.done).is_none());
        let Some(next) = next.map(|node| name(&node).to_owned()) else { return Ok(()) };
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [next]}]},
        ]}}});
        let pod = json!({
            "metadata": {"name": format!("apply-{next}"), "namespace": NAMESPACE},
            "spec": {
                "affinity": affinity,
                "tolerations": [
                    {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"},
                ],
                "containers": [{"name": "upgrade", "image": "upgrade"}],
            },
        });
        let pods: Api<Pod> = Api::namespaced(scene.server.client(ACTOR), NAMESPACE);
        pods.create(&PostParams::default(), &serde_json::from_value(pod).map_err(kube::Error::SerdeError)?).await?;
        self.working = Some((next, None));
        Ok(())
    }
}

impl Acts for SystemUpgrades {
    fn act<'a>(&'a mut self, scene: Scene<'a>) -> BoxFuture<'a, kube::Result<()>> {
        async move {
            let Some((node, since)) = self.working.clone() else { return self.begin(&scene).await };
            let pod_name = format!("apply-{node}");
            let runs = scene.server.view(|view| {
                view.get("", "pods", NAMESPACE, &pod_name).is_some_and(|pod| text(pod, "/status/phase") == "Running")
            });
            match since {
                None if runs => {
                    scene.cordon(ACTOR, &node, true).await?;
                    self.working = Some((node, Some(scene.now)));
                }
                Some(since) if scene.now.as_second() - since.as_second() >= WORKS => {
                    if scene.machines.is_asleep(&node) {
                        scene.deeds.push(format!("{node} fell asleep in the middle of its upgrade"));
                    }
                    let pods: Api<Pod> = Api::namespaced(scene.server.client(ACTOR), NAMESPACE);
                    pods.delete(&pod_name, &DeleteParams::default()).await?;
                    scene.cordon(ACTOR, &node, false).await?;
                    let label = json!({"metadata": {"labels": {self.done: "yes"}}});
                    scene.patch_node(ACTOR, &node, label).await?;
                    scene.deeds.push(format!("the system-upgrade-controller upgraded {node}"));
                    self.working = None;
                }
                _ => {}
            }
            Ok(())
        }
        .boxed()
    }
}
