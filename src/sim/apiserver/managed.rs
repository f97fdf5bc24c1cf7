//! `metadata.managedFields`: who wrote which field, and what follows from it.
//!
//! Every write updates it; server-side apply is decided by it. The algorithm is that of
//! `structured-merge-diff/merge/update.go` and `apimachinery/pkg/util/managedfields`.

mod field_set;
mod typed;
mod types;

use super::{
    builtin,
    error::ApiError,
    events,
    metadata::{metadata_mut, text},
    registry::Resource,
    shape::{check_namespace, decode, name_mismatch},
    store::State,
    write::{Call, Written},
};
use field_set::FieldSet;
use kube_cel::Validator;
use serde_json::{Map, Value, json};
use std::{borrow::Cow, collections::BTreeMap};
use types::Type;

/// Who wrote, how, and through which door. Appliers are told apart by name and door alone, so that an apply of a newer
/// version takes over its own fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ManagerId {
    name: String,
    operation: String,
    /// Empty for appliers.
    api_version: String,
    subresource: String,
}

#[derive(Clone, Debug)]
struct Managed {
    api_version: String,
    time: String,
    fields: FieldSet,
}

type Managers = BTreeMap<ManagerId, Managed>;

const APPLY: &str = "Apply";
const UPDATE: &str = "Update";

/// Who owns what existed before anybody's first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

fn decode_managers(object: &Value) -> Managers {
    let mut managers = Managers::new();
    for entry in object["metadata"]["managedFields"].as_array().into_iter().flatten() {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let operation = text("operation");
        if operation.is_empty() {
            continue;
        }
        let api_version = if operation == APPLY { String::new() } else { text("apiVersion") };
        let id = ManagerId { operation, name: text("manager"), api_version, subresource: text("subresource") };
        let fields = FieldSet::decode(&entry["fieldsV1"]);
        managers.insert(id, Managed { api_version: text("apiVersion"), time: text("time"), fields });
    }
    managers
}

fn encode_managers(managers: &Managers) -> Option<Value> {
    let mut sorted: Vec<(&ManagerId, &Managed)> = managers.iter().filter(|(_, m)| !m.fields.is_empty()).collect();
    sorted.sort_by(|(a, x), (b, y)| {
        (&a.operation, &x.time, &a.name, &x.api_version, &a.subresource).cmp(&(
            &b.operation,
            &y.time,
            &b.name,
            &y.api_version,
            &b.subresource,
        ))
    });
    let entries: Vec<Value> = sorted
        .into_iter()
        .map(|(id, managed)| {
            let mut entry = Map::new();
            entry.insert("manager".into(), id.name.clone().into());
            entry.insert("operation".into(), id.operation.clone().into());
            entry.insert("apiVersion".into(), managed.api_version.clone().into());
            if !managed.time.is_empty() {
                entry.insert("time".into(), managed.time.clone().into());
            }
            entry.insert("fieldsType".into(), "FieldsV1".into());
            entry.insert("fieldsV1".into(), managed.fields.encode());
            if !id.subresource.is_empty() {
                entry.insert("subresource".into(), id.subresource.clone().into());
            }
            Value::Object(entry)
        })
        .collect();
    (!entries.is_empty()).then_some(Value::Array(entries))
}

/// What nobody can own: the server's own fields.
fn never_owned() -> FieldSet {
    let mut set = FieldSet::default();
    for path in [&["apiVersion"][..], &["kind"], &["metadata"]] {
        set.insert(&steps(path));
    }
    for field in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        set.insert(&steps(&["metadata", field]));
    }
    set
}

fn steps(path: &[&str]) -> Vec<String> {
    path.iter().map(|step| format!("f:{step}")).collect()
}

/// What a write through this door cannot change, and so cannot own either.
fn reset_fields(resource: &Resource, subresource: &str) -> FieldSet {
    let mut set = FieldSet::default();
    let mut reset = |path: &[&str]| set.insert(&steps(path));
    match subresource {
        "status" if resource.custom => {
            reset(&["metadata"]);
            reset(&["spec"]);
        }
        "status" => {
            reset(&["spec"]);
            if resource.plural == "pods" {
                reset(&["metadata", "deletionTimestamp"]);
                reset(&["metadata", "ownerReferences"]);
            }
        }
        _ if resource.status => reset(&["status"]),
        _ => {}
    }
    set
}

/// The object without `managedFields`.
fn bare(object: &Value) -> Value {
    let mut bare = object.clone();
    metadata_mut(&mut bare).shift_remove("managedFields");
    bare
}

/// Whether two objects differ at most in the times of their managers.
pub(crate) fn same_but_times(a: &Value, b: &Value) -> bool {
    let timeless = |object: &Value| -> Value {
        let mut managers = object["metadata"]["managedFields"].clone();
        for entry in managers.as_array_mut().into_iter().flatten() {
            if let Value::Object(fields) = entry {
                fields.shift_remove("time");
            }
        }
        managers
    };
    let same = |a: &Value, b: &Value| match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(name, value)| {
                    b.get(name).is_some_and(|other| match name.as_str() {
                        "metadata" => same_metadata(value, other),
                        _ => value == other,
                    })
                })
        }
        _ => a == b,
    };
    same(a, b) && timeless(a) == timeless(b)
}

fn same_metadata(a: &Value, b: &Value) -> bool {
    let (Value::Object(a), Value::Object(b)) = (a, b) else { return a == b };
    let counted = |map: &Map<String, Value>| map.keys().filter(|name| *name != "managedFields").count();
    counted(a) == counted(b)
        && a.iter().filter(|(name, _)| *name != "managedFields").all(|(name, value)| b.get(name) == Some(value))
}

/// What differs between two objects, less what the door cannot change.
fn changes(resource: &Resource, subresource: &str, old: &Value, new: &Value) -> typed::Comparison {
    let ignored = reset_fields(resource, subresource);
    let mut comparison = typed::compare(Type::of(resource), old, new);
    if !ignored.is_empty() {
        for set in [&mut comparison.added, &mut comparison.modified, &mut comparison.removed] {
            *set = set.without_trees(&ignored);
        }
    }
    comparison
}

/// Which managers but `writer` own something that was added or modified.
fn conflicts_of(
    managers: &Managers,
    comparison: &typed::Comparison,
    writer: &ManagerId,
) -> BTreeMap<ManagerId, FieldSet> {
    let changed = comparison.modified.union(&comparison.added);
    let others = managers.iter().filter(|(id, _)| *id != writer);
    let lost = others.map(|(id, managed)| (id.clone(), managed.fields.intersection(&changed)));
    lost.filter(|(_, lost)| !lost.is_empty()).collect()
}

/// Takes fields that changed from everybody but `writer`.
fn take_over(
    managers: &mut Managers,
    comparison: &typed::Comparison,
    conflicts: &BTreeMap<ManagerId, FieldSet>,
    writer: &ManagerId,
) {
    for (id, managed) in managers.iter_mut().filter(|(id, _)| *id != writer) {
        if let Some(lost) = conflicts.get(id) {
            managed.fields = managed.fields.difference(lost);
        }
        if !comparison.removed.is_empty() {
            managed.fields = managed.fields.difference(&comparison.removed);
        }
    }
    managers.retain(|_, managed| !managed.fields.is_empty());
}

/// The managers after somebody made one object out of another.
fn after_update(
    resource: &Resource,
    mut managers: Managers,
    comparison: &typed::Comparison,
    writer: &ManagerId,
    now: &str,
) -> Managers {
    let conflicts = conflicts_of(&managers, comparison, writer);
    take_over(&mut managers, comparison, &conflicts, writer);
    let fields = comparison.modified.union(&comparison.added).difference(&never_owned());
    if !fields.is_empty() {
        let api_version = resource.api_version();
        let entry = managers.entry(writer.clone()).or_insert_with(|| Managed {
            api_version,
            time: String::new(),
            fields: FieldSet::default(),
        });
        entry.fields = entry.fields.union(&fields);
        entry.time = now.to_owned();
    }
    if let Some(entry) = managers.get_mut(writer) {
        entry.fields = entry.fields.difference(&comparison.removed);
    }
    managers.retain(|_, managed| !managed.fields.is_empty());
    managers
}

/// The usual case, without decoding anybody's fields: somebody changes again what is its own already.
/// `None` where anybody's fields change.
fn same_owners(managed: &Value, comparison: &typed::Comparison, writer: &ManagerId, now: &str) -> Option<Value> {
    let touched = comparison.modified.union(&comparison.added).union(&comparison.removed).difference(&never_owned());
    if touched.is_empty() {
        return Some(managed.clone());
    }
    let entries = managed.as_array()?;
    let is_writers = |entry: &Value| {
        entry["manager"] == writer.name
            && entry["operation"] == writer.operation
            && entry["apiVersion"] == writer.api_version
            && entry["subresource"].as_str().unwrap_or_default() == writer.subresource
    };
    let at = entries.iter().position(is_writers)?;
    let stays = comparison.removed.is_empty() && touched.is_within(&entries[at]["fieldsV1"]);
    let alone = !entries.iter().enumerate().any(|(other, entry)| other != at && touched.overlaps(&entry["fieldsV1"]));
    if !stays || !alone {
        return None;
    }
    let mut entries = entries.clone();
    entries[at]["time"] = now.into();
    // They stand in the order of their times.
    let key = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    entries.sort_by_cached_key(|entry| {
        ["operation", "time", "manager", "apiVersion", "subresource"].map(|field| key(entry, field))
    });
    Some(Value::Array(entries))
}

/// What an apply removes: what its manager applied last time, not now, and nobody else has.
fn prune(of: Type<'_>, merged: Value, managers: &Managers, last: &FieldSet) -> Value {
    if last.is_empty() {
        return merged;
    }
    let named = |set: &FieldSet| typed::with_named_fields(of, set);
    let last = named(last);
    let pruned = typed::remove_items(of, &merged, &last).unwrap_or_default();
    let managed = managers.values().fold(FieldSet::default(), |all, managed| all.union(&managed.fields));
    let merged_set = named(&typed::to_field_set(of, &merged));
    let kept = named(&typed::to_field_set(of, &pruned)).union(&named(&managed));
    let pruned = typed::remove_items(of, &merged, &merged_set.difference(&kept)).unwrap_or_default();
    let pruned_set = named(&typed::to_field_set(of, &pruned));
    let gone = merged_set.difference(&pruned_set).intersection(&last);
    typed::remove_items(of, &merged, &gone).unwrap_or_default()
}

fn conflict_error(managers: &Managers, conflicts: &BTreeMap<ManagerId, FieldSet>) -> ApiError {
    let named = |id: &ManagerId| {
        let mut text = format!("{:?}", id.name);
        if !id.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", id.subresource));
        }
        if id.operation == UPDATE {
            let managed = managers.get(id);
            text.push_str(&format!(" using {}", managed.map_or("", |managed| &managed.api_version)));
        }
        text
    };
    let mut causes = vec![];
    let mut texts = vec![];
    for (id, lost) in conflicts {
        let (who, paths) = (named(id), lost.paths());
        for path in &paths {
            causes.push(json!({
                "reason": "FieldManagerConflict", "message": format!("conflict with {who}"), "field": path,
            }));
        }
        texts.push((who, paths));
    }
    let count = causes.len();
    let message = match texts.as_slice() {
        [(who, paths)] if count == 1 => {
            format!("Apply failed with 1 conflict: conflict with {who}: {}", paths.concat())
        }
        many => {
            let parts: Vec<String> =
                many.iter().map(|(who, paths)| format!("conflicts with {who}:\n- {}", paths.join("\n- "))).collect();
            format!("Apply failed with {count} conflicts: {}", parts.join("\n"))
        }
    };
    ApiError::apply_conflict(message, causes)
}

/// The object as the path's resource shows it: Events have two faces, and fields are owned under the names of the one
/// that was written to.
fn faced<'a>(call: &Call, object: &'a Value) -> Cow<'a, Value> {
    if call.face.group == call.resource.group {
        Cow::Borrowed(object)
    } else {
        Cow::Owned(events::to_events_group(object))
    }
}

fn writer_of(call: &Call, operation: &str) -> ManagerId {
    ManagerId {
        operation: operation.to_owned(),
        name: call.options.field_manager.clone(),
        api_version: if operation == APPLY { String::new() } else { call.face.api_version() },
        subresource: call.subresource.clone(),
    }
}

impl State {
    /// `managedFields` of a new object.
    pub(crate) fn managed_after_create(&self, call: &Call, object: &Value) -> Option<Value> {
        let managers = decode_managers(object);
        let comparison = changes(&call.face, &call.subresource, &builtin::zero(&call.face), &faced(call, object));
        encode_managers(&after_update(&call.face, managers, &comparison, &writer_of(call, UPDATE), &self.now_text()))
    }

    /// `managedFields` after an update or a patch.
    pub(crate) fn managed_after_update(&self, call: &Call, old: &Value, object: &Value) -> Option<Value> {
        let (kept, given) = (&old["metadata"]["managedFields"], &object["metadata"]["managedFields"]);
        let asks_for_reset =
            given.as_array().is_some_and(|list| matches!(list.as_slice(), [Value::Object(only)] if only.is_empty()));
        let (writer, now) = (writer_of(call, UPDATE), self.now_text());
        let comparison = changes(&call.face, &call.subresource, &faced(call, old), &faced(call, object));
        if given == kept
            && let Some(same) = same_owners(kept, &comparison, &writer, &now)
        {
            return (!same.is_null()).then_some(same);
        }
        let mut managers = if asks_for_reset { Managers::new() } else { decode_managers(object) };
        if managers.is_empty() && !asks_for_reset {
            managers = decode_managers(old);
        }
        if managers.is_empty() {
            // Nobody's fields were known: none are counted from here on, until somebody applies.
            return None;
        }
        encode_managers(&after_update(&call.face, managers, &comparison, &writer, &now))
    }

    /// Server-side apply.
    pub(crate) fn apply(&mut self, validator: &Validator, call: &Call, body: &Value) -> Result<Written, ApiError> {
        let resource = &call.resource;
        let mut config = decode(resource, body.clone())?;
        if config["metadata"].get("managedFields").is_some_and(|list| !list.is_null()) {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        let of = Type::of(resource);
        typed::check(of, &config).map_err(|bad| {
            ApiError::internal_plain(&format!(
                "failed to create typed patch object ({}/{}; {}, Kind={}): {bad}",
                text(&config, "namespace"),
                text(&config, "name"),
                resource.api_version(),
                resource.kind,
            ))
        })?;
        if text(&config, "name").is_empty() {
            metadata_mut(&mut config).insert("name".into(), call.name.clone().into());
        }
        check_namespace(call, &mut config)?;
        let live = self.get(resource, &call.key()).cloned();
        if live.is_none() && !call.subresource.is_empty() {
            return Err(ApiError::not_found(resource, &call.name));
        }
        if live.is_none() && !text(&config, "uid").is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                text(&config, "uid")
            );
            return Err(ApiError::conflict(resource, &call.name, why));
        }
        let now = self.now_text();
        let old = live.as_ref().map_or_else(|| json!({}), |live| bare(&live.value));
        let mut managers = live.as_ref().map(|live| decode_managers(&live.value)).unwrap_or_default();
        if managers.is_empty() && live.is_some() {
            let first = ManagerId { name: BEFORE_FIRST_APPLY.into(), ..writer_of(call, UPDATE) };
            let comparison = changes(resource, &call.subresource, &builtin::zero(resource), &old);
            managers = after_update(resource, managers, &comparison, &first, &now);
        }
        let writer = writer_of(call, APPLY);
        let ignored = reset_fields(resource, &call.subresource);
        let last = managers.get(&writer).map(|managed| managed.fields.clone()).unwrap_or_default();
        let fields = typed::to_field_set(of, &config).without_trees(&ignored);
        let before = managers.get(&writer).cloned();
        // Who applies what is there already gets no time, as in the real server.
        let time = before.map_or_else(String::new, |before| before.time);
        managers.insert(writer.clone(), Managed { api_version: resource.api_version(), time, fields });
        let merged = typed::merge(of, &old, &config);
        let object = prune(of, merged, &managers, &last);
        let comparison = changes(resource, &call.subresource, &old, &object);
        let conflicts = conflicts_of(&managers, &comparison, &writer);
        if !call.options.force && !conflicts.is_empty() {
            return Err(conflict_error(&managers, &conflicts));
        }
        // A null that is written there takes the version away.
        let wipes_version = body["metadata"].get("resourceVersion").is_some_and(Value::is_null);
        if wipes_version && live.is_some() && !builtin::may_update_blindly(resource) {
            return Err(ApiError::version_required(resource, &call.name));
        }
        take_over(&mut managers, &comparison, &conflicts, &writer);
        if let Some(managed) = managers.get_mut(&writer) {
            managed.fields = managed.fields.difference(&never_owned());
        }
        if text(&object, "name") != call.name {
            return Err(name_mismatch(text(&object, "name"), &call.name));
        }
        if object != old
            && let Some(managed) = managers.get_mut(&writer)
        {
            managed.time = now;
        }
        let managed = encode_managers(&managers).unwrap_or_else(|| json!([]));
        match live {
            Some(live) => self.store_changed(validator, call, &live, object, Some(managed)),
            None => self.store_new(validator, call, object, Some(managed)),
        }
    }
}
