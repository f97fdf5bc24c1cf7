//! What may differ between two runs of one script.

use serde_json::{Map, Value};

/// Texts that are hidden wherever they occur in one answer.
pub(super) struct Mask {
    hidden: Vec<(String, &'static str)>,
}

impl Mask {
    /// Collects the uids and generated names of an answer.
    pub(super) fn of(body: &Value) -> Self {
        let mut hidden = vec![];
        collect(body, &mut hidden);
        Self { hidden }
    }

    /// The answer with everything hidden that may differ.
    pub(super) fn apply(&self, value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let masked = fields.iter().map(|(name, value)| (name.clone(), self.field(name, value)));
                Value::Object(masked.collect::<Map<_, _>>())
            }
            Value::Array(items) => Value::Array(items.iter().map(|item| self.apply(item)).collect()),
            Value::String(text) => Value::String(self.text(text)),
            other => other.clone(),
        }
    }

    fn field(&self, name: &str, value: &Value) -> Value {
        match (name, value) {
            ("uid", Value::String(_)) => "<uid>".into(),
            ("resourceVersion", Value::String(text)) if !text.is_empty() => "<version>".into(),
            ("continue", Value::String(text)) if !text.is_empty() => "<token>".into(),
            // The causes of a refusal come in the order of a Go map.
            ("causes", Value::Array(causes)) => {
                let mut causes: Vec<Value> = causes.iter().map(|cause| self.apply(cause)).collect();
                causes.sort_by_key(Value::to_string);
                Value::Array(causes)
            }
            ("message", Value::String(text)) => Value::String(sorted_message(&self.text(text))),
            // They stand in the order of their times.
            ("managedFields", Value::Array(entries)) => {
                let mut entries: Vec<Value> = entries.iter().map(|entry| self.apply(entry)).collect();
                let key = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
                entries
                    .sort_by_key(|entry| (key(entry, "operation"), key(entry, "manager"), key(entry, "subresource")));
                Value::Array(entries)
            }
            _ => self.apply(value),
        }
    }

    fn text(&self, text: &str) -> String {
        // The difference between two Go structs, which is not ours to print.
        let mut text = text.split("\n@@").next().unwrap_or(text).to_owned();
        for (hidden, shown) in &self.hidden {
            text = text.replace(hidden, shown);
        }
        hide_numbers(&hide_times(&hide_uids(&text)))
    }
}

fn collect(value: &Value, hidden: &mut Vec<(String, &'static str)>) {
    match value {
        Value::Object(fields) => {
            if let (Some(prefix), Some(name)) = (fields.get("generateName"), fields.get("name"))
                && let (Some(prefix), Some(name)) = (prefix.as_str(), name.as_str())
                && name.starts_with(prefix)
            {
                hidden.push((name.to_owned(), "<generated>"));
            }
            fields.values().for_each(|inner| collect(inner, hidden));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect(inner, hidden)),
        _ => {}
    }
}

/// Several faults in one message come in the order of a Go map.
fn sorted_message(text: &str) -> String {
    let Some((head, list)) = text.split_once(": [").filter(|(_, list)| list.ends_with(']')) else {
        return text.to_owned();
    };
    let list = list.trim_end_matches(']');
    let starts = [", spec.", ", spec:", ", metadata.", ", <nil>:"];
    let mut faults = vec![];
    let mut from = 0;
    while let Some(length) = starts.iter().filter_map(|start| list.get(from + 1..)?.find(start)).min() {
        faults.push(&list[from..from + 1 + length]);
        from += 1 + length + 2;
    }
    faults.push(&list[from..]);
    faults.sort_unstable();
    format!("{head}: [{}]", faults.join(", "))
}

fn hide_uids(text: &str) -> String {
    let is_uid = |word: &str| {
        let parts: Vec<usize> = word.split('-').map(str::len).collect();
        parts == [8, 4, 4, 4, 12] && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
    };
    replace_words(text, |c| c.is_ascii_alphanumeric() || c == '-', |word| is_uid(word).then_some("<uid>"))
}

fn hide_times(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_digit() || "-:.TZ".contains(c);
    replace_words(text, is_part, |word| {
        let shape = word.len() >= 20 && word.ends_with('Z') && word.as_bytes().get(10) == Some(&b'T');
        shape.then_some("<time>")
    })
}

/// Numbers in a sentence about versions are versions.
fn hide_numbers(text: &str) -> String {
    if !text.contains("ersion") {
        return text.to_owned();
    }
    replace_words(text, |c| c.is_ascii_digit(), |_| Some("<version>"))
}

fn replace_words(text: &str, is_part: impl Fn(char) -> bool, hide: impl Fn(&str) -> Option<&'static str>) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(&is_part) {
        let end = rest[start..].find(|c| !is_part(c)).map_or(rest.len(), |length| start + length);
        masked.push_str(&rest[..start]);
        let word = &rest[start..end];
        masked.push_str(hide(word).unwrap_or(word));
        rest = &rest[end..];
    }
    masked.push_str(rest);
    masked
}
