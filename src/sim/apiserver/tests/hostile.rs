//! Whatever a client sends, the server answers and goes on.

use super::{APPLY, JSON, MERGE, pod, send, server, widget, widgets};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Values that belong nowhere.
fn oddity(rng: &mut ChaCha8Rng) -> Value {
    match rng.random_range(0..9) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(1e300),
        4 => json!(""),
        5 => json!("\u{0}é\u{1F600} , ( $x(y)"),
        6 => json!([]),
        7 => json!([[{"name": null}], "x", {"type": 1}]),
        _ => json!({"": {"$patch": "delete"}, "name": [], "$setElementOrder/containers": 3}),
    }
}

/// Puts an oddity somewhere into a value.
fn spoil(rng: &mut ChaCha8Rng, value: &mut Value) {
    let deeper = rng.random_range(0..4) != 0;
    match value {
        Value::Object(fields) if deeper && !fields.is_empty() => {
            let at = rng.random_range(0..fields.len());
            if let Some(inner) = fields.values_mut().nth(at) {
                spoil(rng, inner);
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = rng.random_range(0..items.len());
            spoil(rng, &mut items[at]);
        }
        other => *other = oddity(rng),
    }
}

#[tokio::test(start_paused = true)]
async fn spoiled_requests_are_answered() {
    let server = server();
    server.add_crd(&widgets()).unwrap();
    let client = server.client("test");
    let mut full = widget("w", 3);
    full["metadata"]["labels"] = json!({"a": "b"});
    full["metadata"]["finalizers"] = json!(["test.miyako.dev/hold"]);
    full["metadata"]["managedFields"] = json!([{
        "manager": "m", "operation": "Update", "apiVersion": "test.miyako.dev/v1", "fieldsV1": {"f:spec": {"f:size": {}}},
    }]);
    full["spec"]["parts"] = json!([{"name": "p", "count": 1}]);
    let mut running = pod("p");
    running["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]);
    running["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": {"a": "b"}}});
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "regarding": {"kind": "Pod"}, "deprecatedSource": {"component": "x"},
    });
    let seeds = [
        ("/apis/test.miyako.dev/v1/widgets", "w", full),
        ("/api/v1/namespaces/default/pods", "p", running),
        ("/api/v1/namespaces", "n", namespace),
        ("/apis/events.k8s.io/v1/namespaces/default/events", "e", event),
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut refused = 0;
    for round in 0..1500 {
        let (base, name, object) = &seeds[round % seeds.len()];
        let mut body = object.clone();
        for _ in 0..rng.random_range(0..3) {
            spoil(&mut rng, &mut body);
        }
        let strategic = "application/strategic-merge-patch+json";
        let json_patch = json!([{"op": "add", "path": "/metadata/labels", "value": oddity(&mut rng)}]);
        let one = format!("{base}/{name}");
        let (method, path, kind, body) = match rng.random_range(0..8) {
            0 | 1 => ("POST", (*base).to_owned(), JSON, body),
            2 => ("PUT", one, JSON, body),
            3 => ("PATCH", one, MERGE, body),
            4 => ("PATCH", one, strategic, body),
            5 => ("PATCH", format!("{one}?fieldManager=f&force=true"), APPLY, body),
            6 => ("PATCH", one, "application/json-patch+json", json_patch),
            _ => ("DELETE", one, JSON, if round % 3 == 0 { oddity(&mut rng) } else { Value::Null }),
        };
        let (code, answer) = send(&client, method, &path, kind, body).await;
        assert!(answer.is_object() && (200..600).contains(&code), "{method} {path}: {code} {answer}");
        refused += usize::from(code >= 400);
    }
    assert!((300..1400).contains(&refused), "{refused} of 1500 were refused");
}

#[tokio::test(start_paused = true)]
async fn odd_paths_and_queries_are_answered() {
    let client = server().client("test");
    for path in [
        "/",
        "/api",
        "/api/v1/",
        "/apis//",
        "/api/v1/namespaces/default/pods/a/b/c",
        "/api/v1/pods/a",
        "/%zz/%",
        "/version",
        "/api/v1/pods?labelSelector=%28%29%2C",
        "/api/v1/pods?labelSelector=a+in+(",
        "/api/v1/pods?fieldSelector==",
        "/api/v1/pods?limit=-1",
        "/api/v1/pods?continue=v9-9",
        "/api/v1/pods?resourceVersion=99999999999999999999",
        "/api/v1/pods?watch=1&timeoutSeconds=0&resourceVersion=x",
        "/api/v1/nodes?labelSelector=%F0%9F%98%80",
    ] {
        let (code, answer) = send(&client, "GET", path, JSON, Value::Null).await;
        let unrouted = code == 404 && answer == "404 page not found";
        assert!((answer.is_object() || unrouted) && (200..600).contains(&code), "{path}: {code} {answer}");
    }
}
