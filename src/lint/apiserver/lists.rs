//! Lists that are sets or maps hold nothing twice (`apiextensions-apiserver/pkg/apiserver/schema/listtype`).

use super::FieldError;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) fn check(object: &Value, schema: &Value, errors: &mut Vec<FieldError>) {
    at(object, schema, "", errors);
}

fn at(value: &Value, schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(schema) = schema["properties"].get(name) {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    at(value, schema, &path, errors);
                }
            }
        }
        Value::Array(items) => {
            match schema["x-kubernetes-list-type"].as_str() {
                Some("set") => repeated(items.iter().cloned(), path, errors),
                Some("map") => keys(items, schema, path, errors),
                _ => {}
            }
            for (index, item) in items.iter().enumerate() {
                at(item, &schema["items"], &format!("{path}[{index}]"), errors);
            }
        }
        _ => {}
    }
}

/// Our maps have one key each.
fn keys(items: &[Value], schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let Some(key) = schema["x-kubernetes-list-map-keys"][0].as_str() else { return };
    if let Some(index) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
        let field = format!("{path}[{index}]");
        return errors.push(FieldError::invalid(
            &field,
            &items[index],
            "must be an object for an array of list-type map",
        ));
    }
    let key_of = |item: &Value| item.get(key).map_or_else(|| json!({}), |value| json!({ key: value }));
    repeated(items.iter().map(key_of), path, errors);
}

/// Each value is complained about once, where it comes the second time.
fn repeated(values: impl Iterator<Item = Value>, path: &str, errors: &mut Vec<FieldError>) {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for (index, value) in values.enumerate() {
        let count = times.entry(value.to_string()).or_default();
        *count += 1;
        if *count == 2 {
            errors.push(FieldError::duplicate(&format!("{path}[{index}]"), &value));
        }
    }
}
