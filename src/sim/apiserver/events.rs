//! Events have two faces, `v1` and `events.k8s.io/v1`, and one store, which keeps the first.

use serde_json::{Map, Value};

/// Field names that differ: in `v1`, in `events.k8s.io/v1`.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// A body or patch of `events.k8s.io/v1`, as `v1`.
pub(crate) fn to_core(body: Value) -> Value {
    rename(body, "v1", |name| RENAMED.iter().find(|(_, new)| *new == name).map(|(core, _)| *core))
}

/// A stored Event, as `events.k8s.io/v1`.
pub(crate) fn to_events_group(event: &Value) -> Value {
    rename(event.clone(), "events.k8s.io/v1", |name| {
        RENAMED.iter().find(|(core, _)| *core == name).map(|(_, new)| *new)
    })
}

fn rename(body: Value, api_version: &str, new_name: impl Fn(&str) -> Option<&'static str>) -> Value {
    let Value::Object(fields) = body else { return body };
    let mut renamed = Map::new();
    for (name, value) in fields {
        let value = if name == "apiVersion" { api_version.into() } else { value };
        renamed.insert(new_name(&name).map_or(name, str::to_owned), value);
    }
    Value::Object(renamed)
}
