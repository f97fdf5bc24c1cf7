//! Velero's data mover: now and then a pod that reads a volume where that volume is, which may be a node that sleeps.

use super::{Acts, Scene, text};
use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

const ACTOR: &str = "velero";
const NAMESPACE: &str = "velero";
const POD: &str = "backup";
/// Between the ends of two backups, and how long one takes, in seconds.
const EVERY: i64 = 900;
const TAKES: i64 = 120;

/// Backs up what is on one node.
#[derive(Debug)]
pub struct Velero {
    /// The node.
    pub node: &'static str,
    /// When the last backup ended, or the program began.
    pub last: Option<Timestamp>,
    /// Since when its pod has run.
    pub running: Option<Timestamp>,
}

impl Velero {
    async fn begin(&self, scene: &Scene<'_>) -> kube::Result<()> {
        let pod = json!({
            "metadata": {"name": POD, "namespace": NAMESPACE},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": self.node},
                "containers": [{"name": "data-mover", "image": "velero"}],
            },
        });
        let pods: Api<Pod> = Api::namespaced(scene.server.client(ACTOR), NAMESPACE);
        pods.create(&PostParams::default(), &serde_json::from_value(pod).map_err(kube::Error::SerdeError)?).await?;
        Ok(())
    }
}

impl Acts for Velero {
    fn act<'a>(&'a mut self, scene: Scene<'a>) -> BoxFuture<'a, kube::Result<()>> {
        async move {
            let last = self.last.get_or_insert(scene.now).as_second();
            let phase = scene
                .server
                .view(|view| view.get("", "pods", NAMESPACE, POD).map(|pod| text(pod, "/status/phase").to_owned()));
            match (phase.as_deref(), self.running) {
                (None, _) if scene.now.as_second() - last >= EVERY => self.begin(&scene).await?,
                (Some("Running"), None) => self.running = Some(scene.now),
                (Some(_), Some(since)) if scene.now.as_second() - since.as_second() >= TAKES => {
                    let how = scene.how(self.node);
                    let pods: Api<Pod> = Api::namespaced(scene.server.client(ACTOR), NAMESPACE);
                    pods.delete(POD, &DeleteParams::default()).await?;
                    scene.deeds.push(format!("Velero backed up what is on the {how} node {}", self.node));
                    (self.last, self.running) = (Some(scene.now), None);
                }
                _ => {}
            }
            Ok(())
        }
        .boxed()
    }
}
