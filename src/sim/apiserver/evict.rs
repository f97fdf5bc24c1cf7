//! `pods/eviction`: who may refuse one, and what an allowed one does. PodDisruptionBudgets are not looked at.

use super::{
    admission::{Operation, Refused},
    error::ApiError,
    patch,
    registry::Resource,
    store::{State, Stored},
    write::{Call, Written},
};
use kube_cel::Validator;
use serde_json::{Value, json};
use std::sync::Arc;

impl State {
    /// Evicts a pod, unless a hook refuses. What a refusing hook changes elsewhere is stored all the same.
    pub(crate) fn evict(&mut self, validator: &Validator, call: &Call, body: &Value) -> Result<Written, ApiError> {
        let old = self.existing(call)?;
        let key = call.key();
        let review = self.review(call, &key, Operation::Create, Some(&old.value));
        let refused = self.admission.iter().find_map(|hook| hook.evict(&review, body).err());
        if let Some(refused) = refused {
            let Refused { error, change } = *refused;
            if let Some((user, object, patch)) = change {
                self.change_as(validator, &user, &object, &patch)?;
            }
            return Err(error);
        }
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        let changed = !call.options.dry_run;
        if changed {
            self.mark_disrupted(&call.resource, call, &old);
            let delete = Call { subresource: String::new(), ..call.clone() };
            self.delete(&delete, &json!({}))?;
        }
        Ok(Written { code: 201, object: Arc::new(Stored::new(status, 0)), changed })
    }

    fn mark_disrupted(&mut self, resource: &Resource, call: &Call, old: &Stored) {
        let mut object = old.value.clone();
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": self.now_text(),
        });
        match &mut object["status"]["conditions"] {
            Value::Array(list) => list.push(condition),
            other => *other = json!([condition]),
        }
        self.put(resource, call.key(), object);
    }

    /// Merges a patch into a stored object, as a user would.
    fn change_as(&mut self, validator: &Validator, user: &str, object: &Value, body: &Value) -> Result<(), ApiError> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let found = self.registry.of_kind(text("/apiVersion"), text("/kind")).cloned();
        let resource = found.ok_or_else(ApiError::unknown_path)?;
        let call = Call {
            face: resource.clone(),
            resource,
            namespace: text("/metadata/namespace").to_owned(),
            name: text("/metadata/name").to_owned(),
            subresource: String::new(),
            actor: user.to_owned(),
            options: super::request::WriteOptions::default(),
        };
        let old = self.existing(&call)?;
        let mut changed = old.value.clone();
        patch::apply_merge(&mut changed, body);
        self.store_changed(validator, &call, &old, changed, None).map(drop)
    }
}
