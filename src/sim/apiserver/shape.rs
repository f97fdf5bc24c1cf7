//! The shape of an object on its way into the store: its kind and name checked, unknown fields dropped, defaults filled
//! in, and whatever the request may not change put back.

use super::{
    builtin,
    error::{ApiError, FieldError},
    metadata::{metadata_mut, text},
    registry::{Generation, Resource},
    write::Call,
};
use serde_json::Value;

/// 400: the body names another object than the path.
pub(crate) fn name_mismatch(name: &str, wanted: &str) -> ApiError {
    ApiError::bad_request(format!("the name of the object ({name}) does not match the name on the URL ({wanted})"))
}

/// Checks that a body is of the resource's kind.
pub(crate) fn decode(resource: &Resource, mut body: Value) -> Result<Value, ApiError> {
    let Value::Object(fields) = &mut body else {
        return Err(ApiError::bad_request("the object provided is unrecognized (must be of type JSON object)"));
    };
    let (kind, api_version) = (resource.kind.as_str(), resource.api_version());
    if resource.custom && fields.get("kind").and_then(Value::as_str).unwrap_or_default().is_empty() {
        return Err(ApiError::bad_request(format!("Object 'Kind' is missing in '{body}'")));
    }
    fields.entry("kind").or_insert_with(|| kind.into());
    fields.entry("apiVersion").or_insert_with(|| api_version.clone().into());
    if fields["apiVersion"] != api_version.as_str() {
        let given = fields["apiVersion"].as_str().unwrap_or_default();
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({given}) does not match the expected API version ({api_version})"
        )));
    }
    if fields["kind"] != kind {
        let given = fields["kind"].as_str().unwrap_or_default();
        if resource.custom {
            let name = fields.get("metadata").map_or("", |metadata| metadata["name"].as_str().unwrap_or_default());
            return Err(ApiError::wrong_kind(resource, name, given));
        }
        return Err(ApiError::bad_request(format!(
            "{given} in version {:?} cannot be handled as a {kind}: no kind {given:?} is registered for version {api_version:?}",
            resource.version
        )));
    }
    metadata_mut(&mut body);
    check_kinds_of_values(resource, &body)?;
    Ok(body)
}

/// What Go's decoder refuses because a value is of another kind than its field. The rest of the server relies on it.
fn check_kinds_of_values(resource: &Resource, body: &Value) -> Result<(), ApiError> {
    let is_text_map = |value: &Value| value.as_object().is_some_and(|map| map.values().all(Value::is_string));
    let is_text_list = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    let is_map_list = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_object));
    let metadata = &body["metadata"];
    let mut wrong = vec![];
    for (field, value) in metadata.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let fits = match field.as_str() {
            "labels" | "annotations" => is_text_map(value),
            "finalizers" => is_text_list(value),
            "ownerReferences" | "managedFields" => is_map_list(value),
            "generation" | "deletionGracePeriodSeconds" => value.is_i64() || value.is_u64(),
            _ => value.is_string(),
        };
        if !fits {
            wrong.push(format!("metadata.{field}"));
        }
    }
    if !resource.custom {
        for part in ["spec", "status", "data"] {
            if body.get(part).is_some_and(|value| !value.is_object() && !value.is_null()) {
                wrong.push(part.to_owned());
            }
        }
        for (part, list) in [("spec", "containers"), ("spec", "initContainers"), ("status", "conditions")] {
            let value = body.get(part).and_then(|part| part.get(list));
            if value.is_some_and(|value| !value.is_null() && !is_map_list(value)) {
                wrong.push(format!("{part}.{list}"));
            }
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: json: cannot unmarshal into Go struct field {}",
        resource.kind,
        resource.version,
        resource.kind,
        wrong.join(", ")
    )))
}

/// Fills in the path's namespace, or refuses another one.
pub(crate) fn check_namespace(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    let given = text(object, "namespace").to_owned();
    if given.is_empty() && call.resource.namespaced {
        metadata_mut(object).insert("namespace".into(), call.namespace.clone().into());
    } else if given != call.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// What a create may not set.
pub(crate) fn reset_on_create(resource: &Resource, object: &mut Value) {
    if resource.status
        && resource.custom
        && let Value::Object(fields) = object
    {
        fields.shift_remove("status");
    }
    builtin::reset_on_create(resource, object);
}

/// Prunes and fills in defaults; gives the paths of unknown fields.
pub(crate) fn tidy(resource: &Resource, object: &mut Value) -> Vec<String> {
    match &resource.schema {
        Some(schema) => {
            let unknown = schema.prune(object);
            schema.apply_defaults(object);
            unknown
        }
        None => {
            builtin::apply_defaults(resource, object);
            vec![]
        }
    }
}

/// With `fieldValidation=Strict`, unknown fields are refused instead of dropped.
pub(crate) fn refuse_unknown(call: &Call, unknown: &[String]) -> Result<(), ApiError> {
    if !call.options.strict || unknown.is_empty() {
        return Ok(());
    }
    let (resource, fields) =
        (&call.resource, unknown.iter().map(|path| format!("unknown field {path:?}")).collect::<Vec<_>>());
    Err(ApiError::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
        resource.kind,
        resource.version,
        resource.kind,
        fields.join(", ")
    )))
}

/// A write to the object leaves `status` as it is, one to `status` leaves the rest.
pub(crate) fn keep_other_part(resource: &Resource, subresource: &str, object: &mut Value, old: &Value) {
    if !resource.status {
        return;
    }
    let Value::Object(fields) = object else { return };
    if subresource != "status" {
        match old.get("status") {
            Some(status) => fields.insert("status".into(), status.clone()),
            None => fields.shift_remove("status"),
        };
        return;
    }
    let Value::Object(old) = old else { return };
    // Built-in types let a status update change labels and annotations too (the kubelet does); custom ones do not.
    fields.retain(|name, _| name == "status" || old.contains_key(name));
    for (name, value) in old {
        if name != "status" && (resource.custom || name != "metadata") {
            fields.insert(name.clone(), value.clone());
        }
    }
}

/// Counts `metadata.generation` on where what it counts has changed.
pub(crate) fn count_generation(resource: &Resource, object: &mut Value, old: &Value) {
    let changed = match resource.generation {
        Generation::None => return,
        Generation::Spec => object.get("spec") != old.get("spec"),
        Generation::Custom => {
            let counts = |name: &str| name != "metadata" && !(resource.status && name == "status");
            let differs = |one: &Value, other: &Value| {
                let fields = one.as_object().into_iter().flatten();
                fields.filter(|(name, _)| counts(name)).any(|(name, value)| other.get(name) != Some(value))
            };
            differs(object, old) || differs(old, object)
        }
    };
    let generation = old["metadata"]["generation"].as_i64().unwrap_or(1) + i64::from(changed);
    metadata_mut(object).insert("generation".into(), generation.into());
}

/// What an update changed of `metadata` and may not.
pub(crate) fn immutable_faults(object: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = vec![];
    for field in ["name", "namespace", "uid"] {
        let (new, old) = (&object["metadata"][field], &old["metadata"][field]);
        if new != old {
            errors.push(FieldError::invalid(format!("metadata.{field}"), new, "field is immutable"));
        }
    }
    // A finalizer may leave a deleted object but none may join it.
    if !old["metadata"]["deletionTimestamp"].is_null() {
        let list = |value: &Value| value["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let before = list(old);
        let new: Vec<String> = list(object)
            .iter()
            .filter(|item| !before.contains(item))
            .filter_map(Value::as_str)
            .map(|text| format!("{text:?}"))
            .collect();
        if !new.is_empty() {
            let what = "no new finalizers can be added if the object is being deleted, found new finalizers";
            errors
                .push(FieldError::forbidden("metadata.finalizers", &format!("{what} []string{{{}}}", new.join(", "))));
        }
    }
    // The real server judges metadata twice, once for all types and once for each.
    let again = errors.clone();
    errors.extend(again);
    errors
}
