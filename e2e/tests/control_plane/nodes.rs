//! The stand itself: nodes live, sleep and wake; pods are scheduled and run.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use miyako_e2e::control_plane::nodes::{NewNode, silence, wait_unreachable, wake};
use miyako_e2e::scene::Scene;
use miyako_e2e::wait::{Look, until};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// The real scheduler places a pod, and its node's kubelet (kwok) says that it runs.
pub(crate) async fn run_what_the_scheduler_places(scene: Arc<Scene>) -> anyhow::Result<()> {
    scene.add_nodes(&[NewNode::new("small").cpus(1), NewNode::new("large").cpus(8)]).await?;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "worker" },
        "spec": { "containers": [{ "name": "main", "image": "none", "resources": { "requests": { "cpu": "4" } } }] },
    }))?;
    let pods: Api<Pod> = Api::namespaced(scene.admin(), scene.namespace());
    scene.wait_for_default_account().await?;
    pods.create(&PostParams::default(), &pod).await?;
    let node = until("the pod runs", Duration::from_mins(1), || async {
        let pod = pods.get("worker").await?;
        let running = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
        let node = pod.spec.and_then(|spec| spec.node_name);
        Ok(Look::some(node.filter(|_| running), format!("{:?}", pod.status)))
    })
    .await?;
    ensure!(node == "large", "four CPUs fit only on the large node, not on {node}");
    Ok(())
}

/// A silenced kubelet's lease lapses and the node becomes unreachable, as in S3; then it comes back.
pub(crate) async fn fall_silent_and_wake(scene: Arc<Scene>) -> anyhow::Result<()> {
    scene.add_nodes(&[NewNode::new("sleeper"), NewNode::new("watcher")]).await?;
    silence(&scene.admin(), "sleeper").await?;
    wait_unreachable(&scene.admin(), "sleeper").await?;
    wake(&scene.admin(), "sleeper").await
}
