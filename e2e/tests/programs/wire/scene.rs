//! What the wire's tests have in common: an API server that reviews tokens, nodes that exist, and figures.

use http::{Request, Response};
use kube::client::Body;
use miyako::observe::load::{Inventory, SharedLoadStore, VmPlace, agents::AgentAccount};
use miyako_core::model::{Cores, NodeName, Timestamp, Uid, VmKey};
use serde_json::json;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The account that agents run as.
pub(crate) fn account() -> AgentAccount {
    AgentAccount { namespace: "miyako".to_owned(), name: "miyako-agent".to_owned() }
}

/// An API server that knows tokens `agent-on:NODE`, `nobody-on:NODE` (another account's), `elsewhere-on:NODE`
/// (another audience's) and `agent` (bound to no pod), and counts what it is asked.
pub(crate) fn token_reviews(asked: Arc<AtomicUsize>) -> kube::Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        asked.fetch_add(1, Ordering::SeqCst);
        async move {
            let body = request.into_body().collect_bytes().await.unwrap_or_default();
            let review: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let token = review["spec"]["token"].as_str().unwrap_or_default();
            let answer = json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {},
                "status": status(token),
            });
            Ok::<_, Infallible>(Response::new(Body::from(answer.to_string().into_bytes())))
        }
    });
    kube::Client::new(service, "default")
}

fn status(token: &str) -> serde_json::Value {
    let (who, node) = token.split_once(':').unwrap_or((token, ""));
    let (account, audience) = match who {
        "agent-on" | "agent" => ("miyako-agent", "miyako.dev"),
        "nobody-on" => ("default", "miyako.dev"),
        "elsewhere-on" => ("miyako-agent", "https://kubernetes.default.svc"),
        _ => return json!({"authenticated": false, "error": "[invalid bearer token]"}),
    };
    let extra = if node.is_empty() { json!({}) } else { json!({"authentication.kubernetes.io/node-name": [node]}) };
    json!({
        "authenticated": true,
        "audiences": [audience],
        "user": {"username": format!("system:serviceaccount:miyako:{account}"), "uid": "1", "extra": extra},
    })
}

/// A store that knows nodes `node-1` and `node-2` of 16 cores each, and a VM `default/web` on `node-1`.
pub(crate) fn store(now: Timestamp) -> SharedLoadStore {
    let store = SharedLoadStore::default();
    let sixteen = Cores::new(16.0).unwrap_or_default();
    let inventory = Inventory {
        nodes: ["node-1", "node-2"].map(|name| (NodeName::new(name), sixteen)).into(),
        vms: [(VmKey::new("default", "web"), VmPlace { uid: Uid::new("uid-1"), node: Some(NodeName::new("node-1")) })]
            .into(),
        ..Inventory::default()
    };
    store.lock().set_inventory(inventory, now);
    store
}

/// The CPU of a node's newest sample.
pub(crate) fn cpu_of(store: &SharedLoadStore, node: &str) -> Option<f64> {
    store.lock().node_figures(&NodeName::new(node)).map(|(_, figures)| figures.cpu.value())
}

/// How often something was refused for `reason`.
pub(crate) fn refused(store: &SharedLoadStore, reason: &str) -> u64 {
    store.lock().refused().get(reason).copied().unwrap_or(0)
}
