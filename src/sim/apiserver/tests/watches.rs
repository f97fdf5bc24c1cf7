//! Lists and watches, and what kube's own watcher makes of them.

use super::{pod, server};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    runtime::watcher,
};
use std::{pin::pin, time::Duration};

#[tokio::test(start_paused = true)]
async fn kubes_watcher_lists_then_follows() {
    let server = server();
    let pods: Api<Pod> = Api::default_namespaced(server.client("test"));
    server.create("test", pod("a")).unwrap();
    for config in [watcher::Config::default().page_size(1), watcher::Config::default().streaming_lists()] {
        server.create("test", pod("b")).unwrap();
        let mut events = pin!(watcher(pods.clone(), config));
        let mut seen = vec![];
        while let Some(event) = events.try_next().await.unwrap() {
            match event {
                watcher::Event::Init => {}
                watcher::Event::InitApply(pod) => seen.push(format!("has {}", pod.metadata.name.unwrap())),
                watcher::Event::InitDone => {
                    let patch = serde_json::json!({"metadata": {"labels": {"x": "y"}}});
                    pods.patch("b", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
                    pods.delete("b", &DeleteParams::default()).await.unwrap();
                }
                watcher::Event::Apply(pod) => seen.push(format!("changed {}", pod.metadata.name.unwrap())),
                watcher::Event::Delete(pod) => {
                    seen.push(format!("gone {}", pod.metadata.name.unwrap()));
                    break;
                }
            }
        }
        assert_eq!(seen, ["has a", "has b", "changed b", "gone b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn selectors_see_objects_come_and_go() {
    let server = server();
    let pods: Api<Pod> = Api::default_namespaced(server.client("test"));
    let from = pods.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    pods.create(&PostParams::default(), &serde_json::from_value(pod("a")).unwrap()).await.unwrap();
    for value in ["on", "off", "on"] {
        let patch = serde_json::json!({"metadata": {"labels": {"light": value}}});
        pods.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    let params = WatchParams::default().labels("light=on").timeout(5);
    let events: Vec<_> = pods.watch(&params, &from).await.unwrap().try_collect().await.unwrap();
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["added", "deleted", "added", "deleted"]);
}

#[tokio::test(start_paused = true)]
async fn a_lagging_watch_shows_the_past() {
    let server = server();
    let pods: Api<Pod> = Api::default_namespaced(server.client("slow"));
    server.lag_watches("slow", Duration::from_secs(7));
    let mut events = pin!(pods.watch(&WatchParams::default(), "1").await.unwrap());
    let start = tokio::time::Instant::now();
    server.create("test", pod("a")).unwrap();
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Added(_)))));
    assert_eq!(start.elapsed(), Duration::from_secs(7));
}
