//! The CRD reference for people, from the same schemas that the API server enforces: it can't say anything else.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use std::fmt::Write;

/// All definitions as one Markdown page: for each a table of its fields, in the order of the schema.
#[must_use]
pub fn markdown(crds: &[CustomResourceDefinition]) -> String {
    let mut page = String::from(
        "# Custom resources\n\n\
         Made by `miyako crds --format markdown` from the schemas that the API server enforces. What a rule refuses is \
         answered with the sentence behind it; `miyako lint` says the same without a cluster.\n",
    );
    for crd in crds {
        describe(&mut page, crd);
    }
    page
}

fn describe(page: &mut String, crd: &CustomResourceDefinition) {
    let names = &crd.spec.names;
    let short = names.short_names.iter().flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    for version in &crd.spec.versions {
        let Some(schema) = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()) else {
            continue;
        };
        let description = schema.description.as_deref().unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## {} ({short})\n\n`apiVersion: {}/{}`, {} — {description}\n",
            names.kind,
            crd.spec.group,
            version.name,
            crd.spec.scope.to_lowercase(),
        );
        for part in ["spec", "status"] {
            let Some(found) = schema.properties.as_ref().and_then(|properties| properties.get(part)) else { continue };
            let mut rows = Vec::new();
            fields(&mut rows, "", found);
            let _ = write!(
                page,
                "\n### {}.{part}\n\n| field | type | default | meaning |\n|---|---|---|---|\n",
                names.kind
            );
            page.extend(rows);
            let mut rules = Vec::new();
            refusals(&mut rules, part, found);
            if !rules.is_empty() {
                let _ = write!(page, "\nRefused unless:\n\n{}", rules.concat());
            }
        }
    }
}

/// One row for each field below `schema`, depth first.
fn fields(rows: &mut Vec<String>, path: &str, schema: &JSONSchemaProps) {
    let required = schema.required.as_deref().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = match &field.default {
            Some(default) if is_leaf(field) => format!("`{}`", default.0),
            _ if required.contains(name) => "required".into(),
            _ => String::new(),
        };
        let meaning = field.description.as_deref().unwrap_or_default();
        rows.push(format!("| `{path}` | {} | {default} | {} |\n", cell(&kind(field)), cell(meaning)));
        match items(field) {
            Some(items) => fields(rows, &format!("{path}[]"), items),
            None => fields(rows, &path, field),
        }
    }
}

/// An object's default only repeats those of its fields.
fn is_leaf(field: &JSONSchemaProps) -> bool {
    field.properties.as_ref().is_none_or(std::collections::BTreeMap::is_empty)
}

fn items(field: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match field.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(items) => Some(items),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

/// A field's type with its bounds, as a person would say it.
fn kind(field: &JSONSchemaProps) -> String {
    if let Some(words) = &field.enum_ {
        return words
            .iter()
            .map(|word| format!("`{}`", word.0.to_string().trim_matches('"')))
            .collect::<Vec<_>>()
            .join(" \\| ");
    }
    let name = match (field.type_.as_deref(), field.format.as_deref()) {
        (Some("string"), Some("date-time")) => "time".to_owned(),
        (Some("array"), _) => format!("list of {}", items(field).map_or_else(|| "values".into(), kind)),
        (Some(name), _) => name.to_owned(),
        (None, _) if field.x_kubernetes_int_or_string == Some(true) => "integer or string".to_owned(),
        (None, _) => "any".to_owned(),
    };
    let bounds = match (field.minimum, field.maximum) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (None, None) => String::new(),
    };
    format!("{name}{bounds}")
}

/// A line for each CEL rule with a message, which says what to write.
fn refusals(rules: &mut Vec<String>, path: &str, schema: &JSONSchemaProps) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        if let Some(message) = &rule.message {
            rules.push(format!("- `{path}`: {message}\n"));
        }
    }
    for (name, field) in schema.properties.iter().flatten() {
        refusals(rules, &format!("{path}.{name}"), field);
    }
    if let Some(items) = items(schema) {
        refusals(rules, &format!("{path}[]"), items);
    }
}

/// Text that stays within one cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|").replace("\\\\|", "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn committed_reference_is_what_the_schemas_say() -> anyhow::Result<()> {
        let committed = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md"))?;
        assert!(committed == markdown(&miyako_api::crds()), "run `make crds`: the types have changed");
        Ok(())
    }

    #[test]
    fn every_field_is_explained() {
        for crd in miyako_api::crds() {
            let schema = crd.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            let spec = &schema.unwrap().properties.as_ref().unwrap()["spec"];
            let mut rows = Vec::new();
            fields(&mut rows, "", spec);
            let bare: Vec<_> = rows.iter().filter(|row| row.ends_with("|  |\n")).collect();
            assert!(bare.is_empty(), "fields of {} without a word: {bare:?}", crd.spec.names.kind);
        }
    }
}
