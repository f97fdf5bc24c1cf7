//! Validation by schema, as `k8s.io/kube-openapi/pkg/validation/validate` does it, for the parts of a schema that ours
//! use.

use super::{FieldError, go};
use regex::Regex;
use serde_json::{Number, Value};
use std::collections::BTreeMap;

/// The patterns of a schema, compiled once: a list of junk may hold a hundred thousand texts.
#[derive(Debug, Default)]
pub(super) struct Patterns(BTreeMap<String, Regex>);

impl Patterns {
    pub(super) fn of(schema: &Value) -> Self {
        let mut patterns = Self::default();
        patterns.collect(schema);
        patterns
    }

    fn collect(&mut self, schema: &Value) {
        match schema {
            Value::Object(fields) => {
                if let Some(pattern) = fields.get("pattern").and_then(Value::as_str)
                    && let Ok(regex) = Regex::new(pattern)
                {
                    self.0.insert(pattern.to_owned(), regex);
                }
                fields.values().for_each(|value| self.collect(value));
            }
            Value::Array(items) => items.iter().for_each(|value| self.collect(value)),
            _ => {}
        }
    }

    fn accept(&self, pattern: &str, text: &str) -> bool {
        self.0.get(pattern).is_none_or(|pattern| pattern.is_match(text))
    }
}

pub(super) fn check(object: &Value, schema: &Value, patterns: &Patterns, errors: &mut Vec<FieldError>) {
    at(object, schema, "", patterns, errors);
}

/// The recursion follows the schema, so it ends with it.
fn at(value: &Value, schema: &Value, path: &str, patterns: &Patterns, errors: &mut Vec<FieldError>) {
    types(value, schema, path, errors);
    match value {
        Value::String(text) => text_bounds(value, text, schema, path, patterns, errors),
        Value::Number(number) => number_bounds(value, number, schema, path, errors),
        _ => {}
    }
    allowed(value, schema, path, errors);
    match value {
        Value::Object(fields) => {
            if let Some(most) = schema["maxProperties"].as_u64().filter(|most| fields.len() as u64 > *most) {
                errors.push(FieldError::too_many(path, fields.len(), most));
            }
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, value) in fields {
                let known = properties.and_then(|properties| properties.get(name));
                if let Some(schema) = known.or_else(|| schema.get("additionalProperties")) {
                    at(value, schema, &join(path, name), patterns, errors);
                }
            }
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    errors.push(FieldError::required(&join(path, name), ""));
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    at(item, schema, &format!("{path}[{index}]"), patterns, errors);
                }
            }
            if let Some(least) = schema["minItems"].as_u64().filter(|least| (items.len() as u64) < *least) {
                let detail = format!("{path} in body should have at least {least} items");
                errors.push(FieldError::invalid(path, &items.len().into(), &detail));
            }
            if let Some(most) = schema["maxItems"].as_u64().filter(|most| items.len() as u64 > *most) {
                errors.push(FieldError::too_many(path, items.len(), most));
            }
        }
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The type that the validator sees, and the format it gives to numbers.
fn seen(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(number) if go::is_float64(number) => ("number", "float64"),
        Value::Number(_) => ("integer", "int64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

fn types(value: &Value, schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let int_or_string = schema["x-kubernetes-int-or-string"] == true;
    let expected = match schema["type"].as_str() {
        _ if int_or_string => "integer,string",
        Some(expected) => expected,
        None => return,
    };
    let expects = |name: &str| expected.split(',').any(|expected| expected == name);
    let format = schema["format"].as_str().unwrap_or_default();
    let (found, found_format) = seen(value);
    let is_text_or_list = matches!(value, Value::String(_) | Value::Array(_));
    let is_whole = expects("integer") && value.as_number().is_some_and(is_json_integer);
    if !value.is_null() && !format.is_empty() {
        if !is_text_or_list && !expects(found) && found_format != format && !is_whole {
            return errors.push(FieldError::type_invalid(path, format, found_format));
        }
        // The validator leaves these to the format.
        if is_text_or_list && !expects("integer") {
            if let Value::String(text) = value
                && format == "date-time"
                && !is_date_time(text)
            {
                let detail = format!("{path} in body must be of type date-time: {}", go::quoted(text));
                errors.push(FieldError::type_invalid_text(path, text, &detail));
            }
            return;
        }
    }
    if !expects(found) && !is_whole {
        errors.push(FieldError::type_invalid(path, expected, found));
    }
}

/// A float that stands for an integer without loss (`swag.IsFloat64AJSONInteger`).
fn is_json_integer(number: &Number) -> bool {
    const MOST: f64 = 9_007_199_254_740_991.0;
    go::is_float64(number) && number.as_f64().is_some_and(|float| float.abs() <= MOST && float.fract() == 0.0)
}

/// The first of the bounds that a text breaks.
fn text_bounds(
    value: &Value,
    text: &str,
    schema: &Value,
    path: &str,
    patterns: &Patterns,
    errors: &mut Vec<FieldError>,
) {
    let length = text.chars().count() as u64;
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        errors.push(FieldError::too_long(path, most));
    } else if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
        errors.push(FieldError::invalid(path, value, &format!("{path} in body should be at least {least} chars long")));
    } else if let Some(pattern) = schema["pattern"].as_str()
        && !patterns.accept(pattern, text)
    {
        errors.push(FieldError::invalid(path, value, &format!("{path} in body should match '{pattern}'")));
    }
}

fn number_bounds(value: &Value, number: &Number, schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let Some(float) = number.as_f64() else { return };
    let is_float = go::is_float64(number);
    if schema["type"] == "integer" && is_float && !is_json_integer(number) {
        let format =
            schema["format"].as_str().map_or("(default format)".to_owned(), |format| format!("with format {format}"));
        errors.push(FieldError::invalid(
            "",
            &Value::String(String::new()),
            &format!("Checked value must be of type integer {format} in {path}"),
        ));
    }
    let bound = |bound: f64| if is_float { go::float(bound) } else { format!("{bound}") };
    if let Some(most) = schema["maximum"].as_f64().filter(|most| float > *most) {
        let detail = format!("{path} in body should be less than or equal to {}", bound(most));
        errors.push(FieldError::invalid(path, value, &detail));
    }
    if let Some(least) = schema["minimum"].as_f64().filter(|least| float < *least) {
        let detail = format!("{path} in body should be greater than or equal to {}", bound(least));
        errors.push(FieldError::invalid(path, value, &detail));
    }
}

fn allowed(value: &Value, schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        errors.push(FieldError::not_supported(path, value, allowed));
    }
}

/// `2006-01-02T15:04:05Z` with or without a fraction, or with an offset (`strfmt.IsDateTime`).
fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let Some((date, time)) = lower.split_once('t') else { return false };
    let bytes = time.as_bytes();
    let two = |at: usize, most: u8| {
        bytes
            .get(at..at + 2)
            .is_some_and(|two| two.iter().all(u8::is_ascii_digit) && (two[0] - b'0') * 10 + (two[1] - b'0') <= most)
    };
    let is_time = two(0, 23) && bytes.get(2) == Some(&b':') && two(3, 59) && bytes.get(5) == Some(&b':') && two(6, 59);
    is_time && is_date(date) && is_end_of_time(&time[8..])
}

fn is_date(date: &str) -> bool {
    date.len() == 10 && date.parse::<jiff::civil::Date>().is_ok()
}

/// `(.[0-9]+)?(z|[+-][0-9]{2}:[0-9]{2})`
fn is_end_of_time(end: &str) -> bool {
    let end = match end.strip_prefix('.') {
        Some(fraction) => {
            let rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if rest.len() == fraction.len() {
                return false;
            }
            rest
        }
        None => end,
    };
    let is_offset = |offset: &[u8]| match offset {
        [a, b, b':', c, d] => [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()),
        _ => false,
    };
    end == "z" || end.strip_prefix(['+', '-']).is_some_and(|offset| is_offset(offset.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_from_other_texts() {
        for text in ["2026-01-02T03:04:05Z", "2026-01-02t03:04:05.123456+02:00", "2024-02-29T23:59:59z"] {
            assert!(is_date_time(text), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-02-30T03:04:05Z",
            "2026-01-02T24:04:05Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05+0200",
            "2026-01-02Té3:04:05Z",
        ] {
            assert!(!is_date_time(text), "{text}");
        }
    }
}
