//! The steps before validation: strict decoding, nulls, defaults.

use super::FieldError;
use serde_json::{Map, Value};

/// The fields of `metadata` (`k8s.io/apimachinery/pkg/apis/meta/v1`, `ObjectMeta`).
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Refuses what can't be decoded or is not in the schema; drops nulls that mean "not set"; fills in defaults.
pub(super) fn decode(object: &mut Value, schema: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    metadata(object, &mut errors);
    if !errors.is_empty() {
        return errors;
    }
    unknown(object, schema, "", &mut errors);
    drop_nulls(object, schema);
    default(object, schema);
    errors
}

fn metadata(object: &Value, errors: &mut Vec<FieldError>) {
    let mut wrong = |field: &str, value: &Value, within: &str, expected: &str| {
        let message =
            format!("json: cannot unmarshal {} into Go struct field {within} of type {expected}", json_type(value));
        errors.push(FieldError::undecodable(field, message));
    };
    let metadata = match &object["metadata"] {
        Value::Null => return,
        Value::Object(metadata) => metadata,
        other => return wrong("metadata", other, "metadataOnlyObject.metadata", "v1.ObjectMeta"),
    };
    for name in ["name", "generateName", "namespace", "resourceVersion", "uid"] {
        match metadata.get(name) {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(other) => wrong(&format!("metadata.{name}"), other, &format!("ObjectMeta.metadata.{name}"), "string"),
        }
    }
    for name in ["labels", "annotations"] {
        let within = format!("ObjectMeta.metadata.{name}");
        match metadata.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::Object(entries)) => {
                for (key, value) in entries.iter().filter(|(_, value)| !value.is_string() && !value.is_null()) {
                    wrong(&format!("metadata.{name}.{key}"), value, &within, "string");
                }
            }
            Some(other) => wrong(&format!("metadata.{name}"), other, &within, "map[string]string"),
        }
    }
}

/// The type of a value as Go's JSON decoder calls it.
fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// `kubectl` and the server refuse fields that the schema does not have (`fieldValidation=Strict`).
fn unknown(value: &Value, schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path_here = join(path, name);
                let known = match path {
                    "" if name == "metadata" => {
                        let names = value.as_object().into_iter().flat_map(Map::keys);
                        errors.extend(
                            names
                                .filter(|name| !METADATA.contains(&name.as_str()))
                                .map(|name| FieldError::unknown_field(&join("metadata", name))),
                        );
                        continue;
                    }
                    "" if name == "apiVersion" || name == "kind" => continue,
                    _ => properties(schema).and_then(|properties| properties.get(name)),
                };
                match known.or_else(|| schema.get("additionalProperties")) {
                    Some(schema) => unknown(value, schema, &path_here, errors),
                    // Where an object is not expected at all, the schema will say so.
                    None if schema["type"] == "object" => errors.push(FieldError::unknown_field(&path_here)),
                    None => {}
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                unknown(item, schema.get("items").unwrap_or(&Value::Null), &format!("{path}[{index}]"), errors);
            }
        }
        _ => {}
    }
}

fn is_null_unset(value: &Value, schema: &Value) -> bool {
    value.is_null() && schema["nullable"] != true
}

/// A null of a field that is not nullable means that the field is not set; with a default, it takes the default.
fn drop_nulls(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(properties) = properties(schema) {
                fields.retain(|name, value| {
                    let property = properties.get(name);
                    !property
                        .is_some_and(|property| is_null_unset(value, property) && property.get("default").is_none())
                });
                for (name, value) in fields.iter_mut() {
                    if let Some(property) = properties.get(name) {
                        drop_nulls(value, property);
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| drop_nulls(item, schema));
            }
        }
        _ => {}
    }
}

fn default(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, property) in properties(schema).into_iter().flatten() {
                if let Some(default) = property.get("default")
                    && fields.get(name).is_none_or(|value| is_null_unset(value, property))
                {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    self::default(value, property);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| default(item, schema));
            }
        }
        _ => {}
    }
}

/// Writes numbers as Go's JSON encoder does, in which `5.0` is stored: as `5`.
pub(super) fn encode(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0);
            if let Some(whole) = whole.and_then(|float| format!("{float:.0}").parse::<i64>().ok()) {
                *number = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(encode),
        Value::Object(fields) => fields.values_mut().for_each(encode),
        _ => {}
    }
}
