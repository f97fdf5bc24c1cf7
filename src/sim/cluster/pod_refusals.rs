//! Somebody's webhook, or the PodSecurity admission, that refuses pods.

use crate::sim::apiserver::{Admission, ApiError, Operation, Review};
use serde_json::Value;
use std::sync::{Mutex, PoisonError};

/// Refuses new pods of one namespace while it is told to.
#[derive(Debug, Default)]
pub struct PodRefusals {
    /// By whom (a webhook's name; empty for PodSecurity, which is part of the API server), where, and in which words.
    refuses: Mutex<Option<(String, String, String)>>,
}

impl PodRefusals {
    /// From now on `webhook` refuses new pods of a namespace with this message. With an empty name it is the API
    /// server itself that refuses, as PodSecurity does.
    pub fn refuse(&self, webhook: &str, namespace: &str, message: &str) {
        *self.lock() = Some((webhook.to_owned(), namespace.to_owned(), message.to_owned()));
    }

    /// From now on pods are welcome again.
    pub fn allow(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(String, String, String)>> {
        self.refuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission for PodRefusals {
    fn handles(&self, review: &Review<'_>) -> bool {
        review.operation == Operation::Create && review.resource.plural == "pods" && review.subresource.is_empty()
    }

    fn validate(&self, review: &Review<'_>, _: Option<&Value>) -> Result<(), ApiError> {
        match &*self.lock() {
            Some((webhook, namespace, message)) if namespace == review.namespace => {
                if webhook.is_empty() {
                    return Err(ApiError::forbidden(review.resource, review.name, message));
                }
                Err(ApiError::refused_by_webhook(webhook, 403, "Forbidden", message))
            }
            _ => Ok(()),
        }
    }
}
