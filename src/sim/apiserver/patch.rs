//! JSON merge patch, JSON patch and strategic merge patch.

use super::{error::ApiError, registry::Resource};
use serde_json::{Map, Value};

/// Which kind of patch a body is, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchKind {
    pub(crate) fn of(content_type: &str, resource: &Resource) -> Result<Self, ApiError> {
        let kind = match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Self::Json,
            "application/merge-patch+json" => Self::Merge,
            "application/strategic-merge-patch+json" if !resource.custom => Self::Strategic,
            "application/apply-patch+yaml" | "application/apply-patch+json" => Self::Apply,
            other => {
                let mut known =
                    vec!["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
                if !resource.custom {
                    known.push("application/strategic-merge-patch+json");
                }
                let _ = other;
                return Err(ApiError::unsupported_media_type(format!(
                    "the body of the request was in an unknown format - accepted media types include: {}",
                    known.join(", ")
                )));
            }
        };
        Ok(kind)
    }
}

/// Applies a JSON patch (RFC 6902).
pub(crate) fn apply_json(object: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let operations: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    json_patch::patch(object, &operations).map_err(|_| ApiError::unprocessable_patch())
}

/// Applies a JSON merge patch (RFC 7386).
pub(crate) fn apply_merge(object: &mut Value, patch: &Value) {
    json_patch::merge(object, patch);
}

/// The key by which strategic merge patch matches a list's items: the `patchMergeKey` of Kubernetes' Go types.
/// `None` for lists that are replaced as a whole.
fn merge_key(parent: &str, field: &str) -> Option<&'static str> {
    Some(match (parent, field) {
        (
            _,
            "containers"
            | "initContainers"
            | "ephemeralContainers"
            | "env"
            | "volumes"
            | "imagePullSecrets"
            | "secrets",
        ) => "name",
        (_, "conditions" | "addresses") => "type",
        (_, "ownerReferences") => "uid",
        (_, "volumeMounts") => "mountPath",
        (_, "volumeDevices") => "devicePath",
        (_, "topologySpreadConstraints") => "topologyKey",
        (_, "hostAliases" | "podIPs") => "ip",
        ("spec", "ports") => "port",
        (_, "ports") => "containerPort",
        _ => return None,
    })
}

/// Whether a list of plain values is a set that a strategic merge patch adds to.
fn is_merged_set(field: &str) -> bool {
    field == "finalizers"
}

/// Applies a strategic merge patch: lists with a merge key merge item by item, `$patch` and `$deleteFromPrimitiveList`
/// directives are obeyed, `$setElementOrder` and `$retainKeys` too.
pub(crate) fn apply_strategic(object: &mut Value, patch: &Value) -> Result<(), ApiError> {
    merge_strategic("", object, patch)
}

fn merge_strategic(parent: &str, object: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return Ok(());
    };
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *object = Value::Object(without_directives(patch));
            return Ok(());
        }
        Some("delete") => {
            *object = Value::Object(Map::new());
            return Ok(());
        }
        _ => {}
    }
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(fields) = object else { return Ok(()) };
    if let Some(keep) = patch.get("$retainKeys").and_then(Value::as_array) {
        fields.retain(|name, _| keep.iter().any(|kept| kept == name.as_str()));
    }
    for (name, change) in patch {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(have)), Some(gone)) = (fields.get_mut(list), change.as_array()) {
                have.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if name.starts_with('$') {
            continue;
        }
        match change {
            Value::Null => {
                fields.shift_remove(name);
            }
            Value::Array(items) => merge_list(parent, name, fields, items)?,
            Value::Object(_) => {
                merge_strategic(name, fields.entry(name.clone()).or_insert_with(|| Value::Object(Map::new())), change)?
            }
            plain => {
                fields.insert(name.clone(), plain.clone());
            }
        }
    }
    for (name, order) in patch {
        let (Some(list), Some(order)) = (name.strip_prefix("$setElementOrder/"), order.as_array()) else { continue };
        if let Some(Value::Array(items)) = fields.get_mut(list) {
            let key = merge_key(parent, list);
            let place = |item: &Value| order.iter().position(|wanted| same_item(key, wanted, item));
            items.sort_by_key(|item| place(item).unwrap_or(usize::MAX));
        }
    }
    Ok(())
}

fn merge_list(parent: &str, name: &str, fields: &mut Map<String, Value>, changes: &[Value]) -> Result<(), ApiError> {
    if is_merged_set(name) {
        let have = fields.entry(name.to_owned()).or_insert_with(|| Value::Array(vec![]));
        if let Value::Array(have) = have {
            let new: Vec<Value> = changes.iter().filter(|item| !have.contains(item)).cloned().collect();
            have.extend(new);
        }
        return Ok(());
    }
    let Some(key) = merge_key(parent, name) else {
        fields.insert(name.to_owned(), Value::Array(changes.to_vec()));
        return Ok(());
    };
    let replace = changes.iter().any(|item| item.get("$patch") == Some(&Value::String("replace".into())));
    let have = fields.entry(name.to_owned()).or_insert_with(|| Value::Array(vec![]));
    let Value::Array(have) = have else { return Ok(()) };
    if replace {
        *have = changes.iter().filter(|item| item.get("$patch").is_none()).cloned().collect();
        return Ok(());
    }
    let live = have.clone();
    for change in changes {
        let id = change
            .get(key)
            .ok_or_else(|| ApiError::internal(format!("map: {change} does not contain declared merge key: {key}")))?;
        let at = have.iter().position(|item| item.get(key) == Some(id));
        if change.get("$patch") == Some(&Value::String("delete".into())) {
            if let Some(at) = at {
                have.remove(at);
            }
            continue;
        }
        match at {
            Some(at) => merge_strategic(name, &mut have[at], change)?,
            None => {
                let mut item = Value::Object(Map::new());
                merge_strategic(name, &mut item, change)?;
                have.push(item);
            }
        }
    }
    *have = interleave(key, &live, changes, std::mem::take(have));
    Ok(())
}

fn same_item(key: Option<&str>, a: &Value, b: &Value) -> bool {
    match key {
        Some(key) => a.get(key) == b.get(key),
        None => a == b,
    }
}

/// The order of a merged list as the real server makes it: the patch's items in the patch's order, and each other item
/// before the first item of the patch that followed it in the live list.
/// Source: `apimachinery/pkg/util/strategicpatch`, `mergeSortedSlice`.
fn interleave(key: &str, live: &[Value], changes: &[Value], merged: Vec<Value>) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same_item(Some(key), other, item));
    let (mut patched, left): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(changes, item).is_some());
    patched.sort_by_key(|item| place(changes, item));
    let mut left = left.into_iter().peekable();
    let mut ordered = vec![];
    for item in patched {
        while let Some(other) = left.next_if(|other| match (place(live, other), place(live, &item)) {
            (Some(other), Some(item)) => other < item,
            _ => false,
        }) {
            ordered.push(other);
        }
        ordered.push(item);
    }
    ordered.extend(left);
    ordered
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    patch.iter().filter(|(name, _)| !name.starts_with('$')).map(|(name, value)| (name.clone(), value.clone())).collect()
}
