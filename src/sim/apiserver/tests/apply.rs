//! Server-side apply and field ownership.

use super::{APPLY, CONFIG_MAPS, MERGE, WIDGETS, send, server, widgets};
use kube::Client;
use serde_json::{Value, json};

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
}

async fn apply(client: &Client, manager: &str, force: bool, object: &Value) -> (u16, Value) {
    let base = if object["kind"] == "Widget" { WIDGETS } else { CONFIG_MAPS };
    let name = object["metadata"]["name"].as_str().unwrap();
    let path = format!("{base}/{name}?fieldManager={manager}&force={force}");
    send(client, "PATCH", &path, APPLY, object.clone()).await
}

/// Who owns what, without the server's own bookkeeping.
fn owners(object: &Value) -> Vec<(String, String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
    entries.iter().map(|entry| (text(entry, "manager"), text(entry, "operation"), entry["fieldsV1"].clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn an_apply_creates_then_changes_then_takes_back_what_it_no_longer_says() {
    let client = server().client("test");
    let (code, _) = apply(&client, "one", false, &config_map(json!({"a": "1", "b": "1"}))).await;
    assert_eq!(code, 201);
    let (_, again) = apply(&client, "one", false, &config_map(json!({"a": "1", "b": "1"}))).await;
    let (code, changed) = apply(&client, "one", false, &config_map(json!({"a": "2"}))).await;
    assert_eq!((code, &changed["data"]), (200, &json!({"a": "2"})));
    assert_ne!(again["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"]);
    let (_, same) = apply(&client, "one", false, &config_map(json!({"a": "2"}))).await;
    assert_eq!(same["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"], "nothing changed");
    assert_eq!(owners(&same), [("one".into(), "Apply".into(), json!({"f:data": {"f:a": {}}}))]);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_names_the_owner_and_the_field_and_force_takes_it() {
    let client = server().client("test");
    apply(&client, "one", false, &config_map(json!({"a": "1", "b": "1"}))).await;
    let (code, conflict) = apply(&client, "two", false, &config_map(json!({"a": "2"}))).await;
    assert_eq!(code, 409);
    assert_eq!(conflict["message"], "Apply failed with 1 conflict: conflict with \"one\": .data.a");
    assert_eq!(
        conflict["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.a"}])
    );
    let (code, forced) = apply(&client, "two", true, &config_map(json!({"a": "2"}))).await;
    assert_eq!((code, &forced["data"]), (200, &json!({"a": "2", "b": "1"})));
    let (_, shared) = apply(&client, "three", false, &config_map(json!({"a": "2"}))).await;
    let all = owners(&shared);
    assert!(all.contains(&("one".into(), "Apply".into(), json!({"f:data": {"f:b": {}}}))), "{all:?}");
    assert!(all.contains(&("two".into(), "Apply".into(), json!({"f:data": {"f:a": {}}}))), "{all:?}");
    assert!(all.contains(&("three".into(), "Apply".into(), json!({"f:data": {"f:a": {}}}))), "{all:?}");
    // What two share stays until both have let go of it.
    let (_, kept) = apply(&client, "two", false, &config_map(json!({}))).await;
    assert_eq!(kept["data"], json!({"a": "2", "b": "1"}));
    let (_, gone) = apply(&client, "three", false, &config_map(json!({}))).await;
    assert_eq!(gone["data"], json!({"b": "1"}));
}

#[tokio::test(start_paused = true)]
async fn a_plain_patch_owns_what_it_changes() {
    let client = server().client("test");
    apply(&client, "one", false, &config_map(json!({"a": "1", "b": "1"}))).await;
    let path = format!("{CONFIG_MAPS}/c?fieldManager=hand");
    let (_, patched) = send(&client, "PATCH", &path, MERGE, json!({"data": {"a": "9", "c": "9"}})).await;
    let all = owners(&patched);
    assert!(all.contains(&("one".into(), "Apply".into(), json!({"f:data": {"f:b": {}}}))), "{all:?}");
    assert!(all.contains(&("hand".into(), "Update".into(), json!({"f:data": {"f:a": {}, "f:c": {}}}))), "{all:?}");
    let (code, conflict) = apply(&client, "one", false, &config_map(json!({"a": "1", "b": "1"}))).await;
    assert_eq!(code, 409);
    assert_eq!(conflict["message"], "Apply failed with 1 conflict: conflict with \"hand\" using v1: .data.a");
}

#[tokio::test(start_paused = true)]
async fn keyed_lists_and_sets_merge_item_by_item() {
    let server = server();
    server.add_crd(&widgets()).unwrap();
    let client = server.client("test");
    let widget = |parts: Value, tags: Value| {
        json!({
            "apiVersion": "test.miyako.dev/v1", "kind": "Widget", "metadata": {"name": "w"},
            "spec": {"size": 1, "parts": parts, "tags": tags},
        })
    };
    apply(&client, "one", false, &widget(json!([{"name": "x", "count": 2}]), json!(["m"]))).await;
    let (code, both) = apply(&client, "two", false, &widget(json!([{"name": "y"}]), json!(["n"]))).await;
    assert_eq!(code, 200, "{both}");
    assert_eq!(both["spec"]["parts"], json!([{"name": "x", "count": 2}, {"name": "y", "count": 1}]));
    assert_eq!(both["spec"]["tags"], json!(["m", "n"]));
    let two = owners(&both).into_iter().find(|(name, ..)| name == "two").unwrap();
    assert_eq!(
        two.2,
        json!({"f:spec": {
            "f:size": {},
            "f:parts": {"k:{\"name\":\"y\"}": {".": {}, "f:name": {}}},
            "f:tags": {"v:\"n\"": {}},
        }})
    );
    let (_, left) = apply(&client, "one", false, &widget(json!([]), json!(["k"]))).await;
    assert_eq!(left["spec"]["parts"], json!([{"name": "y", "count": 1}]));
    assert_eq!(left["spec"]["tags"], json!(["n", "k"]));
    let (code, twice) = apply(&client, "one", false, &widget(json!([{"name": "z"}, {"name": "z"}]), json!([]))).await;
    assert_eq!(code, 500);
    assert!(twice["message"].as_str().unwrap().contains("duplicate entries for key [name=\"z\"]"), "{twice}");
}

#[tokio::test(start_paused = true)]
async fn status_has_its_own_managers() {
    let server = server();
    server.add_crd(&widgets()).unwrap();
    let client = server.client("test");
    let mut object = super::widget("w", 1);
    apply(&client, "one", false, &object).await;
    object["status"] = json!({"phase": "Good"});
    object["spec"] = json!({});
    let path = format!("{WIDGETS}/w/status?fieldManager=two");
    let (code, done) = send(&client, "PATCH", &path, APPLY, object).await;
    assert_eq!(code, 200, "{done}");
    assert_eq!(done["status"], json!({"phase": "Good"}));
    assert_eq!(done["spec"]["size"], 1);
    let two = done["metadata"]["managedFields"].as_array().unwrap().iter().find(|entry| entry["manager"] == "two");
    let two = two.unwrap();
    assert_eq!((&two["subresource"], &two["fieldsV1"]), (&json!("status"), &json!({"f:status": {"f:phase": {}}})));
}

#[tokio::test(start_paused = true)]
async fn an_apply_must_say_who_applies() {
    let client = server().client("test");
    let path = format!("{CONFIG_MAPS}/c");
    let (code, refused) = send(&client, "PATCH", &path, APPLY, config_map(json!({}))).await;
    assert_eq!(code, 422);
    assert_eq!(
        refused["message"],
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
}
