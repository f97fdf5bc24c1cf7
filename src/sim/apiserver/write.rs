//! Create, update, patch: from a request's body to a stored object.

use super::{
    admission::{ClusterView, Operation, Review},
    builtin,
    error::{ApiError, FieldError},
    metadata::{self, metadata_mut, text},
    patch::{self, PatchKind},
    registry::{Generation, Resource},
    request::WriteOptions,
    shape::{
        check_namespace, count_generation, decode, immutable_faults, keep_other_part, name_mismatch, refuse_unknown,
        reset_on_create, tidy,
    },
    store::{Key, State, Stored},
};
use kube_cel::Validator;
use serde_json::{Value, json};
use std::sync::Arc;

/// A write to one object, as far as its path, query and headers tell.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) resource: Arc<Resource>,
    /// The resource as the path named it; differs from `resource` for Events of `events.k8s.io`.
    pub(crate) face: Arc<Resource>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    pub(crate) actor: String,
    pub(crate) options: WriteOptions,
}

impl Call {
    pub(crate) fn key(&self) -> Key {
        (self.namespace.clone(), self.name.clone())
    }
}

/// A write's answer: the HTTP code, the object, and warnings for the client.
pub(crate) struct Written {
    pub(crate) code: u16,
    pub(crate) object: Arc<Stored>,
    /// Whether anything was stored.
    pub(crate) changed: bool,
}

impl State {
    /// Makes a new object.
    pub(crate) fn create(&mut self, validator: &Validator, call: &Call, body: Value) -> Result<Written, ApiError> {
        if !call.subresource.is_empty() {
            if call.resource.plural == "pods" && call.subresource == "eviction" {
                return self.evict(validator, call, &body);
            }
            return self.create_subresource(call, &body);
        }
        let mut object = decode(&call.resource, body)?;
        check_namespace(call, &mut object)?;
        let name = self.name_for(&mut object);
        if !call.name.is_empty() && !name.is_empty() && name != call.name {
            return Err(name_mismatch(&name, &call.name));
        }
        if !text(&object, "resourceVersion").is_empty() {
            return Err(ApiError::internal_plain("resourceVersion should not be set on objects to be created"));
        }
        self.store_new(validator, call, object, None)
    }

    /// Stores an object that does not exist yet, whether it came by create or by apply.
    pub(crate) fn store_new(
        &mut self,
        validator: &Validator,
        call: &Call,
        mut object: Value,
        managed: Option<Value>,
    ) -> Result<Written, ApiError> {
        let resource = &call.resource;
        let key = (call.namespace.clone(), text(&object, "name").to_owned());
        self.check_namespace_exists(resource, &key)?;
        reset_on_create(resource, &mut object);
        let unknown = tidy(resource, &mut object);
        refuse_unknown(call, &unknown)?;
        let managed = managed.or_else(|| self.managed_after_create(call, &object));
        builtin::admit(resource, &mut object);
        if self.mutate(call, &key, Operation::Create, None, &mut object)? {
            tidy(resource, &mut object);
        }
        let fields = metadata_mut(&mut object);
        for gone in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "resourceVersion",
            "managedFields",
            "generation",
        ] {
            fields.shift_remove(gone);
        }
        if resource.generation != Generation::None {
            fields.insert("generation".into(), 1.into());
        }
        let errors = self.faults_of(validator, resource, &object, None);
        if !errors.is_empty() {
            return Err(ApiError::invalid(resource, &key.1, &errors));
        }
        if self.get(resource, &key).is_some() {
            return Err(ApiError::already_exists(resource, &key.1));
        }
        self.validate(call, &key, Operation::Create, None, Some(&object))?;
        let (uid, now) = (self.new_uid(), self.now_text());
        let fields = metadata_mut(&mut object);
        fields.insert("uid".into(), uid.into());
        fields.insert("creationTimestamp".into(), now.into());
        if let Some(managed) = managed {
            fields.insert("managedFields".into(), managed);
        }
        metadata::drop_empty(&mut object);
        if call.options.dry_run {
            return Ok(Written { code: 201, object: Arc::new(Stored::new(object, 0)), changed: false });
        }
        let object = self.put(resource, key, object);
        Ok(Written { code: 201, object, changed: true })
    }

    /// Replaces an object.
    pub(crate) fn update(&mut self, validator: &Validator, call: &Call, body: Value) -> Result<Written, ApiError> {
        let resource = &call.resource;
        let mut object = decode(resource, body)?;
        check_namespace(call, &mut object)?;
        let name = text(&object, "name").to_owned();
        if name != call.name {
            return Err(name_mismatch(&name, &call.name));
        }
        let old = self.existing(call)?;
        let uid = text(&object, "uid");
        if !uid.is_empty() && uid != old.uid() {
            let group = if resource.custom { format!("/{}", resource.group) } else { String::new() };
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: /registry{group}/{}{}/{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                resource.plural,
                if resource.namespaced { format!("/{}", call.namespace) } else { String::new() },
                call.name,
                old.uid()
            );
            return Err(ApiError::conflict(resource, &call.name, why));
        }
        if text(&object, "resourceVersion").is_empty() && !builtin::may_update_blindly(resource) {
            return Err(ApiError::version_required(resource, &call.name));
        }
        self.store_changed(validator, call, &old, object, None)
    }

    /// Changes parts of an object.
    pub(crate) fn patch(
        &mut self,
        validator: &Validator,
        call: &Call,
        kind: PatchKind,
        body: &Value,
    ) -> Result<Written, ApiError> {
        if kind == PatchKind::Apply {
            return self.apply(validator, call, body);
        }
        let old = self.existing(call)?;
        let mut object = old.value.clone();
        match kind {
            PatchKind::Json => patch::apply_json(&mut object, body)?,
            PatchKind::Merge => patch::apply_merge(&mut object, body),
            PatchKind::Strategic | PatchKind::Apply => patch::apply_strategic(&mut object, body)?,
        }
        let object = decode(&call.resource, object)?;
        let name = text(&object, "name");
        if name != call.name {
            return Err(name_mismatch(name, &call.name));
        }
        self.store_changed(validator, call, &old, object, None)
    }

    /// The stored object, or 404.
    pub(crate) fn existing(&self, call: &Call) -> Result<Arc<Stored>, ApiError> {
        let found = self.get(&call.resource, &call.key());
        found.cloned().ok_or_else(|| ApiError::not_found(&call.resource, &call.name))
    }

    /// Stores a changed object: everything that update, patch and apply have in common.
    pub(crate) fn store_changed(
        &mut self,
        validator: &Validator,
        call: &Call,
        old: &Arc<Stored>,
        mut object: Value,
        managed: Option<Value>,
    ) -> Result<Written, ApiError> {
        let resource = &call.resource;
        let key = call.key();
        let version = text(&object, "resourceVersion");
        if !version.is_empty() && version != text(&old.value, "resourceVersion") {
            return Err(ApiError::modified(resource, &call.name));
        }
        let unknown = tidy(resource, &mut object);
        refuse_unknown(call, &unknown)?;
        let managed = managed.or_else(|| self.managed_after_update(call, &old.value, &object));
        metadata::keep_server_owned(&mut object, &old.value);
        let hooked = self.mutate(call, &key, Operation::Update, Some(&old.value), &mut object)?;
        keep_other_part(resource, &call.subresource, &mut object, &old.value);
        if hooked {
            tidy(resource, &mut object);
            metadata::keep_server_owned(&mut object, &old.value);
        }
        let fields = metadata_mut(&mut object);
        fields.insert("resourceVersion".into(), text(&old.value, "resourceVersion").into());
        count_generation(resource, &mut object, &old.value);
        let errors = self.faults_of(validator, resource, &object, Some(&old.value));
        if !errors.is_empty() {
            return Err(ApiError::invalid(resource, &call.name, &errors));
        }
        self.validate(call, &key, Operation::Update, Some(&old.value), Some(&object))?;
        match managed {
            Some(managed) => metadata_mut(&mut object).insert("managedFields".into(), managed),
            None => metadata_mut(&mut object).shift_remove("managedFields"),
        };
        metadata::drop_empty(&mut object);
        if call.options.dry_run {
            return Ok(Written { code: 200, object: Arc::new(Stored::new(object, old.version)), changed: false });
        }
        if super::managed::same_but_times(&object, &old.value) {
            return Ok(Written { code: 200, object: old.clone(), changed: false });
        }
        let leaves = !object["metadata"]["deletionTimestamp"].is_null()
            && !metadata::has_finalizers(&object)
            && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0;
        if leaves {
            self.put(resource, key.clone(), object);
            let gone = self.finish_delete(resource, &key).unwrap_or_else(|| old.clone());
            return Ok(Written { code: 200, object: gone, changed: true });
        }
        let object = self.put(resource, key, object);
        Ok(Written { code: 200, object, changed: true })
    }

    /// `pods/binding`: the scheduler's answer.
    fn create_subresource(&mut self, call: &Call, body: &Value) -> Result<Written, ApiError> {
        if call.resource.plural != "pods" || call.subresource != "binding" {
            return Err(ApiError::unknown_path());
        }
        let old = self.existing(call)?;
        let node = body["target"]["name"].as_str().unwrap_or_default();
        if let Some(taken) = old.value["spec"]["nodeName"].as_str().filter(|taken| !taken.is_empty()) {
            let why = format!("pod {} is already assigned to node {taken:?}", call.name);
            return Err(ApiError::conflict(&call.resource, &call.name, why));
        }
        let mut object = old.value.clone();
        object["spec"]["nodeName"] = node.into();
        let scheduled = json!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": self.now_text(),
        });
        let conditions = &mut object["status"]["conditions"];
        match conditions {
            Value::Array(list) => {
                list.retain(|condition| condition["type"] != "PodScheduled");
                list.push(scheduled);
            }
            other => *other = json!([scheduled]),
        }
        let changed = !call.options.dry_run;
        if changed {
            self.put(&call.resource, call.key(), object);
        }
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(Written { code: 201, object: Arc::new(Stored::new(status, 0)), changed })
    }

    /// Gives the object its generated name where it has none; the name it ends up with.
    fn name_for(&mut self, object: &mut Value) -> String {
        let (name, prefix) = (text(object, "name").to_owned(), text(object, "generateName").to_owned());
        if !name.is_empty() || prefix.is_empty() {
            return name;
        }
        // The real server cuts the prefix so that the name fits into 63 characters.
        let name = format!("{}{}", prefix.chars().take(58).collect::<String>(), self.name_suffix());
        metadata_mut(object).insert("name".into(), name.clone().into());
        name
    }

    fn check_namespace_exists(&self, resource: &Resource, key: &Key) -> Result<(), ApiError> {
        if !resource.namespaced {
            return Ok(());
        }
        let Some(namespaces) = self.registry.find("", "v1", "namespaces") else { return Ok(()) };
        match self.get(namespaces, &(String::new(), key.0.clone())) {
            None => Err(ApiError::not_found(namespaces, &key.0)),
            Some(namespace) if !namespace.value["metadata"]["deletionTimestamp"].is_null() => {
                let why = format!("unable to create new content in namespace {} because it is being terminated", key.0);
                let mut error = ApiError::forbidden(resource, &key.1, why);
                if let Some(details) = &mut error.details {
                    details["causes"] = json!([{
                        "reason": "NamespaceTerminating",
                        "message": format!("namespace {} is being terminated", key.0),
                        "field": "metadata.namespace",
                    }]);
                }
                Err(error)
            }
            Some(_) => Ok(()),
        }
    }

    fn faults_of(
        &self,
        validator: &Validator,
        resource: &Resource,
        object: &Value,
        old: Option<&Value>,
    ) -> Vec<FieldError> {
        let mut errors = metadata::validate(object);
        if let Some(old) = old {
            errors.extend(immutable_faults(object, old));
        }
        match &resource.schema {
            Some(schema) => schema.validate(validator, object, old, errors),
            None => {
                errors.extend(builtin::validate(resource, object, old));
                errors
            }
        }
    }

    /// Lets the hooks change the object; whether there was any that wanted to see it.
    fn mutate(
        &self,
        call: &Call,
        key: &Key,
        operation: Operation,
        old: Option<&Value>,
        object: &mut Value,
    ) -> Result<bool, ApiError> {
        let review = self.review(call, key, operation, old);
        let mut hooked = false;
        for hook in self.admission.iter().filter(|hook| hook.handles(&review)) {
            hook.mutate(&review, object)?;
            hooked = true;
        }
        Ok(hooked)
    }

    /// Asks all hooks for their judgement.
    pub(crate) fn validate(
        &self,
        call: &Call,
        key: &Key,
        operation: Operation,
        old: Option<&Value>,
        object: Option<&Value>,
    ) -> Result<(), ApiError> {
        let review = self.review(call, key, operation, old);
        for hook in self.admission.iter().filter(|hook| hook.handles(&review)) {
            hook.validate(&review, object)?;
        }
        Ok(())
    }

    pub(crate) fn review<'a>(
        &'a self,
        call: &'a Call,
        key: &'a Key,
        operation: Operation,
        old: Option<&'a Value>,
    ) -> Review<'a> {
        Review {
            operation,
            resource: &call.resource,
            subresource: &call.subresource,
            namespace: &key.0,
            name: &key.1,
            actor: &call.actor,
            dry_run: call.options.dry_run,
            old,
            cluster: ClusterView { state: self },
        }
    }
}
