//! virt-api in front of the in-memory API server.

use super::{
    Now,
    admission::{self, ReadView, Refusal, Request},
};
use crate::sim::apiserver::{Admission, ApiError, ClusterView, Operation, Review};
use miyako_api::names::kubevirt::VMI_NAME;
use serde_json::Value;

/// Hooks virt-api's webhooks into the in-memory API server. (It knows no evictions.)
pub struct VirtApi {
    now: Now,
}

impl VirtApi {
    /// virt-api whose stamps come from this clock.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self { now }
    }
}

struct View<'a>(ClusterView<'a>);

impl ReadView for View<'_> {
    fn vmi(&self, namespace: &str, name: &str) -> Option<Value> {
        self.0.get("kubevirt.io", "virtualmachineinstances", namespace, name).cloned()
    }

    fn migrations_of(&self, namespace: &str, vmi: &str) -> Vec<Value> {
        let label = |migration: &&Value| migration["metadata"]["labels"][VMI_NAME] == vmi;
        let all = self.0.list("kubevirt.io", "virtualmachineinstancemigrations", namespace);
        all.filter(label).cloned().collect()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Value> {
        self.0.get("", "pods", namespace, name).cloned()
    }

    fn default_eviction_strategy(&self) -> Option<String> {
        let installation = self.0.list("kubevirt.io", "kubevirts", "").next()?;
        installation.pointer("/spec/configuration/evictionStrategy")?.as_str().map(str::to_owned)
    }
}

fn request<'a>(review: &Review<'a>) -> Request<'a> {
    Request {
        operation: match review.operation {
            Operation::Create => admission::Operation::Create,
            Operation::Update => admission::Operation::Update,
            Operation::Delete => admission::Operation::Delete,
        },
        user: review.actor,
        resource: &review.resource.plural,
        subresource: review.subresource,
        namespace: review.namespace,
        name: review.name,
        old: review.old.unwrap_or(&Value::Null),
        dry_run: review.dry_run,
    }
}

impl Admission for VirtApi {
    fn handles(&self, review: &Review<'_>) -> bool {
        admission::concerns(&review.resource.plural, review.subresource)
    }

    fn mutate(&self, review: &Review<'_>, object: &mut Value) -> Result<(), ApiError> {
        admission::mutate(&request(review), object, (self.now)());
        Ok(())
    }

    fn validate(&self, review: &Review<'_>, object: Option<&Value>) -> Result<(), ApiError> {
        let Some(object) = object else { return Ok(()) };
        let request = request(review);
        admission::validate(&request, object, &View(review.cluster)).map_err(|Refusal { code, reason, message }| {
            ApiError::refused_by_webhook(admission::webhook(&request), code, reason, &message)
        })
    }
}
