//! Validation of custom resources, with the API server's own sentences.

use super::{Node, Schema};
use crate::sim::apiserver::error::FieldError;
use kube_cel::Validator;
use serde_json::Value;

impl Schema {
    /// Everything wrong with an object, by field. As in the API server, what an update leaves as it was is not judged
    /// again, and CEL rules are judged only when the rest is fine.
    ///
    /// `before` holds what was found wrong already; the result begins with it.
    pub(crate) fn validate(
        &self,
        validator: &Validator,
        object: &Value,
        old: Option<&Value>,
        before: Vec<FieldError>,
    ) -> Vec<FieldError> {
        let mut found = vec![];
        self.root.validate("", object, old, &mut found);
        found.sort_by(|a, b| (&a.field, &a.message).cmp(&(&b.field, &b.message)));
        let mut errors = before;
        errors.append(&mut found);
        let Some(rules) = &self.rules else { return errors };
        if errors.iter().any(|error| BLOCKING.contains(&error.reason)) {
            let what = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(FieldError::invalid("<nil>", &Value::Null, what));
            return errors;
        }
        let Err(broken) = validator.validate_compiled(rules, object, old) else { return errors };
        for rule in broken.into_vec() {
            let shown = shown_at(object, &rule.field_path);
            let (reason, message) = match rule.reason.as_deref() {
                Some("FieldValueForbidden") => ("FieldValueForbidden", format!("Forbidden: {}", rule.message)),
                Some("FieldValueRequired") => ("FieldValueRequired", format!("Required value: {}", rule.message)),
                Some("FieldValueDuplicate") => (
                    "FieldValueDuplicate",
                    shown.map_or("Duplicate value".into(), |shown| format!("Duplicate value: {shown}")),
                ),
                _ => {
                    let message = match shown {
                        Some(shown) => format!("Invalid value: {shown}: {}", rule.message),
                        None => format!("Invalid value: {}", rule.message),
                    };
                    ("FieldValueInvalid", message)
                }
            };
            let field = if rule.field_path.is_empty() { "<nil>".to_owned() } else { rule.field_path };
            errors.push(FieldError { reason, field, message });
        }
        errors
    }
}

/// Faults that keep the API server from judging CEL rules at all.
const BLOCKING: &[&str] = &[
    "FieldValueNotSupported",
    "FieldValueRequired",
    "FieldValueTooLong",
    "FieldValueTooMany",
    "FieldValueTypeInvalid",
];

/// How the API server shows the value that a CEL rule refused: plain ones as they are, composed ones not at all.
fn shown_at(object: &Value, path: &str) -> Option<String> {
    let mut at = Some(object);
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        let step = step.trim_end_matches(']').trim_matches('"');
        at = at.and_then(|value| match value {
            Value::Array(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
            other => other.get(step),
        });
    }
    match at {
        Some(Value::Object(_) | Value::Array(_)) | None => None,
        Some(Value::String(text)) => Some(format!("{text:?}")),
        Some(other) => Some(other.to_string()),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn invalid(path: &str, value: &Value, what: impl std::fmt::Display) -> FieldError {
    FieldError::invalid(path, value, format!("{} {what}", in_body(path)))
}

/// A fault of `anyOf`, `oneOf` or `not`, which the API server reports without a path.
fn combined(path: &str, what: &str) -> FieldError {
    FieldError {
        reason: "FieldValueInvalid",
        field: "<nil>".into(),
        message: format!("Invalid value: \"\": \"{path}\" {what}"),
    }
}

/// The API server names the field once more, "in body".
fn in_body(path: &str) -> String {
    if path.is_empty() { "in body".to_owned() } else { format!("{path} in body") }
}

impl Node {
    fn validate(&self, path: &str, value: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        if old == Some(value) || (value.is_null() && self.nullable) {
            return;
        }
        if !self.type_fits(value) {
            let shown = Value::String(type_name(value).into());
            let what = format!("must be of type {}: {:?}", self.expected_type(), type_name(value));
            let mut error = invalid(path, &shown, what);
            error.reason = "FieldValueTypeInvalid";
            errors.push(error);
            return;
        }
        self.validate_limits(path, value, errors);
        match value {
            Value::Object(fields) => {
                for name in self.required.iter().filter(|name| !fields.contains_key(*name)) {
                    errors.push(FieldError::required(join(path, name), ""));
                }
                for (name, inner) in fields {
                    // A map's keys are shown as they are; `metadata` has the server's own rules.
                    if let Some(node) = self.field(name) {
                        if path.is_empty() && name == "metadata" {
                            continue;
                        }
                        node.validate(&join(path, name), inner, old.and_then(|old| old.get(name)), errors);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(node) = &self.items {
                    let old = old.and_then(Value::as_array);
                    for (at, item) in items.iter().enumerate() {
                        node.validate(&format!("{path}[{at}]"), item, old.and_then(|old| old.get(at)), errors);
                    }
                }
            }
            _ => {}
        }
    }

    fn expected_type(&self) -> &str {
        if self.int_or_string { "integer,string" } else { &self.types }
    }

    fn type_fits(&self, value: &Value) -> bool {
        if self.int_or_string {
            return value.is_string() || value.is_i64() || value.is_u64();
        }
        match self.types.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            "number" => value.is_number(),
            _ => true,
        }
    }

    fn validate_limits(&self, path: &str, value: &Value, errors: &mut Vec<FieldError>) {
        let limits = &self.limits;
        if !limits.values.is_empty() && !limits.values.contains(value) {
            let shown: Vec<String> = limits
                .values
                .iter()
                .map(|value| value.as_str().map_or(value.to_string(), |text| format!("{text:?}")))
                .collect();
            let what = value.as_str().map_or(value.to_string(), |text| format!("{text:?}"));
            let message = format!("Unsupported value: {what}: supported values: {}", shown.join(", "));
            errors.push(FieldError { reason: "FieldValueNotSupported", field: path.to_owned(), message });
        }
        match value {
            Value::Number(_) => self.validate_number(path, value, errors),
            Value::String(text) => self.validate_string(path, value, text, errors),
            Value::Array(items) => {
                let count = items.len() as u64;
                if let Some(most) = limits.max_items.filter(|most| count > *most) {
                    let message = format!("Too many: {count}: must have at most {most} items");
                    errors.push(FieldError { reason: "FieldValueTooMany", field: path.to_owned(), message });
                }
                if let Some(least) = limits.min_items.filter(|least| count < *least) {
                    errors.push(invalid(path, &count.into(), format!("should have at least {least} items")));
                }
            }
            Value::Object(fields) => {
                let count = fields.len() as u64;
                if let Some(most) = limits.max_properties.filter(|most| count > *most) {
                    let message = format!("Too many: {count}: must have at most {most} items");
                    errors.push(FieldError { reason: "FieldValueTooMany", field: path.to_owned(), message });
                }
                if let Some(least) = limits.min_properties.filter(|least| count < *least) {
                    errors.push(invalid(path, &count.into(), format!("should have at least {least} properties")));
                }
            }
            _ => {}
        }
        self.validate_combinations(path, value, errors);
    }

    fn validate_number(&self, path: &str, value: &Value, errors: &mut Vec<FieldError>) {
        let (limits, Some(number)) = (&self.limits, value.as_f64()) else { return };
        if let Some(least) = limits.minimum {
            if limits.exclusive_minimum && number <= least {
                errors.push(invalid(path, value, format!("should be greater than {least}")));
            } else if number < least {
                errors.push(invalid(path, value, format!("should be greater than or equal to {least}")));
            }
        }
        if let Some(most) = limits.maximum {
            if limits.exclusive_maximum && number >= most {
                errors.push(invalid(path, value, format!("should be less than {most}")));
            } else if number > most {
                errors.push(invalid(path, value, format!("should be less than or equal to {most}")));
            }
        }
    }

    fn validate_string(&self, path: &str, value: &Value, text: &str, errors: &mut Vec<FieldError>) {
        let limits = &self.limits;
        let length = text.chars().count() as u64;
        if let Some(most) = limits.max_length.filter(|most| length > *most) {
            let message = format!("Too long: may not be more than {most} bytes");
            errors.push(FieldError { reason: "FieldValueTooLong", field: path.to_owned(), message });
        }
        if let Some(least) = limits.min_length.filter(|least| length < *least) {
            errors.push(invalid(path, value, format!("should be at least {least} chars long")));
        }
        if let Some(pattern) = limits.pattern.as_ref().filter(|pattern| !pattern.0.is_match(text)) {
            errors.push(invalid(path, value, format!("should match '{}'", pattern.0.as_str())));
        }
        if limits.format.as_deref() == Some("date-time") && text.parse::<jiff::Timestamp>().is_err() {
            errors.push(invalid(path, value, format!("must be of type date-time: {text:?}")));
        }
    }

    fn validate_combinations(&self, path: &str, value: &Value, errors: &mut Vec<FieldError>) {
        let limits = &self.limits;
        let fits = |node: &Self| {
            let mut inner = vec![];
            node.validate(path, value, None, &mut inner);
            inner.is_empty()
        };
        for node in &limits.all_of {
            node.validate(path, value, None, errors);
        }
        if !limits.any_of.is_empty() && !limits.any_of.iter().any(fits) {
            errors.push(combined(path, "must validate at least one schema (anyOf)"));
        }
        if !limits.one_of.is_empty() {
            match limits.one_of.iter().filter(|node| fits(node)).count() {
                0 => errors.push(combined(path, "must validate one and only one schema (oneOf). Found none valid")),
                1 => {}
                many => errors.push(combined(
                    path,
                    &format!("must validate one and only one schema (oneOf). Found {many} valid alternatives"),
                )),
            }
        }
        if limits.not.as_deref().is_some_and(fits) {
            errors.push(combined(path, "must not validate the schema (not)"));
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
