//! When migrations arrive at the API server.

use crate::cluster::OPERATOR;
use miyako::sim::apiserver::{Admission, ApiError, Operation, Review};
use miyako_core::model::VmKey;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Notes the moment at which each VM's newest migration was asked for.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    newest: Mutex<BTreeMap<VmKey, Instant>>,
}

impl Notices {
    /// The first migration of any of these VMs that was asked for at or after `since`.
    pub(crate) fn first_of(&self, vms: &[VmKey], since: Instant) -> Option<Instant> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        vms.iter().filter_map(|vm| newest.get(vm).copied()).filter(|at| *at >= since).min()
    }
}

impl Admission for Notices {
    fn handles(&self, review: &Review<'_>) -> bool {
        review.operation == Operation::Create
            && review.resource.plural == "virtualmachineinstancemigrations"
            && review.actor == OPERATOR
            && !review.dry_run
    }

    fn validate(&self, review: &Review<'_>, object: Option<&Value>) -> Result<(), ApiError> {
        if let Some(vm) = object.and_then(|object| object["spec"]["vmiName"].as_str()) {
            let vm = VmKey::new(review.namespace, vm);
            self.newest.lock().unwrap_or_else(PoisonError::into_inner).insert(vm, Instant::now());
        }
        Ok(())
    }
}
