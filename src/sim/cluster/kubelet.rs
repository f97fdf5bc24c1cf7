//! The kubelets: a bound pod runs after a while.

use super::{ClusterStandIn, daemons::answers};
use crate::sim::{
    kubevirt::create::running_pod_status,
    watched::{ObjectKey, key_of},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::time::Duration;

impl ClusterStandIn {
    /// How long a pod takes to start; its own, so that one more pod does not shift the others.
    pub(super) fn start_time(&self, pod: &Pod) -> Duration {
        let digest: [u8; 32] = Sha256::digest(format!("{}/{}", self.seed, pod.uid().unwrap_or_default())).into();
        let share = f64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])) / f64::from(u32::MAX);
        self.timing.start + self.timing.start_spread.mul_f64(share)
    }

    /// Lets every bound pod run whose time has come and whose node answers.
    pub(super) async fn start_pods(&mut self, now: Timestamp) {
        let due: Vec<ObjectKey> =
            self.starting.iter().filter(|(_, due)| **due <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            let node = self.pods.get(&key.0, &key.1).and_then(|pod| pod.spec.as_ref()?.node_name.clone());
            let Some(node) = node.and_then(|node| self.nodes.get("", &node)) else {
                self.starting.remove(&key);
                continue;
            };
            if !answers(node) {
                let later = now.checked_add(self.timing.retry).unwrap_or(now);
                self.starting.insert(key, later);
                continue;
            }
            let api: Api<Pod> = Api::namespaced(self.clients.kubelet.clone(), &key.0);
            let patch = Patch::Merge(json!({"status": running_pod_status(now)}));
            match api.patch_status(&key.1, &PatchParams::default(), &patch).await {
                Ok(pod) => {
                    self.starting.remove(&key_of(&pod));
                    self.pods.put(pod);
                }
                Err(error) => {
                    tracing::debug!(%error, pod = %key.1, "the kubelet tries again");
                    let later = now.checked_add(self.timing.retry).unwrap_or(now);
                    self.starting.insert(key, later);
                }
            }
        }
    }
}
