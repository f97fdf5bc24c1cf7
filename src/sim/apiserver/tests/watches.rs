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

#[tokio::test(start_paused = true)]
async fn a_watch_can_be_cut_and_expire() {
    let server = server();
    let pods: Api<Pod> = Api::default_namespaced(server.client("test"));
    let mut dropped = pin!(pods.watch(&WatchParams::default(), "0").await.unwrap());
    server.drop_watches("test");
    assert!(dropped.next().await.is_none(), "the connection breaks");
    let mut expired = pin!(pods.watch(&WatchParams::default(), "0").await.unwrap());
    server.expire_watches("test");
    assert!(matches!(expired.next().await, Some(Ok(WatchEvent::Error(status))) if status.code == 410));
    assert!(expired.next().await.is_none());
    let version = pods.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    server.create("test", pod("a")).unwrap();
    server.forget_history();
    let mut late = pin!(pods.watch(&WatchParams::default(), &version).await.unwrap());
    assert!(matches!(late.next().await, Some(Ok(WatchEvent::Error(status))) if status.code == 410));
}

#[tokio::test(start_paused = true)]
async fn bookmarks_tell_the_newest_version_when_nothing_shown_has_changed() {
    let server = server();
    let pods: Api<Pod> = Api::default_namespaced(server.client("test"));
    let params = WatchParams { bookmarks: true, ..WatchParams::default().labels("app=nobody").timeout(100) };
    let mut events = pin!(pods.watch(&params, "0").await.unwrap());
    server.create("test", pod("a")).unwrap();
    let newest = server.view(|view| view.version()).to_string();
    let bookmark = events.next().await;
    assert!(
        matches!(&bookmark, Some(Ok(WatchEvent::Bookmark(bookmark))) if bookmark.metadata.resource_version == newest),
        "{bookmark:?}"
    );
    assert!(events.next().await.is_none(), "timeoutSeconds ends it");
}
