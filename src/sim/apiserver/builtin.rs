//! What the real server does to built-in objects by Go code of its own: defaults, resets, a few checks. Only as far as
//! the operator, KubeVirt's stand-in and their tests can see.

use super::{error::FieldError, registry::Resource};
use serde_json::{Map, Value, json};

/// Whether a PUT may leave `metadata.resourceVersion` empty.
pub(crate) fn may_update_blindly(resource: &Resource) -> bool {
    !resource.custom && !matches!(resource.plural.as_str(), "leases" | "poddisruptionbudgets")
}

/// What a create may not set.
pub(crate) fn reset_on_create(resource: &Resource, object: &mut Value) {
    let Value::Object(fields) = object else { return };
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces") => {
            fields.insert("spec".into(), json!({ "finalizers": ["kubernetes"] }));
            fields.insert("status".into(), json!({ "phase": "Active" }));
            let name = fields["metadata"]["name"].clone();
            fields["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        ("", "pods") => {
            fields.insert("status".into(), json!({ "phase": "Pending" }));
        }
        ("", "persistentvolumes" | "persistentvolumeclaims") => {
            fields.insert("status".into(), json!({ "phase": "Pending" }));
        }
        ("", "resourcequotas") => {
            fields.insert("status".into(), json!({}));
        }
        ("apps", "daemonsets") => {
            let zero = json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0});
            fields.insert("status".into(), zero);
        }
        ("apps", "deployments") => {
            fields.insert("status".into(), json!({}));
        }
        ("policy", "poddisruptionbudgets") => {
            let zero = json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
            fields.insert("status".into(), zero);
        }
        _ => {}
    }
}

/// Fills in the defaults of built-in types.
pub(crate) fn apply_defaults(resource: &Resource, object: &mut Value) {
    if resource.custom {
        return;
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => default_pod(object),
        ("", "events") => {
            for (field, default) in
                [("source", json!({})), ("firstTimestamp", Value::Null), ("lastTimestamp", Value::Null)]
            {
                set(object, &[field], default);
            }
        }
        ("", "secrets") => set(object, &["type"], "Opaque".into()),
        ("storage.k8s.io", "storageclasses") => {
            set(object, &["reclaimPolicy"], "Delete".into());
            set(object, &["volumeBindingMode"], "Immediate".into());
        }
        ("", "persistentvolumes") => {
            set(object, &["spec", "persistentVolumeReclaimPolicy"], "Retain".into());
            set(object, &["spec", "volumeMode"], "Filesystem".into());
        }
        ("", "persistentvolumeclaims") => set(object, &["spec", "volumeMode"], "Filesystem".into()),
        _ => {}
    }
}

/// What mutating admission of the real server adds to a new object, after its fields' owners have been noted.
pub(crate) fn admit(resource: &Resource, object: &mut Value) {
    if resource.plural != "pods" || !resource.group.is_empty() {
        return;
    }
    let account = object["spec"]["serviceAccountName"].as_str().unwrap_or("default").to_owned();
    object["spec"]["serviceAccountName"] = account.as_str().into();
    object["spec"]["serviceAccount"] = account.into();
    set(object, &["spec", "priority"], 0.into());
    set(object, &["spec", "preemptionPolicy"], "PreemptLowerPriority".into());
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerations = object["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
        let tolerated = tolerations.iter().any(|toleration| {
            let effect = toleration["effect"].as_str().unwrap_or_default();
            let own = toleration["key"].as_str().unwrap_or_default();
            (effect.is_empty() || effect == "NoExecute") && (own.is_empty() || own == key)
        });
        if !tolerated {
            let one = json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
            match &mut object["spec"]["tolerations"] {
                Value::Array(list) => list.push(one),
                other => *other = json!([one]),
            }
        }
    }
    object["status"]["qosClass"] = qos_class(object).into();
}

/// The quality-of-service class: `BestEffort` without any request or limit, `Guaranteed` where every container's limits
/// are its requests, else `Burstable`.
fn qos_class(pod: &Value) -> &'static str {
    let lists = ["containers", "initContainers"].map(|list| pod["spec"][list].as_array().cloned().unwrap_or_default());
    let counted = |container: &Value, what: &str, name: &str| -> Option<Value> {
        container["resources"][what].get(name).filter(|value| !value.is_null()).cloned()
    };
    let mut any = false;
    let mut all = true;
    for container in lists.iter().flatten() {
        for name in ["cpu", "memory"] {
            let (request, limit) = (counted(container, "requests", name), counted(container, "limits", name));
            any |= request.is_some() || limit.is_some();
            all &= limit.is_some() && request == limit;
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// The empty object of a built-in type: Go writes structs even when nothing is in them, so nobody comes to own them by
/// being the first to write.
pub(crate) fn zero(resource: &Resource) -> Value {
    if resource.custom {
        return json!({});
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => json!({"spec": {"containers": null}, "status": {}}),
        ("", "nodes") => json!({
            "spec": {}, "status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": {}},
        }),
        ("", "namespaces" | "persistentvolumes" | "resourcequotas") | ("policy", _) => {
            json!({"spec": {}, "status": {}})
        }
        ("", "persistentvolumeclaims") => json!({"spec": {"resources": {}}, "status": {}}),
        ("", "services") => json!({"spec": {}, "status": {"loadBalancer": {}}}),
        ("apps", "daemonsets") => json!({
            "spec": {
                "selector": null, "template": {"metadata": {}, "spec": {"containers": null}}, "updateStrategy": {},
            },
            "status": {},
        }),
        ("apps", "deployments") => json!({
            "spec": {"selector": null, "template": {"metadata": {}, "spec": {"containers": null}}, "strategy": {}},
            "status": {},
        }),
        ("coordination.k8s.io", _) => json!({ "spec": {} }),
        ("storage.k8s.io", "volumeattachments") => json!({"spec": {"source": {}}}),
        ("", "events") => json!({
            "metadata": {}, "involvedObject": {}, "source": {}, "firstTimestamp": null, "lastTimestamp": null,
            "reportingComponent": "", "reportingInstance": "", "eventTime": null,
        }),
        ("events.k8s.io", _) => json!({
            "metadata": {}, "regarding": {}, "deprecatedSource": {}, "deprecatedFirstTimestamp": null,
            "deprecatedLastTimestamp": null, "eventTime": null,
        }),
        _ => json!({}),
    }
}

fn set(object: &mut Value, path: &[&str], default: Value) {
    let mut at = object;
    for step in path {
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(fields) = at else { return };
        at = fields.entry(*step).or_insert(Value::Null);
    }
    if at.is_null() {
        *at = default;
    }
}

fn default_pod(pod: &mut Value) {
    if let Some(Value::Array(conditions)) = pod["status"].get_mut("conditions") {
        for condition in conditions {
            set(condition, &["lastProbeTime"], Value::Null);
            set(condition, &["lastTransitionTime"], Value::Null);
        }
    }
    for (field, default) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
    ] {
        set(pod, &["spec", field], default);
    }
    for list in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = pod["spec"].get_mut(list) else { continue };
        for container in containers {
            let image = container["image"].as_str().unwrap_or_default();
            let moving = !image.contains('@')
                && (image.ends_with(":latest") || !image.rsplit('/').next().unwrap_or_default().contains(':'));
            set(container, &["imagePullPolicy"], if moving { "Always".into() } else { "IfNotPresent".into() });
            set(container, &["terminationMessagePath"], "/dev/termination-log".into());
            set(container, &["terminationMessagePolicy"], "File".into());
            set(container, &["resources"], json!({}));
            // A limit without a request is its own request.
            let limits = container["resources"]["limits"].as_object().cloned().unwrap_or_default();
            for (name, limit) in limits {
                set(container, &["resources", "requests", &name], limit);
            }
        }
    }
}

/// The few checks of built-in types that a wrong program of ours could fail.
pub(crate) fn validate(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = vec![];
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => {
            if object["spec"]["containers"].as_array().is_none_or(Vec::is_empty) {
                errors.push(FieldError::required("spec.containers", ""));
            }
            for key in object["spec"]["nodeSelector"].as_object().into_iter().flatten().map(|(key, _)| key) {
                if let Some(what) = super::metadata::qualified_name_fault(key) {
                    errors.push(FieldError::invalid("spec.nodeSelector", &key.as_str().into(), what));
                }
            }
            if let Some(old) = old {
                let changed = ["nodeSelector", "affinity", "containers"]
                    .iter()
                    .any(|field| strip_image(&object["spec"][field]) != strip_image(&old["spec"][field]));
                let moved = object["spec"]["nodeName"] != old["spec"]["nodeName"];
                if changed || moved {
                    let what = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
                    errors.push(FieldError::forbidden("spec", what));
                }
            }
        }
        ("coordination.k8s.io", "leases") => {
            let seconds = &object["spec"]["leaseDurationSeconds"];
            if seconds.as_i64().is_some_and(|seconds| seconds <= 0) {
                errors.push(FieldError::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
            }
        }
        _ => {}
    }
    errors
}

fn strip_image(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Array(containers) = &mut value {
        for container in containers {
            if let Value::Object(fields) = container {
                fields.shift_remove("image");
            }
        }
    }
    value
}
