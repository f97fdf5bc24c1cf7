//! The server's semantics, seen through `kube::Client`.

mod watches;

use super::{ApiServer, Options};
use serde_json::{Value, json};

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
