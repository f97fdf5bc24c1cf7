//! What the server itself puts into, keeps from and demands of `metadata`.

use super::error::FieldError;
use serde_json::{Map, Value};

/// The fields of `metadata` that only the server writes: an update leaves them as they were.
const SERVER_OWNED: &[&str] =
    &["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"];

/// `metadata` as a map; made where it is missing.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    match metadata {
        Value::Object(fields) => fields,
        _ => unreachable!("made an object above"),
    }
}

/// A text field of `metadata`; empty where it is missing.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Puts back what only the server may write.
pub(crate) fn keep_server_owned(object: &mut Value, old: &Value) {
    let metadata = metadata_mut(object);
    for &field in SERVER_OWNED {
        match old["metadata"].get(field) {
            Some(value) => {
                metadata.insert(field.to_owned(), value.clone());
            }
            None => {
                metadata.shift_remove(field);
            }
        }
    }
    for field in ["uid", "name", "namespace"] {
        if let (None, Some(value)) =
            (metadata.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()), old["metadata"].get(field))
        {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
}

/// Drops empty maps and lists, which Go's `omitempty` never writes.
pub(crate) fn drop_empty(object: &mut Value) {
    let metadata = metadata_mut(object);
    for field in ["labels", "annotations", "finalizers", "ownerReferences", "managedFields", "generateName"] {
        let empty = match metadata.get(field) {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Null) => true,
            _ => false,
        };
        if empty {
            metadata.shift_remove(field);
        }
    }
    metadata.retain(|_, value| !value.is_null());
}

/// Whether `metadata.finalizers` holds anything.
pub(crate) fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
}

/// Everything wrong with `metadata`.
pub(crate) fn validate(object: &Value) -> Vec<FieldError> {
    let mut errors = vec![];
    let name = text(object, "name");
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else if !is_subdomain(name) {
        errors.push(FieldError::invalid("metadata.name", &name.into(), SUBDOMAIN_RULE));
    }
    for (key, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        if let Some(what) = qualified_name_fault(key) {
            errors.push(FieldError::invalid("metadata.labels", &key.as_str().into(), what));
        }
        let shown = value.as_str().unwrap_or_default();
        if shown.len() > 63 {
            errors.push(FieldError::invalid("metadata.labels", value, "must be no more than 63 bytes"));
        } else if !is_label_value(shown) {
            errors.push(FieldError::invalid("metadata.labels", value, LABEL_VALUE_RULE));
        }
    }
    for key in object["metadata"]["annotations"].as_object().into_iter().flatten().map(|(key, _)| key) {
        if let Some(what) = qualified_name_fault(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", &key.as_str().into(), what));
        }
    }
    let size: usize = object["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > 256 * 1024 {
        errors.push(FieldError {
            reason: "FieldValueTooLong",
            field: "metadata.annotations".into(),
            message: "Too long: may not be more than 262144 bytes".into(),
        });
    }
    for (at, owner) in object["metadata"]["ownerReferences"].as_array().into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let path = format!("metadata.ownerReferences[{at}].{field}");
                errors.push(FieldError::invalid(path, &"".into(), "must not be empty"));
            }
        }
    }
    errors
}

const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED_NAME_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

fn is_subdomain(name: &str) -> bool {
    let label = |part: &str| {
        let bytes = part.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        bytes.first().is_some_and(plain)
            && bytes.last().is_some_and(plain)
            && bytes.iter().all(|byte| plain(byte) || *byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    value.is_empty()
        || (bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte)))
}

pub(crate) fn qualified_name_fault(key: &str) -> Option<String> {
    let (prefix, name) = match key.rsplit_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
        return Some(format!("prefix part {SUBDOMAIN_RULE}"));
    }
    if name.is_empty() {
        return Some("name part must be non-empty".into());
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 bytes".into());
    }
    if is_label_value(name) { None } else { Some(QUALIFIED_NAME_RULE.into()) }
}
