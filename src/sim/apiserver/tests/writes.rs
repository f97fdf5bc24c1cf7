//! Create, replace, patch, delete, and what the server refuses.

use super::{CONFIG_MAPS, JSON, MERGE, WIDGETS, pod, send, server, widget, widgets};
use crate::sim::apiserver::{Admission, ApiError, Review};
use serde_json::{Value, json};
use std::sync::Arc;

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test(start_paused = true)]
async fn create_names_stamps_and_refuses_twice() {
    let client = server().client("test");
    let mut object = pod("x");
    object["metadata"] = json!({"generateName": "vm-"});
    let (code, made) = send(&client, "POST", PODS, JSON, object).await;
    assert_eq!(code, 201);
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("vm-") && name.len() == 8, "{name}");
    assert_eq!(made["metadata"]["creationTimestamp"], "2026-01-05T00:00:00Z");
    assert_eq!(made["status"]["phase"], "Pending");
    let mut again = pod(name);
    again["metadata"]["namespace"] = "default".into();
    let (code, refused) = send(&client, "POST", PODS, JSON, again).await;
    assert_eq!(code, 409);
    assert_eq!(
        refused,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": format!("pods \"{name}\" already exists"), "reason": "AlreadyExists",
            "details": {"name": name, "kind": "pods"}, "code": 409,
        })
    );
    let (code, lost) =
        send(&client, "POST", "/api/v1/namespaces/nowhere/configmaps", JSON, json!({"metadata": {"name": "a"}})).await;
    assert_eq!((code, &lost["message"]), (404, &json!("namespaces \"nowhere\" not found")));
}

#[tokio::test(start_paused = true)]
async fn replace_needs_the_newest_version_and_no_change_is_no_event() {
    let client = server().client("test");
    let (_, made) =
        send(&client, "POST", CONFIG_MAPS, JSON, json!({"metadata": {"name": "c"}, "data": {"a": "1"}})).await;
    let path = format!("{CONFIG_MAPS}/c");
    let (_, same) = send(&client, "PUT", &path, JSON, made.clone()).await;
    assert_eq!(same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let mut changed = made.clone();
    changed["data"]["a"] = "2".into();
    let (code, _) = send(&client, "PUT", &path, JSON, changed.clone()).await;
    assert_eq!(code, 200);
    let (code, refused) = send(&client, "PUT", &path, JSON, changed).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")));
    let stale = json!({"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"a": "3"}});
    let (code, _) = send(&client, "PATCH", &path, MERGE, stale).await;
    assert_eq!(code, 409);
    let (code, refused) = send(&client, "PATCH", &path, MERGE, json!({"metadata": {"uid": "another"}})).await;
    assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")));
}

#[tokio::test(start_paused = true)]
async fn custom_resources_are_defaulted_pruned_judged_and_counted() {
    let server = server();
    server.add_crd(&widgets()).unwrap();
    let client = server.client("test");
    let mut object = widget("w", 7);
    object["spec"]["junk"] = true.into();
    object["status"] = json!({"phase": "Wishful"});
    let (code, made) = send(&client, "POST", WIDGETS, JSON, object).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"], json!({"size": 7, "colour": "red"}));
    assert_eq!((made.get("status"), &made["metadata"]["generation"]), (None, &json!(1)));
    let unjudged = "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
    for (size, message) in [
        (json!(0), "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1".to_owned()),
        (json!(13), "spec: Invalid value: 13 brings bad luck: write 12 or 14".to_owned()),
        (
            json!("x"),
            format!(
                "[spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\", {unjudged}]"
            ),
        ),
        (Value::Null, format!("[spec.size: Required value, {unjudged}]")),
    ] {
        let (code, refused) =
            send(&client, "PATCH", &format!("{WIDGETS}/w"), MERGE, json!({"spec": {"size": size}})).await;
        assert_eq!(code, 422, "{refused}");
        assert_eq!(refused["message"], format!("Widget.test.miyako.dev \"w\" is invalid: {message}"));
    }
    let (_, grown) =
        send(&client, "PATCH", &format!("{WIDGETS}/w"), MERGE, json!({"spec": {"size": 8}, "status": {"phase": "No"}}))
            .await;
    assert_eq!((grown.get("status"), &grown["metadata"]["generation"]), (None, &json!(2)));
    let (_, told) = send(
        &client,
        "PATCH",
        &format!("{WIDGETS}/w/status"),
        MERGE,
        json!({"spec": {"size": 9}, "status": {"phase": "Yes"}}),
    )
    .await;
    assert_eq!(
        (&told["status"]["phase"], &told["spec"]["size"], &told["metadata"]["generation"]),
        (&json!("Yes"), &json!(8), &json!(2))
    );
}

#[tokio::test(start_paused = true)]
async fn finalizers_hold_an_object_and_owners_take_theirs_along() {
    let server = server();
    let client = server.client("test");
    let (_, owner) = send(
        &client,
        "POST",
        CONFIG_MAPS,
        JSON,
        json!({"metadata": {"name": "owner", "finalizers": ["test.miyako.dev/hold"]}}),
    )
    .await;
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]});
    send(&client, "POST", CONFIG_MAPS, JSON, json!({"metadata": {"name": "child", "ownerReferences": [reference]}}))
        .await;
    let path = format!("{CONFIG_MAPS}/owner");
    let wrong = json!({"preconditions": {"uid": "another"}});
    assert_eq!(send(&client, "DELETE", &path, JSON, wrong).await.0, 409);
    let (code, held) = send(&client, "DELETE", &path, JSON, Value::Null).await;
    assert_eq!((code, &held["metadata"]["deletionTimestamp"]), (200, &json!("2026-01-05T00:00:00Z")));
    let (code, _) =
        send(&client, "PATCH", &path, MERGE, json!({"metadata": {"finalizers": ["test.miyako.dev/more"]}})).await;
    assert_eq!(code, 422, "a finalizer may not join");
    assert_eq!(send(&client, "GET", &format!("{CONFIG_MAPS}/child"), JSON, Value::Null).await.0, 200);
    assert_eq!(send(&client, "PATCH", &path, MERGE, json!({"metadata": {"finalizers": null}})).await.0, 200);
    assert_eq!(send(&client, "GET", &path, JSON, Value::Null).await.0, 404);
    assert_eq!(send(&client, "GET", &format!("{CONFIG_MAPS}/child"), JSON, Value::Null).await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_answers_but_stores_nothing() {
    let server = server();
    let client = server.client("test");
    let before = server.view(|view| view.version());
    let (code, _) =
        send(&client, "POST", &format!("{CONFIG_MAPS}?dryRun=All"), JSON, json!({"metadata": {"name": "c"}})).await;
    assert_eq!(code, 201);
    assert_eq!(server.view(|view| view.version()), before);
}

struct NoBadLabels;

impl Admission for NoBadLabels {
    fn handles(&self, review: &Review<'_>) -> bool {
        review.resource.plural == "configmaps"
    }

    fn mutate(&self, review: &Review<'_>, object: &mut Value) -> Result<(), ApiError> {
        object["metadata"]["labels"]["seen-from"] = review.actor.into();
        Ok(())
    }

    fn validate(&self, review: &Review<'_>, object: Option<&Value>) -> Result<(), ApiError> {
        match object {
            Some(object) if object["metadata"]["labels"]["bad"] == "yes" => {
                Err(ApiError::refused_by_webhook("labels.test", 403, "Forbidden", &format!("{} is bad", review.name)))
            }
            _ => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn admission_changes_and_refuses() {
    let server = server();
    server.add_admission(Arc::new(NoBadLabels));
    let client = server.client("somebody");
    let (_, made) = send(&client, "POST", CONFIG_MAPS, JSON, json!({"metadata": {"name": "c"}})).await;
    assert_eq!(made["metadata"]["labels"]["seen-from"], "somebody");
    let (code, refused) =
        send(&client, "PATCH", &format!("{CONFIG_MAPS}/c"), MERGE, json!({"metadata": {"labels": {"bad": "yes"}}}))
            .await;
    assert_eq!(
        (code, &refused["message"]),
        (403, &json!("admission webhook \"labels.test\" denied the request: c is bad"))
    );
}

#[tokio::test(start_paused = true)]
async fn events_have_two_faces() {
    let client = server().client("test");
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "note": "hello", "reason": "Greeting",
        "reportingController": "test", "reportingInstance": "one", "type": "Normal", "action": "Greet",
        "eventTime": "2026-01-05T00:00:00.000000Z",
    });
    let (code, made) = send(&client, "POST", "/apis/events.k8s.io/v1/namespaces/default/events", JSON, event).await;
    assert_eq!((code, &made["note"]), (201, &json!("hello")));
    let (_, core) = send(&client, "GET", "/api/v1/namespaces/default/events/e", JSON, Value::Null).await;
    assert_eq!(
        (&core["message"], &core["involvedObject"]["name"], &core["apiVersion"]),
        (&json!("hello"), &json!("p"), &json!("v1"))
    );
}

/// Where the real server has no route of its own it answers in plain text, and not with a Status.
#[tokio::test(start_paused = true)]
async fn unknown_kinds_are_refused_in_plain_text_unless_their_group_is_built_in() {
    let server = server();
    server.add_crd(&widgets()).unwrap();
    let client = server.client("test");
    for (path, plain) in [
        ("/apis/nobody.dev/v1/things", true),
        ("/apis/nobody.dev/v1/namespaces/default/things/one", true),
        ("/apis/nobody.dev", true),
        ("/apis/test.miyako.dev/v1/things", true),
        ("/apis/test.miyako.dev/v9/widgets", true),
        ("/api/v9/pods", false),
        ("/apis/apps/v9/deployments", false),
        ("/nothing", true),
        ("/api/v1/things", false),
        ("/apis/apps/v1/things", false),
    ] {
        let request = http::Request::get(path).body(Vec::new().into()).unwrap();
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
        let body = response.into_body().collect_bytes().await.unwrap();
        assert_eq!(&*body == b"404 page not found\n", plain, "{path}: {}", String::from_utf8_lossy(&body));
    }
}
