//! The kubernetes-sigs' descheduler as a CronJob: each run evicts a launcher from the node that has the most of them.

use super::{Acts, Scene, is_over, labelled, name, text};
use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, EvictParams};
use serde_json::Value;
use std::collections::BTreeMap;

/// Between two runs, in seconds.
const EVERY: i64 = 120;

/// It runs while there is a CronJob that is not suspended.
#[derive(Debug, Default)]
pub struct Descheduler;

impl Acts for Descheduler {
    fn act<'a>(&'a mut self, scene: Scene<'a>) -> BoxFuture<'a, kube::Result<()>> {
        async move {
            let runs = scene.objects("batch", "cronjobs").iter().any(|job| job["spec"]["suspend"] != true);
            if !runs || scene.now.as_second() % EVERY != 0 {
                return Ok(());
            }
            let pods = scene.objects("", "pods");
            let is_launcher = |pod: &&Value| labelled(pod, "kubevirt.io") == Some("virt-launcher") && !is_over(pod);
            let mut by_node: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
            for pod in pods.iter().filter(is_launcher) {
                by_node.entry(text(pod, "/spec/nodeName")).or_default().push(pod);
            }
            let fullest = by_node.values().max_by_key(|launchers| launchers.len()).filter(|all| all.len() > 1);
            let Some(pod) = fullest.and_then(|launchers| launchers.last()) else { return Ok(()) };
            let client = scene.server.client("descheduler");
            let api: Api<Pod> = Api::namespaced(client, text(pod, "/metadata/namespace"));
            // KubeVirt answers that it migrates the VM instead.
            let _ = api.evict(name(pod), &EvictParams::default()).await;
            scene.deeds.push(format!("the descheduler evicted a VM from {}", text(pod, "/spec/nodeName")));
            Ok(())
        }
        .boxed()
    }
}
