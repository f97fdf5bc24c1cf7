//! The API server's ResourceQuota admission and the quota controller, for the in-memory world.

use super::ClusterStandIn;
use crate::{
    observe::convert::quantity::thousandths,
    sim::apiserver::{Admission, ApiError, Operation, Review},
};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Refuses pods that their namespace's quotas have no room for.
#[derive(Debug, Default)]
pub struct QuotaAdmission;

/// What a pod counts for in a quota's resource, in thousandths.
fn charged(pod: &Value, resource: &str) -> u128 {
    if matches!(pod.pointer("/status/phase").and_then(Value::as_str), Some("Succeeded" | "Failed")) {
        return 0;
    }
    let (side, name) = match resource {
        "pods" | "count/pods" => return 1000,
        "cpu" | "memory" => ("requests", resource),
        _ => match resource.split_once('.') {
            Some((side @ ("requests" | "limits"), name)) => (side, name),
            _ => return 0,
        },
    };
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let amount = |container: &Value| {
        let amount = container.pointer(&format!("/resources/{side}"))?.get(name)?.as_str()?;
        thousandths(amount).ok()
    };
    containers.into_iter().flatten().filter_map(amount).sum()
}

/// Thousandths as a quantity that reads back the same.
fn quantity(amount: u128) -> String {
    if amount.is_multiple_of(1000) { (amount / 1000).to_string() } else { format!("{amount}m") }
}

fn listed(amounts: &BTreeMap<&str, u128>) -> String {
    let texts: Vec<String> = amounts.iter().map(|(name, amount)| format!("{name}={}", quantity(*amount))).collect();
    texts.join(",")
}

impl Admission for QuotaAdmission {
    fn handles(&self, review: &Review<'_>) -> bool {
        review.operation == Operation::Create && review.resource.plural == "pods" && review.subresource.is_empty()
    }

    fn validate(&self, review: &Review<'_>, object: Option<&Value>) -> Result<(), ApiError> {
        let Some(pod) = object else { return Ok(()) };
        for quota in review.cluster.list("", "resourcequotas", review.namespace) {
            let Some(hard) = quota.pointer("/spec/hard").and_then(Value::as_object) else { continue };
            let (mut requested, mut used, mut limited) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            for (name, limit) in hard {
                let limit = limit.as_str().and_then(|text| thousandths(text).ok()).unwrap_or(0);
                let wants = charged(pod, name);
                let in_use: u128 =
                    review.cluster.list("", "pods", review.namespace).map(|other| charged(other, name)).sum();
                if wants > 0 && in_use + wants > limit {
                    requested.insert(name.as_str(), wants);
                    used.insert(name.as_str(), in_use);
                    limited.insert(name.as_str(), limit);
                }
            }
            if !requested.is_empty() {
                let name = quota.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                let why = format!(
                    "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                    listed(&requested),
                    listed(&used),
                    listed(&limited)
                );
                return Err(ApiError::forbidden(review.resource, review.name, why));
            }
        }
        Ok(())
    }
}

impl ClusterStandIn {
    /// Writes what is used into the quotas of namespaces where pods came, went or ended.
    pub(super) async fn count_quotas(&mut self) {
        let mut namespaces = std::mem::take(&mut self.to_count);
        let quotas: Vec<ResourceQuota> = self
            .quotas
            .all()
            .filter(|quota| quota.namespace().is_some_and(|namespace| namespaces.contains(&namespace)))
            .cloned()
            .collect();
        namespaces.clear();
        for quota in quotas {
            let namespace = quota.namespace().unwrap_or_default();
            let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
            let pods: Vec<Value> = self
                .pods
                .all()
                .filter(|pod| pod.metadata.namespace.as_deref() == Some(&namespace))
                .map(|pod| json!(pod))
                .collect();
            let used: BTreeMap<&String, String> =
                hard.keys().map(|name| (name, quantity(pods.iter().map(|pod| charged(pod, name)).sum()))).collect();
            let known = quota.status.as_ref().and_then(|status| status.used.clone()).unwrap_or_default();
            let same = known.len() == used.len()
                && used.iter().all(|(name, amount)| known.get(*name).is_some_and(|known| known.0 == *amount));
            if same {
                continue;
            }
            let api: Api<ResourceQuota> = Api::namespaced(self.clients.scheduler.clone(), &namespace);
            let patch = Patch::Merge(json!({"status": {"hard": hard, "used": used}}));
            match api.patch_status(&quota.name_any(), &PatchParams::default(), &patch).await {
                Ok(quota) => self.quotas.put(quota),
                Err(error) => {
                    tracing::debug!(%error, "the quota controller tries again when pods change");
                    namespaces.insert(namespace);
                }
            }
        }
        self.to_count.append(&mut namespaces);
    }
}
