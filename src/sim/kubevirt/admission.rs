//! virt-api's webhooks as pure functions: what they add to a request, and what they refuse.
//!
//! The same functions judge requests of the in-memory API server (as its admission) and, behind an HTTPS webhook,
//! those of a real one. Source: `pkg/virt-api/webhooks/{mutating-webhook/mutators,validating-webhook/admitters}`.

use super::names::{self, RESERVED_VMI_LABELS, VIRT_CONTROLLER, VMI_FINALIZER, phase};
use crate::sim::at::text;
use miyako_api::names::kubevirt::{DOMAIN, EVICTION_SOURCE, LAUNCHER, MIGRATION_FINALIZER, VMI_NAME};
use serde_json::{Map, Value, json};

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Makes an object.
    Create,
    /// Changes one (update and patch alike).
    Update,
    /// Removes one.
    Delete,
}

/// What an admission webhook is told of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What it does.
    pub operation: Operation,
    /// The requester's user name.
    pub user: &'a str,
    /// The plural name of the resource.
    pub resource: &'a str,
    /// `status`, `eviction`, …; empty for the object itself.
    pub subresource: &'a str,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// The object's name; may be empty while it is being generated.
    pub name: &'a str,
    /// The object before; null on create.
    pub old: &'a Value,
    /// A dry run must not cause anything either.
    pub dry_run: bool,
}

/// A refusal, as the fields of a `Status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// `Invalid`, …; KubeVirt's 400 and 429 come without any.
    pub reason: &'static str,
    /// The message, in KubeVirt's own words.
    pub message: String,
}

impl Refusal {
    fn bad_request(message: impl Into<String>) -> Self {
        Self { code: 400, reason: "", message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self { code: 422, reason: "Invalid", message: message.into() }
    }

    fn too_many_requests(message: impl Into<String>) -> Self {
        Self { code: 429, reason: "", message: message.into() }
    }
}

/// What the webhooks look up while they judge.
pub trait ReadView {
    /// A VirtualMachineInstance.
    fn vmi(&self, namespace: &str, name: &str) -> Option<Value>;
    /// The VirtualMachineInstanceMigrations of a namespace whose label `kubevirt.io/vmi-name` says this.
    fn migrations_of(&self, namespace: &str, vmi: &str) -> Vec<Value>;
    /// A Pod.
    fn pod(&self, namespace: &str, name: &str) -> Option<Value>;
    /// `spec.configuration.evictionStrategy` of the KubeVirt CR.
    fn default_eviction_strategy(&self) -> Option<String>;
}

/// Whether any of the webhooks wants to see requests for this resource (and subresource).
#[must_use]
pub fn concerns(resource: &str, subresource: &str) -> bool {
    matches!(
        (resource, subresource),
        ("virtualmachineinstances" | "virtualmachineinstancemigrations" | "virtualmachines", "") | ("pods", "eviction")
    )
}

/// The name of the validating webhook that judges a request, as refusals quote it.
#[must_use]
pub fn webhook(request: &Request<'_>) -> &'static str {
    match (request.resource, request.operation) {
        ("virtualmachineinstancemigrations", Operation::Create) => "migration-create-validator.kubevirt.io",
        ("virtualmachineinstancemigrations", _) => "migration-update-validator.kubevirt.io",
        ("pods", _) => "virt-launcher-eviction-interceptor.kubevirt.io",
        (_, Operation::Create) => "virtualmachineinstances-create-validator.kubevirt.io",
        _ => "virtualmachineinstances-update-validator.kubevirt.io",
    }
}

/// The first webhook that a request meets, and its path at virt-api.
#[must_use]
pub fn first_webhook(request: &Request<'_>) -> (&'static str, &'static str) {
    match (request.resource, request.operation) {
        ("virtualmachineinstancemigrations", Operation::Create) => {
            ("migrations-mutator.kubevirt.io", "migration-mutate-create")
        }
        ("virtualmachineinstancemigrations", _) => (webhook(request), "migration-validate-update"),
        ("virtualmachines", _) => ("virtualmachines-mutator.kubevirt.io", "virtualmachines-mutate"),
        ("pods", _) => (webhook(request), "pod-eviction-validate"),
        _ => ("virtualmachineinstances-mutator.kubevirt.io", "virtualmachineinstances-mutate"),
    }
}

/// What the mutating webhooks refuse: an object that is not of the right shape.
///
/// # Errors
/// The refusal, as virt-api words it.
pub fn check_shape(request: &Request<'_>, object: &Value) -> Result<(), Refusal> {
    if (request.resource, request.operation) != ("virtualmachineinstancemigrations", Operation::Create) {
        return Ok(());
    }
    let is = match object.pointer("/spec/priority") {
        None | Some(Value::Null | Value::String(_)) => return Ok(()),
        Some(Value::Number(_)) => "number",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Array(_)) => "array",
        Some(Value::Object(_)) => "object",
    };
    Err(Refusal::invalid(format!("spec.priority in body must be of type string: \"{is}\"")))
}

/// What the mutating webhooks change: finalizer and label of a new VMIM, finalizer and first phase of a new VMI, and
/// the old status of a VMI put back, silently, when the change is not KubeVirt's own.
pub fn mutate(request: &Request<'_>, object: &mut Value, now: jiff::Timestamp) {
    match (request.resource, request.subresource, request.operation) {
        ("virtualmachineinstancemigrations", "", Operation::Create) => {
            let vmi = object.pointer("/spec/vmiName").cloned().unwrap_or_else(|| json!(""));
            child(metadata(object), "labels").insert(VMI_NAME.into(), vmi);
            add_finalizer(object, MIGRATION_FINALIZER);
        }
        ("virtualmachineinstances", "", Operation::Create) => {
            add_finalizer(object, VMI_FINALIZER);
            if let Some(root) = object.as_object_mut() {
                let status = child(root, "status");
                status.insert("phase".into(), json!("Pending"));
                let entered = json!([{"phase": "Pending", "phaseTransitionTimestamp": second(now)}]);
                status.insert("phaseTransitionTimestamps".into(), entered);
            }
        }
        ("virtualmachineinstances", "", Operation::Update) if !names::is_kubevirt_account(request.user) => {
            if let Some(root) = object.as_object_mut() {
                match request.old.get("status") {
                    Some(status) => root.insert("status".into(), status.clone()),
                    None => root.remove("status"),
                };
            }
        }
        _ => {}
    }
}

/// What the validating webhooks refuse. Evictions of launchers are judged by [`judge_eviction`].
///
/// # Errors
/// The refusal, as virt-api words it.
pub fn validate(request: &Request<'_>, object: &Value, view: &dyn ReadView) -> Result<(), Refusal> {
    match (request.resource, request.subresource, request.operation) {
        ("virtualmachineinstancemigrations", "", Operation::Create) => new_migration(request, object, view),
        ("virtualmachineinstancemigrations", "", Operation::Update) => changed_migration(request.old, object),
        ("virtualmachineinstances", "", Operation::Update) => changed_vmi(request, object),
        _ => Ok(()),
    }
}

fn new_migration(request: &Request<'_>, object: &Value, view: &dyn ReadView) -> Result<(), Refusal> {
    let name = text(object, "/spec/vmiName");
    if name.is_empty() {
        return Err(Refusal::invalid("vmiName is missing"));
    }
    if object.pointer("/spec/priority").is_some_and(|priority| !priority.is_null()) && request.user != VIRT_CONTROLLER {
        return Err(Refusal::invalid(
            "Migration priority queue, only virt-controller is allowed to set priority field",
        ));
    }
    let Some(vmi) = view.vmi(request.namespace, name) else {
        return Err(Refusal::bad_request(format!("the VMI \"{}/{name}\" does not exist", request.namespace)));
    };
    if matches!(text(&vmi, "/status/phase"), "Succeeded" | "Failed") {
        return Err(Refusal::bad_request("Cannot migrate VMI in finalized state."));
    }
    if let Some(condition) = condition(&vmi, "LiveMigratable").filter(|condition| text(condition, "/status") == "False")
    {
        let (reason, message) = (text(condition, "/reason"), text(condition, "/message"));
        return Err(Refusal::bad_request(format!("Cannot migrate VMI, Reason: {reason}, Message: {message}")));
    }
    let unfinished = |migration: &Value| !matches!(text(migration, "/status/phase"), phase::SUCCEEDED | phase::FAILED);
    if let Some(other) = view.migrations_of(request.namespace, name).into_iter().find(unfinished) {
        return Err(Refusal::bad_request(format!(
            "in-flight migration detected. Active migration job ({}) is currently already in progress for VMI {name}.",
            text(&other, "/metadata/uid")
        )));
    }
    Ok(())
}

fn changed_migration(old: &Value, new: &Value) -> Result<(), Refusal> {
    if old.get("spec") != new.get("spec") {
        return Err(Refusal::invalid("update of Migration object's spec is restricted"));
    }
    let selector = |object: &Value| labels(object).get(VMI_NAME).cloned();
    let unfinished = !matches!(text(new, "/status/phase"), phase::SUCCEEDED | phase::FAILED);
    if unfinished && selector(old).is_some() && selector(old) != selector(new) {
        return Err(Refusal::invalid("selector label can't be modified on an in-flight migration"));
    }
    Ok(())
}

fn changed_vmi(request: &Request<'_>, new: &Value) -> Result<(), Refusal> {
    if names::is_kubevirt_account(request.user) {
        return Ok(());
    }
    if request.old.get("spec") != new.get("spec") {
        return Err(Refusal::invalid("update of VMI object is restricted"));
    }
    let reserved = |object: &Value| {
        let labels = labels(object);
        RESERVED_VMI_LABELS.map(|name| labels.get(name).cloned())
    };
    if reserved(request.old) != reserved(new) {
        return Err(Refusal::invalid(
            "modification of the following reserved kubevirt.io/ labels on a VMI object is prohibited",
        ));
    }
    Ok(())
}

/// What an eviction of a launcher comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvictionVerdict {
    /// Not KubeVirt's business.
    Allowed,
    /// Answered with 429; KubeVirt moves the VM itself once [`Self::Evacuates::patch`] was applied to the VMI.
    Evacuates {
        /// The VMI's name.
        vmi: String,
        /// The merge patch that marks the VMI, to be sent as virt-api; none when nothing is left to be done.
        patch: Option<Value>,
        /// The answer.
        refusal: Refusal,
    },
}

/// Judges an eviction of a pod: that of a running VM's launcher is refused and becomes an evacuation.
#[must_use]
pub fn judge_eviction(request: &Request<'_>, eviction: &Value, view: &dyn ReadView) -> EvictionVerdict {
    let Some(pod) = view.pod(request.namespace, request.name) else { return EvictionVerdict::Allowed };
    let is_launcher = labels(&pod).get("kubevirt.io").and_then(Value::as_str) == Some(LAUNCHER);
    if !is_launcher || matches!(text(&pod, "/status/phase"), "Succeeded" | "Failed") {
        return EvictionVerdict::Allowed;
    }
    let name = pod.pointer("/metadata/annotations").and_then(|all| all.get(DOMAIN)).and_then(Value::as_str);
    let Some(name) = name else { return EvictionVerdict::Allowed };
    let refused = |message: String, patch: Option<Value>| EvictionVerdict::Evacuates {
        vmi: name.to_owned(),
        patch,
        refusal: Refusal::too_many_requests(message),
    };
    let Some(vmi) = view.vmi(request.namespace, name) else {
        return refused(format!("kubevirt failed getting the vmi: virtualmachineinstances \"{name}\" not found"), None);
    };
    let own = vmi.pointer("/spec/evictionStrategy").and_then(Value::as_str).map(str::to_owned);
    let migratable = condition(&vmi, "LiveMigratable").is_some_and(|condition| text(condition, "/status") == "True");
    match own.or_else(|| view.default_eviction_strategy()).as_deref() {
        Some("LiveMigrate") if !migratable => {
            let message = format!("VMI {name} is configured with an eviction strategy but is not live-migratable");
            return refused(message, None);
        }
        Some("LiveMigrate" | "External") => {}
        Some("LiveMigrateIfPossible") if migratable => {}
        _ => return EvictionVerdict::Allowed,
    }
    let what = format!("Eviction triggered evacuation of VMI \"{}/{name}\"", request.namespace);
    if !text(&vmi, "/status/evacuationNodeName").is_empty() {
        return refused(format!("Evacuation in progress: {what}"), None);
    }
    let node = text(&pod, "/spec/nodeName");
    if text(&vmi, "/status/nodeName") != node {
        return refused("Eviction request for target Pod".into(), None);
    }
    let mut patch = json!({"status": {"evacuationNodeName": node}});
    if eviction.pointer("/metadata/annotations/requested-by").and_then(Value::as_str) == Some("sigs.k8s.io/descheduler")
    {
        patch["metadata"]["annotations"][EVICTION_SOURCE] = json!("descheduler");
    }
    refused(what, (!request.dry_run).then_some(patch))
}

fn second(now: jiff::Timestamp) -> Value {
    json!(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn labels(object: &Value) -> Map<String, Value> {
    object.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| text(condition, "/type") == kind)
}

/// The named object within another, made where there is none.
fn child<'a>(parent: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = parent.entry(name).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    match object {
        Value::Object(root) => child(root, "metadata"),
        _ => unreachable!("made an object above"),
    }
}

fn add_finalizer(object: &mut Value, name: &str) {
    let finalizers = metadata(object).entry("finalizers").or_insert_with(|| json!([]));
    if let Value::Array(finalizers) = finalizers
        && !finalizers.iter().any(|present| present == name)
    {
        finalizers.push(json!(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct View {
        vmi: Option<Value>,
        migrations: Vec<Value>,
        pod: Option<Value>,
    }

    impl ReadView for View {
        fn vmi(&self, _: &str, _: &str) -> Option<Value> {
            self.vmi.clone()
        }
        fn migrations_of(&self, _: &str, _: &str) -> Vec<Value> {
            self.migrations.clone()
        }
        fn pod(&self, _: &str, _: &str) -> Option<Value> {
            self.pod.clone()
        }
        fn default_eviction_strategy(&self) -> Option<String> {
            None
        }
    }

    fn running_vmi() -> Value {
        json!({
            "metadata": {"name": "vm", "labels": {"app": "a", "kubevirt.io/nodeName": "n1"}},
            "spec": {"evictionStrategy": "LiveMigrate"},
            "status": {
                "phase": "Running", "nodeName": "n1",
                "conditions": [{"type": "LiveMigratable", "status": "True"}],
            },
        })
    }

    fn view() -> View {
        View { vmi: Some(running_vmi()), migrations: Vec::new(), pod: None }
    }

    fn request<'a>(operation: Operation, resource: &'a str, user: &'a str, old: &'a Value) -> Request<'a> {
        Request { operation, user, resource, subresource: "", namespace: "ns", name: "vm", old, dry_run: false }
    }

    fn migration() -> Value {
        json!({"metadata": {"name": "m"}, "spec": {"vmiName": "vm"}})
    }

    fn create(user: &str, object: &Value, view: &View) -> Result<(), Refusal> {
        validate(&request(Operation::Create, "virtualmachineinstancemigrations", user, &Value::Null), object, view)
    }

    #[test]
    fn a_new_migration_gets_finalizer_and_label() {
        let mut object = migration();
        let request = request(Operation::Create, "virtualmachineinstancemigrations", "eve", &Value::Null);
        mutate(&request, &mut object, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(object["metadata"]["finalizers"], json!([MIGRATION_FINALIZER]));
        assert_eq!(object["metadata"]["labels"][VMI_NAME], "vm");
    }

    #[test]
    fn migrations_that_can_not_be_are_refused() {
        let refused = |change: fn(&mut View, &mut Value)| {
            let (mut view, mut object) = (view(), migration());
            change(&mut view, &mut object);
            create("eve", &object, &view).unwrap_err().message
        };
        assert_eq!(refused(|view, _| view.vmi = None), "the VMI \"ns/vm\" does not exist");
        let gone = refused(|view, _| view.vmi.as_mut().unwrap()["status"]["phase"] = json!("Failed"));
        assert_eq!(gone, "Cannot migrate VMI in finalized state.");
        let fixed = refused(|view, _| {
            view.vmi.as_mut().unwrap()["status"]["conditions"][0] =
                json!({"type": "LiveMigratable", "status": "False", "reason": "HostDevice", "message": "no"});
        });
        assert_eq!(fixed, "Cannot migrate VMI, Reason: HostDevice, Message: no");
        let second = refused(|view, _| {
            view.migrations.push(json!({"metadata": {"uid": "1"}, "status": {"phase": "Succeeded"}}));
            view.migrations.push(json!({"metadata": {"uid": "2"}, "status": {"phase": "Running"}}));
        });
        assert!(second.starts_with("in-flight migration detected. Active migration job (2)"), "{second}");
        let urgent = refused(|_, object| object["spec"]["priority"] = json!("system-critical"));
        assert!(urgent.contains("only virt-controller"), "{urgent}");
    }

    #[test]
    fn virt_controller_may_set_a_priority_and_anybody_may_migrate_again() {
        let mut object = migration();
        object["spec"]["priority"] = json!("system-critical");
        let mut view = view();
        view.migrations.push(json!({"metadata": {"uid": "1"}, "status": {"phase": "Failed"}}));
        assert_eq!(create(VIRT_CONTROLLER, &object, &view), Ok(()));
        assert_eq!(create("eve", &migration(), &view), Ok(()));
    }

    #[test]
    fn a_migrations_spec_and_label_stay_as_they_are() {
        let old = json!({"metadata": {"labels": {VMI_NAME: "vm"}}, "spec": {"vmiName": "vm"}});
        let update = request(Operation::Update, "virtualmachineinstancemigrations", "eve", &old);
        let mut other = old.clone();
        other["spec"]["addedNodeSelector"] = json!({"a": "b"});
        assert!(validate(&update, &other, &view()).is_err());
        let mut other = old.clone();
        other["metadata"]["labels"] = json!({});
        assert!(validate(&update, &other, &view()).is_err());
        let mut other = old.clone();
        other["metadata"]["labels"]["mine"] = json!("yes");
        assert_eq!(validate(&update, &other, &view()), Ok(()));
    }

    #[test]
    fn a_vmis_status_is_put_back_silently_and_its_spec_is_guarded() {
        let old = running_vmi();
        let update = request(Operation::Update, "virtualmachineinstances", "eve", &old);
        let mut new = old.clone();
        new["status"]["nodeName"] = json!("n2");
        new["metadata"]["labels"]["miyako.dev/migration-mode"] = json!("post-copy");
        mutate(&update, &mut new, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(new["status"], old["status"]);
        assert_eq!(new["metadata"]["labels"]["miyako.dev/migration-mode"], "post-copy");
        assert_eq!(validate(&update, &new, &view()), Ok(()));

        let mut new = old.clone();
        new["spec"]["evictionStrategy"] = json!("None");
        assert_eq!(validate(&update, &new, &view()).unwrap_err().message, "update of VMI object is restricted");
        let mut new = old.clone();
        new["metadata"]["labels"]["kubevirt.io/nodeName"] = json!("n2");
        assert!(validate(&update, &new, &view()).is_err());
    }

    #[test]
    fn kubevirts_own_accounts_write_a_vmis_status() {
        let old = running_vmi();
        let mut new = old.clone();
        new["status"]["nodeName"] = json!("n2");
        let update = request(Operation::Update, "virtualmachineinstances", names::VIRT_HANDLER, &old);
        mutate(&update, &mut new, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(new["status"]["nodeName"], "n2");
    }

    fn evict(view: &View) -> EvictionVerdict {
        let request =
            Request { subresource: "eviction", ..request(Operation::Create, "pods", "drainer", &Value::Null) };
        judge_eviction(&request, &json!({}), view)
    }

    #[test]
    fn an_eviction_becomes_an_evacuation() {
        let pod = json!({
            "metadata": {"labels": {"kubevirt.io": "virt-launcher"}, "annotations": {DOMAIN: "vm"}},
            "spec": {"nodeName": "n1"}, "status": {"phase": "Running"},
        });
        let mut view = View { pod: Some(pod), ..view() };
        let EvictionVerdict::Evacuates { patch, refusal, .. } = evict(&view) else { panic!("allowed") };
        assert_eq!(patch, Some(json!({"status": {"evacuationNodeName": "n1"}})));
        assert_eq!((refusal.code, refusal.message.as_str()), (429, "Eviction triggered evacuation of VMI \"ns/vm\""));

        view.vmi.as_mut().unwrap()["status"]["evacuationNodeName"] = json!("n1");
        let EvictionVerdict::Evacuates { patch, refusal, .. } = evict(&view) else { panic!("allowed") };
        assert_eq!(patch, None);
        assert!(refusal.message.starts_with("Evacuation in progress: "));

        view.pod.as_mut().unwrap()["status"]["phase"] = json!("Succeeded");
        assert_eq!(evict(&view), EvictionVerdict::Allowed);
    }
}
