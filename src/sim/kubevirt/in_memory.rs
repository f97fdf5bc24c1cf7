//! virt-api in front of the in-memory API server.

use super::{
    Now, Outages,
    admission::{self, EvictionVerdict, ReadView, Refusal, Request},
    names::VIRT_API,
};
use crate::sim::apiserver::{Admission, ApiError, ClusterView, Operation, Refused, Review};
use miyako_api::names::kubevirt::VMI_NAME;
use serde_json::{Value, json};

/// Hooks virt-api's webhooks into the in-memory API server.
pub struct VirtApi {
    now: Now,
    outages: Outages,
}

impl VirtApi {
    /// virt-api whose stamps come from this clock, and that is away when `outages` says so.
    #[must_use]
    pub fn new(now: Now, outages: Outages) -> Self {
        Self { now, outages }
    }

    /// What the API server answers while virt-api is away.
    fn answer_in_absence(&self, review: &Review<'_>) -> Result<(), ApiError> {
        if !self.outages.is_virt_api_away() {
            return Ok(());
        }
        let (webhook, path) = admission::first_webhook(&request(review));
        Err(ApiError::internal(format!(
            "failed calling webhook {webhook:?}: failed to call webhook: Post \
             \"https://virt-api.kubevirt.svc:443/{path}?timeout=10s\": dial tcp virt-api.kubevirt.svc:443: connect: \
             connection refused"
        )))
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
        self.answer_in_absence(review)?;
        let request = request(review);
        admission::check_shape(&request, object).map_err(|Refusal { code, reason, message }| {
            ApiError::refused_by_webhook(admission::first_webhook(&request).0, code, reason, &message)
        })?;
        admission::mutate(&request, object, (self.now)());
        Ok(())
    }

    fn validate(&self, review: &Review<'_>, object: Option<&Value>) -> Result<(), ApiError> {
        let Some(object) = object else { return Ok(()) };
        let request = request(review);
        admission::validate(&request, object, &View(review.cluster)).map_err(|Refusal { code, reason, message }| {
            ApiError::refused_by_webhook(admission::webhook(&request), code, reason, &message)
        })
    }

    fn evict(&self, review: &Review<'_>, eviction: &Value) -> Result<(), Box<Refused>> {
        self.answer_in_absence(review).map_err(|error| Box::new(Refused { error, change: None }))?;
        let request = request(review);
        let verdict = admission::judge_eviction(&request, eviction, &View(review.cluster));
        let EvictionVerdict::Evacuates { vmi, patch, refusal } = verdict else { return Ok(()) };
        let Refusal { code, reason, message } = refusal;
        let error = ApiError::refused_by_webhook(admission::webhook(&request), code, reason, &message);
        let marked = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"namespace": review.namespace, "name": vmi},
        });
        let change = patch.map(|patch| (VIRT_API.to_owned(), marked, patch));
        Err(Box::new(Refused { error, change }))
    }
}
