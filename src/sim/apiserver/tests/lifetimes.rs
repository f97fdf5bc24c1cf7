//! What the server forgets by itself.

use super::{pod, server};
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::time::Duration;

fn event(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"},
        "reason": "Killing", "message": "it ends", "type": "Normal",
    })
}

#[tokio::test(start_paused = true)]
async fn events_end_an_hour_after_their_last_write() {
    let server = server();
    let events: Api<Event> = Api::default_namespaced(server.client("test"));
    let minutes = |minutes| tokio::time::sleep(Duration::from_mins(minutes));
    let names = || async {
        let all = events.list(&ListParams::default()).await.unwrap();
        all.into_iter().map(|event| event.metadata.name.unwrap()).collect::<Vec<_>>()
    };
    server.create("test", event("once")).unwrap();
    server.create("test", event("again")).unwrap();
    minutes(30).await;
    let again = Patch::Merge(json!({"count": 2}));
    events.patch("again", &PatchParams::default(), &again).await.unwrap();
    minutes(29).await;
    server.create("test", pod("a")).unwrap();
    assert_eq!(names().await, ["again", "once"], "59 minutes");
    minutes(2).await;
    server.create("test", pod("b")).unwrap();
    assert_eq!(names().await, ["again"], "61 minutes");
    minutes(30).await;
    server.create("test", pod("c")).unwrap();
    assert!(names().await.is_empty(), "91 minutes, 61 after the second write");
    assert_eq!(server.held()["events"].objects, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_stays_within_the_history_limit() {
    let server = server();
    server.create("test", pod("a")).unwrap();
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::default_namespaced(server.client("test"));
    let long = "x".repeat(100_000);
    for round in 0..40 {
        let patch = json!({"metadata": {"annotations": {"long": long, "round": round.to_string()}}});
        pods.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
    let held = server.held()["pods."];
    assert_eq!(held.objects, 1);
    assert!(held.changes < 40 && held.change_bytes <= 1 << 20, "{held:?}");
    assert!(held.object_bytes > 100_000, "{held:?}");
}
