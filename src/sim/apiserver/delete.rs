//! Delete: finalizers, propagation, and what goes with an object.

use super::{
    admission::Operation,
    error::ApiError,
    metadata::{self, metadata_mut, text},
    registry::Resource,
    store::{Key, State, Stored},
    write::Call,
};
use serde_json::{Value, json};
use std::sync::Arc;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a delete left behind.
pub(crate) struct Deleted {
    /// The answer's body: the object while finalizers keep it, else a Status.
    pub(crate) body: Value,
    pub(crate) changed: bool,
}

impl State {
    /// Deletes one object. `options` is the request's DeleteOptions body, or null.
    pub(crate) fn delete(&mut self, call: &Call, options: &Value) -> Result<Deleted, ApiError> {
        let resource = &call.resource;
        let key = call.key();
        let old = self.existing(call)?;
        check_preconditions(resource, &key.1, &old, options)?;
        self.validate(call, &key, Operation::Delete, Some(&old.value), None)?;
        let now = self.now_text();
        let dry_run = call.options.dry_run || options["dryRun"].as_array().is_some_and(|list| !list.is_empty());
        let propagation = options["propagationPolicy"].as_str().unwrap_or_default();
        let extra = match propagation {
            "Orphan" => Some(ORPHAN),
            "Foreground" => Some(FOREGROUND),
            _ => None,
        };
        if !old.value["metadata"]["deletionTimestamp"].is_null() && extra.is_none() {
            // It is already leaving: the second delete changes nothing.
            return Ok(Deleted { body: old.value.clone(), changed: false });
        }
        let mut object = old.value.clone();
        if let Some(extra) = extra {
            add_finalizer(&mut object, extra);
        }
        let kept = metadata::has_finalizers(&object) || (resource.plural == "namespaces" && resource.group.is_empty());
        if dry_run {
            let body = if kept { marked(resource, object, &now) } else { success(&call.face, &old, &now) };
            return Ok(Deleted { body, changed: false });
        }
        if !kept {
            self.finish_delete(resource, &key);
            return Ok(Deleted { body: success(&call.face, &old, &now), changed: true });
        }
        self.mark_deleted(resource, &key, object);
        match extra {
            Some(ORPHAN) => self.orphan_dependents(resource, &key, old.uid()),
            Some(_) => self.delete_dependents(old.uid()),
            None => {}
        }
        if resource.plural == "namespaces" {
            self.empty_namespace(&key.1);
        }
        self.release(resource, &key);
        let body = match self.get(resource, &key) {
            Some(left) => left.value.clone(),
            None => success(&call.face, &old, &now),
        };
        Ok(Deleted { body, changed: true })
    }

    /// Deletes without asking admission: the garbage collector's and namespace controller's way.
    fn delete_quietly(&mut self, resource: &Arc<Resource>, key: &Key) {
        let Some(old) = self.get(resource, key).cloned() else { return };
        if metadata::has_finalizers(&old.value) {
            if old.value["metadata"]["deletionTimestamp"].is_null() {
                self.mark_deleted(resource, key, old.value.clone());
            }
        } else {
            self.finish_delete(resource, key);
        }
    }

    fn mark_deleted(&mut self, resource: &Resource, key: &Key, object: Value) {
        let object = marked(resource, object, &self.now_text());
        self.put(resource, key.clone(), object);
    }

    /// Removes an object for good, and what it owned.
    pub(crate) fn finish_delete(&mut self, resource: &Resource, key: &Key) -> Option<Arc<Stored>> {
        let gone = self.remove(&resource.storage, key)?;
        self.delete_dependents(gone.uid());
        self.release_owners(&gone.value);
        self.release_namespace(&key.0);
        Some(gone)
    }

    /// Deletes what names `uid` as an owner, unless another of its owners still lives.
    fn delete_dependents(&mut self, uid: &str) {
        for (resource, key) in self.dependents_of(uid) {
            let Some(dependent) = self.get(&resource, &key).cloned() else { continue };
            let owners = dependent.value["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            let others: Vec<Value> =
                owners.into_iter().filter(|owner| owner["uid"] != uid && self.owner_lives(owner, &key.0)).collect();
            if others.is_empty() {
                self.delete_quietly(&resource, &key);
            } else {
                let mut object = dependent.value.clone();
                object["metadata"]["ownerReferences"] = others.into();
                self.put(&resource, key, object);
            }
        }
    }

    fn owner_lives(&self, owner: &Value, namespace: &str) -> bool {
        let (api_version, kind) = (owner["apiVersion"].as_str(), owner["kind"].as_str());
        let resource = self.registry.of_kind(api_version.unwrap_or_default(), kind.unwrap_or_default());
        resource.is_some_and(|resource| {
            let namespace = if resource.namespaced { namespace } else { "" };
            let key = (namespace.to_owned(), owner["name"].as_str().unwrap_or_default().to_owned());
            self.get(resource, &key).is_some_and(|stored| owner["uid"] == stored.uid())
        })
    }

    fn orphan_dependents(&mut self, resource: &Resource, key: &Key, uid: &str) {
        for (resource, key) in self.dependents_of(uid) {
            let Some(dependent) = self.get(&resource, &key).cloned() else { continue };
            let mut object = dependent.value.clone();
            if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                owners.retain(|owner| owner["uid"] != uid);
            }
            metadata::drop_empty(&mut object);
            self.put(&resource, key, object);
        }
        self.remove_finalizer(resource, key, ORPHAN);
    }

    /// Lets a foreground-deleted object go once nothing blocks it any more, and any object without finalizers.
    fn release(&mut self, resource: &Resource, key: &Key) {
        let Some(stored) = self.get(resource, key).cloned() else { return };
        if stored.value["metadata"]["deletionTimestamp"].is_null() {
            return;
        }
        let waits_for_dependents = has_finalizer(&stored.value, FOREGROUND);
        let blocked = waits_for_dependents
            && self.dependents_of(stored.uid()).iter().any(|(resource, key)| {
                self.get(resource, key).is_some_and(|dependent| {
                    let owners = dependent.value["metadata"]["ownerReferences"].as_array();
                    owners
                        .into_iter()
                        .flatten()
                        .any(|owner| owner["uid"] == stored.uid() && owner["blockOwnerDeletion"] == true)
                })
            });
        if waits_for_dependents && !blocked {
            self.remove_finalizer(resource, key, FOREGROUND);
        }
        let is_namespace = resource.plural == "namespaces" && resource.group.is_empty();
        let held = self.get(resource, key).is_none_or(|stored| metadata::has_finalizers(&stored.value))
            || (is_namespace && self.namespace_has_content(&key.1));
        if !held {
            self.finish_delete(resource, key);
        }
    }

    fn release_owners(&mut self, gone: &Value) {
        let namespace = text(gone, "namespace").to_owned();
        for owner in gone["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
            let found = self
                .registry
                .of_kind(owner["apiVersion"].as_str().unwrap_or_default(), owner["kind"].as_str().unwrap_or_default());
            let Some(resource) = found.cloned() else { continue };
            let namespace = if resource.namespaced { namespace.clone() } else { String::new() };
            self.release(&resource, &(namespace, owner["name"].as_str().unwrap_or_default().to_owned()));
        }
    }

    fn remove_finalizer(&mut self, resource: &Resource, key: &Key, finalizer: &str) {
        let Some(stored) = self.get(resource, key) else { return };
        let mut object = stored.value.clone();
        if let Some(list) = object["metadata"]["finalizers"].as_array_mut() {
            list.retain(|item| item != finalizer);
        }
        metadata::drop_empty(&mut object);
        self.put(resource, key.clone(), object);
    }

    fn empty_namespace(&mut self, namespace: &str) {
        for resource in self.namespaced_resources() {
            let keys: Vec<Key> = self.objects(&resource.storage, namespace).map(|(key, _)| key.clone()).collect();
            for key in keys {
                self.delete_quietly(&resource, &key);
            }
        }
    }

    fn namespace_has_content(&self, namespace: &str) -> bool {
        self.namespaced_resources().iter().any(|resource| self.objects(&resource.storage, namespace).next().is_some())
    }

    fn release_namespace(&mut self, namespace: &str) {
        let Some(namespaces) = self.registry.find("", "v1", "namespaces").cloned() else { return };
        if !namespace.is_empty() {
            let key = (String::new(), namespace.to_owned());
            let leaving = self
                .get(&namespaces, &key)
                .is_some_and(|stored| !stored.value["metadata"]["deletionTimestamp"].is_null());
            if leaving {
                self.release(&namespaces, &key);
            }
        }
    }

    fn namespaced_resources(&self) -> Vec<Arc<Resource>> {
        self.registry.iter().filter(|resource| resource.namespaced).cloned().collect()
    }
}

fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|list| list.iter().any(|item| item == finalizer))
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    if !has_finalizer(object, finalizer) {
        match &mut object["metadata"]["finalizers"] {
            Value::Array(list) => list.push(finalizer.into()),
            other => *other = json!([finalizer]),
        }
    }
}

fn check_preconditions(resource: &Resource, name: &str, old: &Stored, options: &Value) -> Result<(), ApiError> {
    let wanted = &options["preconditions"];
    if let Some(uid) = wanted["uid"].as_str().filter(|uid| *uid != old.uid()) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            old.uid()
        );
        return Err(ApiError::delete_precondition(resource, name, why));
    }
    let have = text(&old.value, "resourceVersion");
    if let Some(version) = wanted["resourceVersion"].as_str().filter(|version| *version != have) {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({have}). The object might have been modified"
        );
        return Err(ApiError::delete_precondition(resource, name, why));
    }
    Ok(())
}

/// The object as a delete marks it.
fn marked(resource: &Resource, mut object: Value, now: &str) -> Value {
    let generation = object["metadata"]["generation"].as_i64();
    let fields = metadata_mut(&mut object);
    if fields.get("deletionTimestamp").is_none_or(Value::is_null) {
        fields.insert("deletionTimestamp".into(), now.into());
        fields.insert("deletionGracePeriodSeconds".into(), 0.into());
        if let Some(generation) = generation {
            fields.insert("generation".into(), (generation + 1).into());
        }
    }
    if resource.plural == "namespaces" {
        object["status"]["phase"] = "Terminating".into();
    }
    object
}

fn success(resource: &Resource, gone: &Stored, now: &str) -> Value {
    // Pods answer with the deleted object, as do a few other types that the real server deletes gracefully.
    if resource.plural == "pods" && resource.group.is_empty() {
        return marked(resource, gone.value.clone(), now);
    }
    let mut details = serde_json::Map::new();
    details.insert("name".into(), text(&gone.value, "name").into());
    if !resource.group.is_empty() {
        details.insert("group".into(), resource.group.clone().into());
    }
    details.insert("kind".into(), resource.plural.clone().into());
    details.insert("uid".into(), gone.uid().into());
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
