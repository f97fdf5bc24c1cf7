//! `metadata.managedFields`: who wrote what.

use super::{
    error::ApiError,
    store::State,
    write::{Call, Written},
};
use kube_cel::Validator;
use serde_json::Value;

impl State {
    pub(crate) fn managed_after_create(&self, _call: &Call, _object: &Value) -> Option<Value> {
        None
    }
    pub(crate) fn managed_after_update(&self, _call: &Call, old: &Value, _object: &Value) -> Option<Value> {
        old["metadata"].get("managedFields").cloned()
    }
    pub(crate) fn apply(&mut self, _: &Validator, _: &Call, _: &Value) -> Result<Written, ApiError> {
        Err(ApiError::unsupported_media_type("apply"))
    }
}

pub(crate) fn same_but_times(a: &Value, b: &Value) -> bool {
    a == b
}
