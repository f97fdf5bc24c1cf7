//! The CustomResourceDefinitions that come from the types of this crate.

use crate::{ConsolidationPlan, ConsolidationPolicy, NodePower, NodePowerClass, names};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

/// The CustomResourceDefinitions of our four kinds, in the order people read them.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    [ConsolidationPolicy::crd(), NodePowerClass::crd(), NodePower::crd(), ConsolidationPlan::crd()]
        .into_iter()
        .map(finished)
        .collect()
}

fn finished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.metadata
        .labels
        .get_or_insert_default()
        .insert("app.kubernetes.io/part-of".to_owned(), names::ours::MIYAKO.to_owned());
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            tidy(schema);
        }
    }
    crd
}

/// Makes a schema say what Kubernetes understands.
///
/// An optional field comes out as nullable, but a null in a manifest means "not set": the API server drops nulls from
/// fields that are not nullable, so that what is stored is what a GitOps tool will compare with. And formats that
/// Kubernetes does not know only cause warnings; `minimum` says what they say.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.format = match schema.format.take().as_deref() {
        Some("uint32" | "uint64" | "uint8" | "uint16") => Some("int64".to_owned()),
        Some(other) => Some(other.to_owned()),
        None => None,
    };
    if let Some(description) = &mut schema.description {
        *description = description.split("\n\n").map(|part| part.replace('\n', " ")).collect::<Vec<_>>().join("\n");
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        tidy(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => tidy(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(tidy),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
}
