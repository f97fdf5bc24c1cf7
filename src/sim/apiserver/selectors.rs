//! Label and field selectors of lists and watches.

use super::{error::ApiError, registry::Resource};
use serde_json::Value;

/// Which objects a list or watch shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Exists(String),
    Missing(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

#[derive(Clone, Debug)]
struct FieldRequirement {
    path: Vec<String>,
    value: String,
    equal: bool,
}

impl Selection {
    /// Reads the two query parameters.
    pub(crate) fn parse(resource: &Resource, labels: Option<&str>, fields: Option<&str>) -> Result<Self, ApiError> {
        let labels = match labels {
            Some(text) => parse_labels(text).map_err(|what| {
                ApiError::bad_request(format!("unable to parse requirement: {what} in labelSelector {text:?}"))
            })?,
            None => vec![],
        };
        let fields = match fields {
            Some(text) => parse_fields(resource, text)?,
            None => vec![],
        };
        Ok(Self { labels, fields })
    }

    /// Whether everything matches.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether it shows the object.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = |key: &str| labels.get(key).and_then(Value::as_str);
        self.labels.iter().all(|requirement| match requirement {
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Missing(key) => label(key).is_none(),
            Requirement::In(key, values) => label(key).is_some_and(|have| values.iter().any(|value| value == have)),
            Requirement::NotIn(key, values) => label(key).is_none_or(|have| values.iter().all(|value| value != have)),
        }) && self
            .fields
            .iter()
            .all(|requirement| (field(object, &requirement.path) == requirement.value) == requirement.equal)
    }
}

fn field(object: &Value, path: &[String]) -> String {
    let mut at = object;
    for step in path {
        match at.get(step) {
            Some(inner) => at = inner,
            // The API server's field sets hold "false" for an unset boolean.
            None if step == "unschedulable" || step == "hostNetwork" => return "false".into(),
            None => return String::new(),
        }
    }
    match at {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn parse_fields(resource: &Resource, text: &str) -> Result<Vec<FieldRequirement>, ApiError> {
    let mut requirements = vec![];
    for term in text.split(',').map(str::trim).filter(|term| !term.is_empty()) {
        let (path, value, equal) = if let Some((path, value)) = term.split_once("!=") {
            (path, value, false)
        } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            (path, value, true)
        } else {
            return Err(ApiError::bad_request(format!("invalid selector: {text:?}; can't understand {term:?}")));
        };
        let known = path == "metadata.name"
            || (path == "metadata.namespace" && (resource.namespaced || resource.custom))
            || resource.selectable_fields.iter().any(|known| known == path);
        if !known {
            let message = if resource.custom {
                format!("field label not supported: {path}")
            } else {
                format!("field label not supported: {path}")
            };
            return Err(ApiError::bad_request(message));
        }
        requirements.push(FieldRequirement {
            path: path.split('.').map(str::to_owned).collect(),
            value: value.to_owned(),
            equal,
        });
    }
    Ok(requirements)
}

/// The grammar of Kubernetes' label selectors: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
fn parse_labels(text: &str) -> Result<Vec<Requirement>, String> {
    let mut requirements = vec![];
    for term in split_terms(text)? {
        let term = term.trim();
        if term.is_empty() {
            continue;
        }
        requirements.push(parse_label_term(term)?);
    }
    Ok(requirements)
}

/// Splits at commas outside parentheses.
fn split_terms(text: &str) -> Result<Vec<&str>, String> {
    let (mut terms, mut start, mut inside) = (vec![], 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' if !inside => inside = true,
            ')' if inside => inside = false,
            '(' | ')' => return Err(format!("found '{c}', expected: ',' or 'end of string'")),
            ',' if !inside => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err("found '', expected: ',' or ')'".into());
    }
    terms.push(&text[start..]);
    Ok(terms)
}

fn parse_label_term(term: &str) -> Result<Requirement, String> {
    let valid_key = |key: &str| -> Result<String, String> {
        let key = key.trim();
        let fine = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        if fine { Ok(key.to_owned()) } else { Err(format!("found {key:?}, expected: identifier")) }
    };
    if let Some(key) = term.strip_prefix('!') {
        return Ok(Requirement::Missing(valid_key(key)?));
    }
    if let Some(open) = term.find('(') {
        let values =
            term[open + 1..].trim_end().trim_end_matches(')').split(',').map(|v| v.trim().to_owned()).collect();
        let head = term[..open].trim_end();
        if let Some(key) = head.strip_suffix(" notin") {
            return Ok(Requirement::NotIn(valid_key(key)?, values));
        }
        if let Some(key) = head.strip_suffix(" in") {
            return Ok(Requirement::In(valid_key(key)?, values));
        }
        return Err(format!("found {head:?}, expected: in, notin, =, ==, !="));
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Ok(Requirement::NotIn(valid_key(key)?, vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(Requirement::In(valid_key(key)?, vec![value.trim().to_owned()]));
    }
    Ok(Requirement::Exists(valid_key(term)?))
}
