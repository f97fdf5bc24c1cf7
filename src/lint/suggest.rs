//! What to write instead of what the API server refused.

use super::apiserver::{ErrorKind, FieldError};
use serde_json::Value;

/// What to write, where the API server's own words do not say so.
pub(super) fn fix(error: &FieldError, object: &Value, schema: &Value) -> Option<String> {
    match error.kind {
        ErrorKind::Decode if error.body.contains("unknown field") => unknown_field(&error.field, schema),
        ErrorKind::TypeInvalid => wrong_type(&error.field, at(object, &error.field)?, schema),
        ErrorKind::NotSupported => {
            let Value::String(written) = at(object, &error.field)? else { return None };
            let allowed = schema_at(schema, &error.field)?["enum"].as_array()?.iter().filter_map(Value::as_str);
            closest(written, allowed).map(|close| format!("write {}", plain(close)))
        }
        ErrorKind::Required if error.field.starts_with("spec") => {
            let (name, schema) = (last(&error.field), schema_at(schema, &error.field)?);
            if let Some(allowed) = schema["enum"].as_array() {
                let allowed: Vec<_> = allowed.iter().filter_map(Value::as_str).map(plain).collect();
                return Some(format!("write {name}: {}", allowed.join(" or ")));
            }
            schema["description"].as_str().map(|text| format!("write {name} ({})", first_sentence(text)))
        }
        _ => None,
    }
}

fn first_sentence(text: &str) -> &str {
    text.split_inclusive('.').next().unwrap_or(text).trim_end_matches('.')
}

fn last(field: &str) -> &str {
    field.rsplit('.').next().unwrap_or(field)
}

fn unknown_field(field: &str, schema: &Value) -> Option<String> {
    let (parent, name) = field.rsplit_once('.').unwrap_or(("", field));
    let names = schema_at(schema, parent)?["properties"].as_object()?;
    if let Some(close) = closest(name, names.keys().map(String::as_str)) {
        return Some(format!("write {close}"));
    }
    let names: Vec<_> = names.keys().map(String::as_str).collect();
    Some(format!("leave it out; {} has {}", if parent.is_empty() { "the object" } else { parent }, names.join(", ")))
}

fn wrong_type(field: &str, value: &Value, schema: &Value) -> Option<String> {
    let schema = schema_at(schema, field)?;
    let name = last(field);
    match (value, schema["type"].as_str()?) {
        (Value::Bool(false), "string") if allows(schema, "Off") => {
            Some(format!("write {name}: \"Off\", in quotes: YAML reads a bare Off as false"))
        }
        (Value::Bool(_), "string") => Some("put it in quotes: YAML reads it as a boolean".to_owned()),
        (Value::Number(number), "string") if takes_duration(schema) => {
            Some(format!("write a unit: {name}: {number}s or {number}m"))
        }
        (Value::Number(number), "string") => Some(format!("put it in quotes: \"{number}\"")),
        (Value::String(text), "integer") if text.trim_end_matches('%').parse::<i64>().is_ok() => {
            Some(format!("write a bare number: {name}: {}", text.trim_end_matches('%')))
        }
        (Value::Number(_), "integer") => Some("write a whole number".to_owned()),
        (Value::String(text), "boolean") => {
            let value = ["true", "yes", "on", "y"].contains(&text.to_lowercase().as_str());
            Some(format!("write {name}: {value}"))
        }
        (_, "array") => Some(format!("write a list: {name}: [ … ]")),
        (_, "object") => {
            let names: Vec<_> = schema["properties"].as_object()?.keys().map(String::as_str).collect();
            Some(format!("write fields below {name}: {}", names.join(", ")))
        }
        _ => None,
    }
}

fn allows(schema: &Value, value: &str) -> bool {
    schema["enum"].as_array().is_some_and(|allowed| allowed.iter().any(|allowed| allowed == value))
}

fn takes_duration(schema: &Value) -> bool {
    schema["x-kubernetes-validations"][0]["rule"].as_str().is_some_and(|rule| rule.contains("duration("))
}

/// A word as it must be written for kubectl.
fn plain(word: &str) -> String {
    if crate::crds::OLD_BOOLEANS.contains(&word) { format!("\"{word}\", in quotes") } else { word.to_owned() }
}

/// The value of a field.
fn at<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    parts(field).try_fold(object, |value, part| match part.strip_suffix(']') {
        Some(index) => value.get(index.parse::<usize>().ok()?),
        None => value.get(part),
    })
}

/// The schema of a field.
fn schema_at<'a>(schema: &'a Value, field: &str) -> Option<&'a Value> {
    parts(field).try_fold(schema, |schema, part| match part.ends_with(']') {
        true => schema.get("items"),
        false => schema.get("properties").and_then(|properties| properties.get(part)),
    })
}

fn parts(field: &str) -> impl Iterator<Item = &str> {
    field.split(['.', '[']).filter(|part| !part.is_empty())
}

/// The word that was probably meant: at most a third of its letters differ, whatever their case.
pub(super) fn closest<'a>(written: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if written.chars().count() > LONGEST {
        return None;
    }
    let written = written.to_lowercase();
    words
        .map(|word| (distance(&written, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance * 3 <= word.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitution = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_word_is_close() {
        let words = ["thresholds", "migration", "mode"];
        assert_eq!(closest("threshold", words.into_iter()), Some("thresholds"));
        assert_eq!(closest("Mode", words.into_iter()), Some("mode"));
        assert_eq!(closest("weather", words.into_iter()), None);
        assert_eq!(closest(&"x".repeat(1 << 20), words.into_iter()), None);
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("mode", "mdoe", 2)] {
            assert_eq!(distance(a, b), expected);
        }
    }
}
