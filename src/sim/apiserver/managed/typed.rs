//! Compare, merge and prune values by type. Source: `structured-merge-diff/typed`.

use super::{
    field_set::{Entry, FieldSet},
    types::Type,
};
use crate::sim::apiserver::schema::ListType;
use serde_json::{Map, Value};

/// Which paths differ between two values.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) added: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) removed: FieldSet,
}

/// Compares two values.
pub(crate) fn compare(of: Type<'_>, left: &Value, right: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    compare_at(of, Some(left), Some(right), &mut vec![], &mut comparison);
    comparison
}

fn compare_at(of: Type<'_>, left: Option<&Value>, right: Option<&Value>, path: &mut Vec<String>, out: &mut Comparison) {
    if left == right {
        return;
    }
    let leaf = |path: &[String], out: &mut Comparison| match (left, right) {
        (None, _) => out.added.insert(path),
        (_, None) => out.removed.insert(path),
        _ => out.modified.insert(path),
    };
    // Null stands for an empty map or list, whichever the other side is.
    let shapes = match (left.map(Shape::of), right.map(Shape::of)) {
        (Some(Shape::Null), Some(other @ (Shape::Map | Shape::List)))
        | (Some(other @ (Shape::Map | Shape::List)), Some(Shape::Null)) => (Some(other), Some(other)),
        shapes => shapes,
    };
    let both_empty = left.is_none_or(is_empty) && right.is_none_or(is_empty);
    match shapes {
        (Some(Shape::Map) | None, Some(Shape::Map)) | (Some(Shape::Map), None)
            if !of.is_atomic_map() && !both_empty =>
        {
            let (no_left, no_right) = (Map::new(), Map::new());
            let left_map = left.and_then(Value::as_object).unwrap_or(&no_left);
            let right_map = right.and_then(Value::as_object).unwrap_or(&no_right);
            let extra = right_map.keys().filter(|name| !left_map.contains_key(*name));
            for name in left_map.keys().chain(extra) {
                path.push(format!("f:{name}"));
                compare_at(of.field(name).0, left_map.get(name), right_map.get(name), path, out);
                path.pop();
            }
        }
        (Some(Shape::List) | None, Some(Shape::List)) | (Some(Shape::List), None)
            if of.list_type() != ListType::Atomic && !both_empty =>
        {
            let list = of.list_type();
            let (Some(left_items), Some(right_items)) = (steps(of, &list, left), steps(of, &list, right)) else {
                leaf(path, out);
                return;
            };
            for (step, item) in &left_items {
                let other = right_items.iter().find(|(other, _)| other == step).map(|(_, item)| *item);
                path.push(step.clone());
                compare_at(of.item(), Some(item), other, path, out);
                path.pop();
            }
            for (step, item) in
                right_items.iter().filter(|(step, _)| !left_items.iter().any(|(other, _)| other == step))
            {
                path.push(step.clone());
                compare_at(of.item(), None, Some(item), path, out);
                path.pop();
            }
        }
        _ => return leaf(path, out),
    }
    // Maps and lists that come or go are themselves members of the sets.
    match (left, right) {
        (None, _) => out.added.insert(path),
        (_, None) => out.removed.insert(path),
        _ => {}
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Null,
    Map,
    List,
    Plain,
}

impl Shape {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Object(_) => Self::Map,
            Value::Array(_) => Self::List,
            Value::Bool(_) | Value::Number(_) | Value::String(_) => Self::Plain,
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Null => true,
        _ => false,
    }
}

/// A list's items with their steps; `None` where an item has no key.
fn steps<'v>(of: Type<'_>, list: &ListType, value: Option<&'v Value>) -> Option<Vec<(String, &'v Value)>> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.map(|item| Some((of.step_of(list, item)?, item))).collect()
}

/// The paths that a value names.
pub(crate) fn to_field_set(of: Type<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(of, value, &mut vec![], &mut set);
    set
}

fn collect(of: Type<'_>, value: &Value, path: &mut Vec<String>, set: &mut FieldSet) {
    match value {
        Value::Object(map) if !of.is_atomic_map() => {
            for (name, inner) in map {
                let (inner_type, named) = of.field(name);
                path.push(format!("f:{name}"));
                collect(inner_type, inner, path, set);
                let hollow = inner.is_null() || inner.as_object().is_some_and(Map::is_empty);
                if hollow || !named {
                    set.insert(path);
                }
                path.pop();
            }
        }
        Value::Array(items) => {
            let list = of.list_type();
            if list == ListType::Atomic {
                return set.insert(path);
            }
            for item in items {
                let Some(step) = of.step_of(&list, item) else { continue };
                path.push(step);
                collect(of.item(), item, path, set);
                set.insert(path);
                path.pop();
            }
        }
        _ => set.insert(path),
    }
}

/// Checks a configuration against its type: declared fields, kinds of values, keyed lists with their keys, each once.
/// The message is that of the real server.
pub(crate) fn check(of: Type<'_>, value: &Value) -> Result<(), String> {
    let mut errors = vec![];
    check_at(of, value, "", &mut errors);
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn check_at(of: Type<'_>, value: &Value, path: &str, errors: &mut Vec<String>) {
    let what = match (of.expected(), value) {
        (_, Value::Null) | ("", _) => None,
        ("object", Value::Object(_)) | ("array", Value::Array(_)) => None,
        ("string", Value::String(_)) | ("boolean", Value::Bool(_)) | ("integer" | "number", Value::Number(_)) => None,
        ("object", other) => Some(format!("expected map, got {}", go_value(other))),
        ("array", other) => Some(format!("expected list, got {}", go_value(other))),
        ("string", other) => Some(format!("expected string, got {}", go_value(other))),
        ("boolean", other) => Some(format!("expected boolean, got {}", go_value(other))),
        (_, other) => Some(format!("expected numeric (int or float), got {}", go_type(other))),
    };
    if let Some(what) = what {
        return errors.push(format!("{path}: {what}"));
    }
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                let path = format!("{path}.{name}");
                if of.declares(name) {
                    check_at(of.field(name).0, inner, &path, errors);
                } else {
                    errors.push(format!("{path}: field not declared in schema"));
                }
            }
        }
        Value::Array(items) => check_items(of, items, path, errors),
        _ => {}
    }
}

fn check_items(of: Type<'_>, items: &[Value], path: &str, errors: &mut Vec<String>) {
    let list = of.list_type();
    let mut seen = vec![];
    for (at, item) in items.iter().enumerate() {
        if list == ListType::Atomic {
            check_at(of.item(), item, &format!("{path}[{at}]"), errors);
            continue;
        }
        let Some(step) = of.step_of(&list, item) else {
            let keys = match &list {
                ListType::Map(keys) => keys.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(" "),
                ListType::Set | ListType::Atomic => String::new(),
            };
            errors.push(format!(
                "{path}: element {at}: associative list with keys has an element that omits all key fields [{keys}] (and doesn't have default values for any key fields)"
            ));
            continue;
        };
        let mut entry = FieldSet::default();
        entry.insert(std::slice::from_ref(&step));
        let shown = entry.paths().concat();
        if seen.contains(&step) {
            errors.push(format!("{path}: duplicate entries for key {shown}"));
        }
        check_at(of.item(), item, &format!("{path}{shown}"), errors);
        seen.push(step);
    }
}

/// A value as Go's `%v` prints `structured-merge-diff`'s values.
fn go_value(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        Value::Null | Value::Number(_) => "nil",
    }
}

/// Lays `right` over `left`.
pub(crate) fn merge(of: Type<'_>, left: &Value, right: &Value) -> Value {
    merge_at(of, Some(left), Some(right)).unwrap_or_else(|| Value::Object(Map::new()))
}

fn merge_at(of: Type<'_>, left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    let (Some(below), Some(above)) = (left, right) else { return right.or(left).cloned() };
    let both_empty = is_empty(below) && is_empty(above);
    match (below, above) {
        (Value::Object(below), Value::Object(_) | Value::Null) if !of.is_atomic_map() && !both_empty => {
            let nothing = Map::new();
            let above = above.as_object().unwrap_or(&nothing);
            let mut merged = Map::new();
            let extra = above.keys().filter(|name| !below.contains_key(*name));
            for name in below.keys().chain(extra) {
                if let Some(value) = merge_at(of.field(name).0, below.get(name), above.get(name)) {
                    merged.insert(name.clone(), value);
                }
            }
            (!merged.is_empty()).then_some(Value::Object(merged))
        }
        (Value::Array(_), Value::Array(_)) if of.list_type() != ListType::Atomic && !both_empty => {
            let list = of.list_type();
            match (steps(of, &list, left), steps(of, &list, right)) {
                (Some(below), Some(above)) => {
                    let merged = merge_lists(of, &below, &above);
                    (!merged.is_empty()).then_some(Value::Array(merged))
                }
                _ => right.cloned(),
            }
        }
        _ => right.cloned(),
    }
}

/// Merges two keyed lists: the items of `above` in their order, those of `below` alone where they stood.
fn merge_lists(of: Type<'_>, below: &[(String, &Value)], above: &[(String, &Value)]) -> Vec<Value> {
    let find = |list: &[(String, &Value)], step: &str| list.iter().position(|(other, _)| other == step);
    let item = |step: &str| {
        let pick = |list: &[(String, &'_ Value)]| find(list, step).map(|at| list[at].1.clone());
        merge_at(of.item(), pick(below).as_ref(), pick(above).as_ref())
    };
    let mut shared = above.iter().map(|(step, _)| step).filter(|step| find(below, step).is_some());
    let mut next_shared = shared.next();
    let mut done: Vec<&str> = vec![];
    let mut merged = vec![];
    let (mut left, mut right) = (0, 0);
    while left < below.len() || right < above.len() {
        if left < below.len() && right < above.len() {
            let step = &below[left].0;
            if *step == above[right].0 {
                done.push(step);
                merged.extend(item(step));
                left += 1;
                right += 1;
                next_shared = shared.next();
                continue;
            }
            if find(above, step).is_some() && next_shared.is_some_and(|next| next != step) {
                left += 1;
                continue;
            }
        }
        if left < below.len() {
            let step = &below[left].0;
            if find(above, step).is_none() {
                merged.extend(item(step));
                left += 1;
                continue;
            }
            if done.contains(&step.as_str()) {
                left += 1;
            }
        }
        if right < above.len() {
            let step = &above[right].0;
            done.push(step);
            merged.extend(item(step));
            right += 1;
            if next_shared == Some(step) {
                next_shared = shared.next();
            }
        }
    }
    merged
}

/// A value without the fields and items of a set; `None` when nothing is left.
pub(crate) fn remove_items(of: Type<'_>, value: &Value, gone: &FieldSet) -> Option<Value> {
    match value {
        Value::Object(map) => {
            if of.is_atomic_map() || map.is_empty() {
                return None;
            }
            let mut left = Map::new();
            for (name, inner) in map {
                match gone.entries.get(&format!("f:{name}")) {
                    Some(Entry { member: true, .. }) => {}
                    Some(Entry { below, .. }) if !below.is_empty() => {
                        left.insert(name.clone(), remove_items(of.field(name).0, inner, below).unwrap_or_default());
                    }
                    _ => {
                        left.insert(name.clone(), inner.clone());
                    }
                }
            }
            (!left.is_empty()).then_some(Value::Object(left))
        }
        Value::Array(items) => {
            let list = of.list_type();
            if list == ListType::Atomic || items.is_empty() {
                return None;
            }
            let mut left = vec![];
            for item in items {
                let entry = of.step_of(&list, item).and_then(|step| gone.entries.get(&step));
                match entry {
                    Some(Entry { member: true, .. }) => {}
                    Some(Entry { below, .. }) if !below.is_empty() => {
                        left.push(remove_items(of.item(), item, below).unwrap_or_default());
                    }
                    _ => left.push(item.clone()),
                }
            }
            (!left.is_empty()).then_some(Value::Array(left))
        }
        plain => Some(plain.clone()),
    }
}

/// The set with every struct field on the way to a member made a member too.
pub(crate) fn with_named_fields(of: Type<'_>, set: &FieldSet) -> FieldSet {
    let mut all = FieldSet::default();
    for (step, entry) in &set.entries {
        let (inner, named) = of.at_step(step);
        let is_field = step.starts_with("f:");
        let member = entry.member || (is_field && named && !entry.below.is_empty());
        all.entries.insert(step.clone(), Entry { member, below: with_named_fields(inner, &entry.below) });
    }
    all
}
