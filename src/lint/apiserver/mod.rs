//! What the API server says to an object of ours, in its own words.
//!
//! The steps and their order are those of `k8s.io/apiextensions-apiserver`, `pkg/registry/customresource/strategy.go`:
//! decode (unknown fields, strictly), drop nulls, default, check metadata, schema, list types and then, unless an error
//! blocks it, the CEL rules. The status of a new object is dropped before anything is checked.

mod decode;
mod error;
mod go;
mod lists;
mod metadata;
mod rules;
mod schema;

pub use error::{ErrorKind, FieldError};

use kube_cel::Validator;
use serde_json::Value;
use std::collections::BTreeMap;

/// One kind as it is installed.
struct Kind {
    schema: Value,
    patterns: schema::Patterns,
    has_rules: bool,
}

/// Judges objects of our kinds.
pub struct ApiServer {
    kinds: BTreeMap<String, Kind>,
    api_version: String,
    validator: Validator,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("kinds", &self.kinds.keys()).finish_non_exhaustive()
    }
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

impl ApiServer {
    /// An API server with the CustomResourceDefinitions of this version of Miyako.
    #[must_use]
    pub fn new() -> Self {
        let kinds = miyako_api::crds()
            .into_iter()
            .filter_map(|crd| {
                let schema = crd.spec.versions.into_iter().next()?.schema?.open_api_v3_schema?;
                let schema = serde_json::to_value(schema).ok()?;
                let has_rules = rules::any(&schema);
                let patterns = schema::Patterns::of(&schema);
                Some((crd.spec.names.kind, Kind { schema, patterns, has_rules }))
            })
            .collect();
        let api_version = format!("{}/{}", miyako_api::names::GROUP, miyako_api::names::VERSION);
        Self { kinds, api_version, validator: Validator::new() }
    }

    /// The kinds it judges.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    /// The `apiVersion` of the kinds it judges.
    #[must_use]
    pub fn api_version(&self) -> &str {
        &self.api_version
    }

    /// The schema of a kind.
    #[must_use]
    pub fn schema(&self, kind: &str) -> Option<&Value> {
        self.kinds.get(kind).map(|kind| &kind.schema)
    }

    /// Judges a new object; its kind decides by which schema. The object that would be stored, with its defaults, comes
    /// back.
    ///
    /// # Errors
    /// What the API server would say. An object of another kind is not judged: nothing is said.
    pub fn create(&self, object: &Value) -> Result<Value, Vec<FieldError>> {
        self.judge(object, None)
    }

    /// Judges a change of an object.
    ///
    /// # Errors
    /// What the API server would say.
    pub fn update(&self, old: &Value, new: &Value) -> Result<Value, Vec<FieldError>> {
        self.judge(new, Some(old))
    }

    fn judge(&self, object: &Value, old: Option<&Value>) -> Result<Value, Vec<FieldError>> {
        let Some(kind) = object["kind"].as_str().and_then(|kind| self.kinds.get(kind)) else {
            return Ok(object.clone());
        };
        let mut object = object.clone();
        let mut errors = decode::decode(&mut object, &kind.schema);
        if !errors.is_empty() {
            return Err(errors);
        }
        if let Some(fields) = object.as_object_mut() {
            fields.shift_remove("status");
        }
        metadata::generate_name(&mut object);
        metadata::check(&object, &mut errors);
        schema::check(&object, &kind.schema, &kind.patterns, &mut errors);
        lists::check(&object, &kind.schema, &mut errors);
        if kind.has_rules {
            if errors.iter().any(FieldError::blocks_rules) {
                errors.push(FieldError::rules_not_checked());
            } else {
                rules::check(&self.validator, &object, old, &kind.schema, &mut errors);
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        decode::encode(&mut object);
        Ok(object)
    }
}
