//! Metadata, as `k8s.io/apimachinery/pkg/api/validation` checks it.

use super::FieldError;
use serde_json::{Map, Value};

const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const NAME_ERROR: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '";
const KEY_ERROR: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_ERROR: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
/// The most bytes of all annotations of an object together.
const ANNOTATIONS: usize = 256 << 10;

/// Gives an object that asks for it a name as the API server makes one: the prefix and five letters.
pub(super) fn generate_name(object: &mut Value) {
    const LONGEST_PREFIX: usize = 58;
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("name").is_empty() && !text("generateName").is_empty() {
        let prefix: String = text("generateName").chars().take(LONGEST_PREFIX).collect();
        metadata.insert("name".to_owned(), format!("{prefix}xxxxx").into());
    }
}

pub(super) fn check(object: &Value, errors: &mut Vec<FieldError>) {
    let metadata = &object["metadata"];
    let text = |name: &str| metadata[name].as_str().unwrap_or_default();
    if text("name").is_empty() && text("generateName").is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    }
    if !text("name").is_empty() {
        let problems = subdomain(text("name"));
        errors.extend(problems.iter().map(|detail| FieldError::invalid("metadata.name", &metadata["name"], detail)));
    }
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let mut invalid =
            |bad: &str, detail: &str| errors.push(FieldError::invalid("metadata.labels", &bad.into(), detail));
        qualified_name(key).iter().for_each(|detail| invalid(key, detail));
        if value.len() > 63 {
            invalid(value, "must be no more than 63 bytes");
        }
        if !value.is_empty() && !is_name_part(value) {
            invalid(value, LABEL_ERROR);
        }
    }
    annotations(metadata["annotations"].as_object(), errors);
}

fn annotations(annotations: Option<&Map<String, Value>>, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        size += key.len() + value.as_str().unwrap_or_default().len();
        for detail in qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", &Value::String(key.clone()), &detail));
        }
    }
    if size > ANNOTATIONS {
        errors.push(FieldError::too_long("metadata.annotations", ANNOTATIONS as u64));
    }
}

fn subdomain(name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if name.len() > 253 {
        problems.push("must be no more than 253 characters".to_owned());
    }
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        label.bytes().all(|byte| inner(byte) || byte == b'-')
            && label.bytes().next().is_some_and(inner)
            && label.bytes().last().is_some_and(inner)
    };
    if !name.split('.').all(is_label) {
        problems.push(format!("{NAME_ERROR}{SUBDOMAIN}')"));
    }
    problems
}

/// The key of a label or annotation: an optional subdomain and a slash, then a name.
fn qualified_name(key: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let name = match key.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                problems.extend(subdomain(prefix).into_iter().map(|problem| format!("prefix part {problem}")));
            }
            name
        }
        _ => {
            let detail = KEY_ERROR.strip_prefix("name part").unwrap_or(KEY_ERROR);
            let detail = detail.strip_suffix("')").unwrap_or(detail);
            return vec![format!(
                "a valid label key{detail}') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_name_part(name) {
        problems.push(KEY_ERROR.to_owned());
    }
    problems
}

fn is_name_part(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric();
    name.bytes().all(|byte| inner(byte) || b"-_.".contains(&byte))
        && name.bytes().next().is_some_and(inner)
        && name.bytes().last().is_some_and(inner)
}
