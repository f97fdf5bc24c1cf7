//! Built-in types: the parts that the operator and KubeVirt's stand-in rely on.

use super::{STRATEGIC_PATCH, Step};
use serde_json::{Value, json};

pub(super) fn steps(namespace: &str) -> Vec<Step> {
    let mut steps = pods(&format!("/api/v1/namespaces/{namespace}/pods"));
    steps.extend(leases(&format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")));
    steps.extend(budgets(&format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets")));
    steps.extend(config_maps(&format!("/api/v1/namespaces/{namespace}/configmaps")));
    steps.extend(events(namespace));
    steps
}

fn pods(pods: &str) -> Vec<Step> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "labels": {"app": "p"}},
        "spec": {
            "schedulerName": "nobody", "automountServiceAccountToken": false,
            "containers": [{
                "name": "main", "image": "registry.invalid/main:1",
                "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "64Mi"}},
            }],
        },
        "status": {"phase": "Running"},
    });
    let p = format!("{pods}/p");
    vec![
        Step::post("create a Pod", format!("{pods}?fieldManager=one"), pod.clone()),
        Step::post("create a Pod again", pods, pod),
        Step::post(
            "create a Pod without containers",
            pods,
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "q"}, "spec": {"containers": []},
            }),
        ),
        Step::get("get a Pod that is not there", format!("{pods}/none")),
        Step::get("list Pods by phase", format!("{pods}?fieldSelector=status.phase=Pending,spec.nodeName=")),
        Step::get("list Pods by an unknown field", format!("{pods}?fieldSelector=spec.size=1")),
        Step::patch(
            "patch a Pod's labels strategically",
            format!("{p}?fieldManager=two"),
            json!({"metadata": {"labels": {"l": "1"}}}),
        )
        .content_type(STRATEGIC_PATCH),
        Step::patch(
            "patch a Pod's image strategically",
            format!("{p}?fieldManager=two"),
            json!({"spec": {"containers": [{"name": "main", "image": "registry.invalid/main:2"}]}}),
        )
        .content_type(STRATEGIC_PATCH),
        Step::patch(
            "patch a Pod's conditions",
            format!("{p}/status?fieldManager=two"),
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        )
        .content_type(STRATEGIC_PATCH),
        Step::patch(
            "patch one condition more",
            format!("{p}/status?fieldManager=two"),
            json!({"status": {"conditions": [{"type": "Odd", "status": "False"}]}}),
        )
        .content_type(STRATEGIC_PATCH),
        Step::patch(
            "take a condition away",
            format!("{p}/status?fieldManager=two"),
            json!({"status": {"conditions": [{"type": "Ready", "$patch": "delete"}]}}),
        )
        .content_type(STRATEGIC_PATCH),
        Step::patch(
            "a Pod's node selector stays",
            format!("{p}?fieldManager=two"),
            json!({"spec": {"nodeSelector": {"a": "b"}}}),
        ),
        Step::delete("delete a Pod", &p),
        Step::get("a Pod that never ran is gone", &p),
    ]
}

fn leases(leases: &str) -> Vec<Step> {
    let lease = |holder: &str, seconds: i64| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "lease"},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": "2026-01-05T00:00:00.000000Z"},
        })
    };
    let mut newer = lease("two", 15);
    newer["metadata"]["resourceVersion"] = "$resourceVersion(create a Lease)".into();
    vec![
        Step::post("create a Lease", format!("{leases}?fieldManager=one"), lease("one", 15)),
        Step::put("replace a Lease without a version", format!("{leases}/lease?fieldManager=two"), lease("two", 15)),
        Step::put("replace a Lease", format!("{leases}/lease?fieldManager=two"), newer.clone()),
        Step::put("replace a Lease too late", format!("{leases}/lease?fieldManager=two"), newer),
        Step::patch("a Lease lasts", format!("{leases}/lease"), json!({"spec": {"leaseDurationSeconds": 0}})),
        Step::delete("delete a Lease", format!("{leases}/lease")),
    ]
}

fn budgets(budgets: &str) -> Vec<Step> {
    // Its selector matches nothing, so that its controller has nothing to tell at first.
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "budget"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"nobody": "here"}}},
    });
    vec![
        Step::post("create a PodDisruptionBudget", format!("{budgets}?fieldManager=one"), budget),
        Step::delete("delete a PodDisruptionBudget", format!("{budgets}/budget")),
    ]
}

fn config_maps(config_maps: &str) -> Vec<Step> {
    let object = |data: Value| json!({"metadata": {"name": "plain"}, "data": data});
    vec![
        Step::post(
            "create a ConfigMap without its kind",
            format!("{config_maps}?fieldManager=one"),
            object(json!({"a": "1"})),
        ),
        Step::put(
            "replace a ConfigMap blindly",
            format!("{config_maps}/plain?fieldManager=two"),
            object(json!({"a": "2"})),
        ),
        Step::get("list ConfigMaps", format!("{config_maps}?fieldSelector=metadata.name=plain")),
        Step::get("a ConfigMap has no status", format!("{config_maps}/plain/status")),
        Step::delete("delete a ConfigMap", format!("{config_maps}/plain")),
        Step::delete("delete a ConfigMap again", format!("{config_maps}/plain")),
    ]
}

fn events(namespace: &str) -> Vec<Step> {
    let core = format!("/api/v1/namespaces/{namespace}/events");
    let new = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "event"},
        "regarding": {"kind": "Pod", "apiVersion": "v1", "name": "p", "namespace": namespace},
        "eventTime": "2026-01-05T00:00:00.000000Z", "action": "Greet", "reason": "Greeting", "note": "hello", "type": "Normal",
        "reportingController": "conformance.miyako.dev/test", "reportingInstance": "one",
    });
    vec![
        Step::post("create an Event", format!("{new}?fieldManager=one"), event),
        Step::get("get an Event's other face", format!("{core}/event")),
        Step::get("get an Event", format!("{new}/event")),
        Step::patch(
            "an Event becomes a series",
            format!("{new}/event?fieldManager=one"),
            json!({"series": {"count": 2, "lastObservedTime": "2026-01-05T00:00:01.000000Z"}}),
        ),
        Step::delete("delete an Event", format!("{new}/event")),
    ]
}
