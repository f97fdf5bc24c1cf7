//! The server's semantics, seen through `kube::Client`.

mod apply;
mod conformance;
mod faults;
mod hostile;
mod lifetimes;
mod watches;
mod writes;

use super::{ApiServer, Options};
use http::Request;
use kube::Client;
use serde_json::{Value, json};

/// Sends one request; gives the status code and the body.
async fn send(client: &Client, method: &str, path: &str, content_type: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { vec![] } else { serde_json::to_vec(&body).unwrap() };
    let request = Request::builder().method(method).uri(path).header("content-type", content_type);
    let response = client.send(request.body(body.into()).unwrap()).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    // Where nothing is routed the refusal is plain text.
    let text = || Value::String(String::from_utf8_lossy(&bytes).trim().to_owned());
    (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A CRD with defaults, pruning, rules and a keyed list.
fn widgets() -> Value {
    json!({
        "metadata": {"name": "widgets.test.miyako.dev"},
        "spec": {
            "group": "test.miyako.dev", "scope": "Cluster",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {
                            "type": "object",
                            "required": ["size"],
                            "x-kubernetes-validations": [
                                {"rule": "self.size != 13", "message": "13 brings bad luck: write 12 or 14"},
                            ],
                            "properties": {
                                "size": {"type": "integer", "minimum": 1, "maximum": 100},
                                "colour": {"type": "string", "default": "red", "enum": ["red", "blue"]},
                                "parts": {
                                    "type": "array",
                                    "x-kubernetes-list-type": "map",
                                    "x-kubernetes-list-map-keys": ["name"],
                                    "items": {
                                        "type": "object",
                                        "required": ["name"],
                                        "properties": {
                                            "name": {"type": "string"},
                                            "count": {"type": "integer", "default": 1},
                                        },
                                    },
                                },
                                "tags": {
                                    "type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"},
                                },
                            },
                        },
                        "status": {
                            "type": "object",
                            "properties": {"phase": {"type": "string"}},
                        },
                    },
                }},
            }],
        },
    })
}

/// A widget of a size.
fn widget(name: &str, size: i64) -> Value {
    json!({
        "apiVersion": "test.miyako.dev/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": size},
    })
}

const WIDGETS: &str = "/apis/test.miyako.dev/v1/widgets";

/// A server whose times and uids are the same in every run.
fn server() -> ApiServer {
    ApiServer::new(Options { journal: true, ..Options::default() })
}

/// A small pod.
fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "registry.invalid/main:1"}]},
    })
}
