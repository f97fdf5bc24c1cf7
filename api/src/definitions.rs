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
/// fields that are not nullable, so that what is stored is what a GitOps tool will compare with. Kubernetes does not
/// know unsigned formats, and of an int32 that is out of bounds it complains twice; `minimum` and `maximum` say enough.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.title = None;
    if matches!(schema.format.as_deref(), Some("uint32" | "int32")) {
        schema.format = Some("int64".to_owned());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the API server would store without a bound, or would not take from a schema.
    fn complaints(path: &str, schema: &JSONSchemaProps, found: &mut Vec<String>) {
        let bounded = match schema.type_.as_deref() {
            Some("string") => {
                schema.max_length.is_some() || schema.enum_.is_some() || schema.format.as_deref() == Some("date-time")
            }
            Some("array") => schema.max_items.is_some() && schema.x_kubernetes_list_type.is_some(),
            // Whatever is written into an object without fields is pruned.
            Some("object") if schema.properties.is_none() && schema.additional_properties.is_none() => {
                schema.x_kubernetes_preserve_unknown_fields.is_none()
            }
            Some("object") => schema.properties.is_some() != schema.max_properties.is_some(),
            Some("integer") => matches!(schema.format.as_deref(), Some("int64")),
            Some("boolean") => true,
            _ => schema.x_kubernetes_int_or_string == Some(true) && schema.max_length.is_some(),
        };
        if !bounded {
            found.push(format!("{path}: no bound"));
        }
        if schema.description.is_none()
            && !path.is_empty()
            && !path.ends_with(['*', '}'])
            && !path.contains(".conditions")
        {
            found.push(format!("{path}: no description"));
        }
        if schema.nullable.is_some() || schema.any_of.is_some() || schema.one_of.is_some() {
            found.push(format!("{path}: not a plain structural schema"));
        }
        for (name, property) in schema.properties.iter().flatten() {
            complaints(&format!("{path}.{name}"), property, found);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            complaints(&format!("{path}.*"), items, found);
        }
        if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
            complaints(&format!("{path}.{{}}"), values, found);
        }
    }

    #[test]
    fn every_field_is_bounded_described_and_structural() {
        let mut found = Vec::new();
        for crd in crds() {
            let schema = crd.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            complaints("", schema.expect("a schema"), &mut found);
        }
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn every_kind_has_its_short_name_category_status_and_columns() {
        let crds = crds();
        let short: Vec<_> =
            crds.iter().flat_map(|crd| crd.spec.names.short_names.clone().unwrap_or_default()).collect();
        assert_eq!(short, ["cpol", "npc", "np", "cplan"]);
        for crd in crds {
            assert_eq!(crd.spec.scope, "Cluster");
            assert_eq!(crd.spec.names.categories, Some(vec![names::CATEGORY.to_owned()]));
            let version = &crd.spec.versions[0];
            assert_eq!(version.name, names::VERSION);
            assert!(version.subresources.as_ref().is_some_and(|subresources| subresources.status.is_some()));
            assert!(version.additional_printer_columns.as_ref().is_some_and(|columns| columns.len() >= 5));
        }
    }
}
