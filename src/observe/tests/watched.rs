//! The whole observer against the API server in memory, under paused time.

use super::{cluster, object};
use crate::{
    clock::SimClock,
    observe::{Kind, Observer, Settings, TOO_LONG},
    sim::apiserver::{ApiError, ApiServer, Fault, Options, RequestInfo, Verb},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use miyako_api::kubevirt::{VirtualMachineInstance, VirtualMachineInstanceMigration};
use miyako_core::model::{KubeVirtProblem, MigrationName, NodeName, Snapshot, Timestamp, VmKey};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

const US: &str = "miyako";

/// A server that serves our resources, without any object of the small cluster.
fn server(options: Options) -> ApiServer {
    let server = ApiServer::new(options);
    for crd in miyako_api::crds() {
        server.add_crd(&serde_json::to_value(crd).unwrap()).unwrap();
    }
    server
}

/// Puts the small cluster in place. The server gives uids of its own, so whoever refers to one is told.
fn fill(server: &ApiServer) {
    let mut uids: Vec<(String, String)> = Vec::new();
    for object in cluster() {
        let mut text = object.to_string();
        for (written, given) in &uids {
            text = text.replace(&format!("\"{written}\""), &format!("\"{given}\""));
        }
        let mut told: Value = serde_json::from_str(&text).unwrap();
        told["metadata"].as_object_mut().unwrap().shift_remove("resourceVersion");
        let created = server.create("people", told).unwrap();
        let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
        uids.push((uid(&object), uid(&created)));
    }
}

fn observer(server: &ApiServer, seed: u64) -> Observer {
    let clock = Arc::new(SimClock::starting_at(Timestamp::from_secs(1_767_571_200)));
    Observer::start(server.client(US), clock, &Settings { namespace: "miyako".into(), seed })
}

async fn synced(server: &ApiServer) -> Observer {
    let mut observer = observer(server, 1);
    tokio::time::timeout(Duration::from_secs(60), observer.wait_until_synced()).await.unwrap();
    observer
}

/// The Snapshot after so much time, in ticks of a second.
async fn after(observer: &mut Observer, seconds: u64) -> &Snapshot {
    for _ in 0..seconds {
        sleep(Duration::from_secs(1)).await;
        observer.drain();
    }
    observer.snapshot().0
}

fn db() -> VmKey {
    VmKey::new("shop", "db")
}

async fn relabel(server: &ApiServer, tier: &str) {
    let vmis: Api<VirtualMachineInstance> = Api::namespaced(server.client("people"), "shop");
    let patch = Patch::Merge(json!({"metadata": {"labels": {"tier": tier}}}));
    vmis.patch("db", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_lists_then_follows() {
    let server = server(Options::default());
    fill(&server);
    let mut observer = observer(&server, 1);
    assert!(observer.snapshot().0.incomplete.is_some());
    observer.wait_until_synced().await;
    let (snapshot, policies) = observer.snapshot();
    assert_eq!(snapshot.incomplete, None);
    assert_eq!((snapshot.nodes.len(), snapshot.vms.len(), policies.policies.len()), (2, 1, 1));
    assert_eq!(snapshot.vms[&db()].unsupported, None);
    assert_eq!(observer.problems().collect::<Vec<_>>(), []);
    relabel(&server, "cache").await;
    assert_eq!(after(&mut observer, 1).await.vms[&db()].labels["tier"], "cache");
    let vmis: Api<VirtualMachineInstance> = Api::namespaced(server.client("people"), "shop");
    vmis.delete("db", &DeleteParams::default()).await.unwrap();
    assert!(after(&mut observer, 1).await.vms.is_empty());
}

#[tokio::test(start_paused = true)]
async fn finished_pods_leave_the_picture() {
    let server = server(Options::default());
    fill(&server);
    let mut observer = synced(&server).await;
    let before = observer.snapshot().0.pods.len();
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(server.client("kubelet"), "shop");
    let patch = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    pods.patch_status("virt-launcher-db-2", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(after(&mut observer, 1).await.pods.len(), before - 1);
}

#[tokio::test(start_paused = true)]
async fn broken_and_expired_watches_lose_nothing() {
    let server = server(Options::default());
    fill(&server);
    let mut observer = synced(&server).await;
    for (round, tier) in ["one", "two", "three", "four"].into_iter().enumerate() {
        match round {
            0 => server.drop_watches(US),
            1 => server.expire_watches(US),
            2 => {
                server.drop_watches(US);
                server.forget_history();
            }
            _ => {}
        }
        relabel(&server, tier).await;
        let snapshot = after(&mut observer, 5).await;
        assert_eq!(snapshot.vms[&db()].labels["tier"], tier);
        assert_eq!(snapshot.incomplete, None);
    }
    // What vanished while nobody watched vanishes with the next list.
    server.set_faults(Some(Box::new(|request: &RequestInfo| {
        (&*request.actor == US).then(|| Fault::Refuse(ApiError::unavailable()))
    })));
    server.expire_watches(US);
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(server.client("people"));
    nodes.delete("node-b", &DeleteParams::default()).await.unwrap();
    assert_eq!(after(&mut observer, 10).await.nodes.len(), 2);
    server.set_faults(None);
    assert_eq!(after(&mut observer, 40).await.nodes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_makes_the_picture_incomplete_until_it_ends() {
    let server = server(Options::default());
    fill(&server);
    let mut observer = synced(&server).await;
    server.set_faults(Some(Box::new(|request: &RequestInfo| {
        (&*request.actor == US && request.resource == "pods").then(|| Fault::Refuse(ApiError::unavailable()))
    })));
    server.drop_watches(US);
    assert_eq!(after(&mut observer, TOO_LONG.as_secs()).await.incomplete, None);
    let why = after(&mut observer, 30).await.incomplete.clone().unwrap();
    assert!(why.starts_with("Pod: ") && !why.contains("Node"), "{why}");
    server.set_faults(None);
    assert_eq!(after(&mut observer, 40).await.incomplete, None);
}

/// A connection that a firewall forgot: nothing comes, and nothing says so.
#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_begun_anew_and_not_believed_for_long() {
    let server = server(Options::default());
    fill(&server);
    let mut observer = synced(&server).await;
    assert_eq!(after(&mut observer, 600).await.incomplete, None, "a quiet cluster is no silent one");
    server.lag_watches(US, Duration::from_secs(3600));
    server.set_faults(Some(Box::new(|request: &RequestInfo| {
        let mute = &*request.actor == US && request.verb == Verb::Watch && request.resource == "nodes";
        mute.then(|| Fault::Delay(Duration::from_secs(3600)))
    })));
    let why = after(&mut observer, 125).await.incomplete.clone().expect("it is silent");
    assert!(why.starts_with("Node: ") && !why.contains("Pod"), "only that kind can't be begun anew: {why}");
    server.set_faults(None);
    server.lag_watches(US, Duration::ZERO);
    assert_eq!(after(&mut observer, 60).await.incomplete, None);
}

#[tokio::test(start_paused = true)]
async fn own_writes_are_seen_through_a_watch_that_lags() {
    let server = server(Options::default());
    fill(&server);
    let mut observer = synced(&server).await;
    server.lag_watches(US, Duration::from_secs(5));
    let migrations: Api<VirtualMachineInstanceMigration> = Api::namespaced(server.client(US), "shop");
    let mut wanted: VirtualMachineInstanceMigration =
        serde_json::from_value(object("VirtualMachineInstanceMigration", "miyako-def")).unwrap();
    wanted.metadata = kube::api::ObjectMeta {
        name: Some("miyako-new".into()),
        labels: wanted.metadata.labels,
        ..kube::api::ObjectMeta::default()
    };
    let created = migrations.create(&PostParams::default(), &wanted).await.unwrap();
    observer.expect_written(&created);
    let name = MigrationName::new("shop", "miyako-new");
    let has = |snapshot: &Snapshot| snapshot.migrations.contains_key(&name);
    assert!(has(observer.snapshot().0));
    assert!(has(after(&mut observer, 2).await));
    assert_eq!(observer.expected(), 1);
    assert!(has(after(&mut observer, 5).await));
    assert_eq!(observer.expected(), 0);
    migrations.delete(&created.name_any(), &DeleteParams::default()).await.unwrap();
    observer.expect_deleted(&created);
    assert!(!has(observer.snapshot().0));
    assert!(!has(after(&mut observer, 10).await));
    assert_eq!(observer.expected(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_own_write_that_never_shows_up_is_read_directly() {
    let server = server(Options::default());
    fill(&server);
    let mut observer = synced(&server).await;
    server.lag_watches(US, Duration::from_secs(600));
    // It was created and, unseen by us, deleted by somebody else.
    let mut phantom: VirtualMachineInstanceMigration =
        serde_json::from_value(object("VirtualMachineInstanceMigration", "miyako-def")).unwrap();
    phantom.metadata.name = Some("miyako-phantom".into());
    phantom.metadata.resource_version = Some("900000".into());
    observer.expect_written(&phantom);
    let name = MigrationName::new("shop", "miyako-phantom");
    assert!(after(&mut observer, 5).await.migrations.contains_key(&name));
    assert!(!after(&mut observer, 10).await.migrations.contains_key(&name));
    assert_eq!(observer.expected(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_kubevirt_it_says_so_and_finds_it_when_it_comes() {
    let server = server(Options { kubevirt: false, ..Options::default() });
    let mut observer = synced(&server).await;
    let (snapshot, _) = observer.snapshot();
    assert_eq!(snapshot.incomplete, None);
    assert_eq!(snapshot.kubevirt.problem, Some(KubeVirtProblem::Missing));
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "kubevirts.kubevirt.io"},
        "spec": {"group": "kubevirt.io", "scope": "Namespaced", "names": {"plural": "kubevirts", "singular": "kubevirt", "kind": "KubeVirt"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    });
    server.add_crd(&crd).unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kubevirt"}});
    server.create("people", namespace).unwrap();
    let mut kubevirt = object("KubeVirt", "kubevirt");
    kubevirt["metadata"] = json!({"name": "kubevirt", "namespace": "kubevirt"});
    server.create("people", kubevirt).unwrap();
    assert_eq!(after(&mut observer, 60).await.kubevirt.problem, None);
}

#[tokio::test(start_paused = true)]
async fn nothing_happening_costs_next_to_nothing() {
    let server = server(Options::default());
    fill(&server);
    let mut observer = synced(&server).await;
    server.reset_request_counts();
    after(&mut observer, 3600).await;
    let mine = server.request_counts().into_iter().filter(|(kind, _)| &*kind.actor == US);
    let (watches, others): (Vec<_>, Vec<_>) = mine.partition(|(kind, _)| kind.verb == Verb::Watch);
    // A watch is begun anew every 290 s.
    let begun: u64 = watches.iter().map(|(_, count)| count).sum();
    assert!(begun <= Kind::ALL.len() as u64 * 13, "{begun} watches in an hour");
    let repairers = ["nodehealthchecks", "machinehealthchecks", "machines", "baremetalhosts", "machineconfigpools"];
    let ends_with_any =
        |resource: &str| repairers.iter().any(|name| resource.ends_with(name) && !resource.contains("virtual"));
    let (unknown, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|(kind, _)| ends_with_any(&kind.resource));
    assert_eq!(others, [], "no lists and no reads");
    let most = 13 * Kind::ALL.iter().filter(|kind| kind.is_seldom_installed()).count() as u64;
    assert!(unknown.iter().map(|(_, count)| count).sum::<u64>() <= most, "asked for every five minutes: {unknown:?}");
    assert_eq!(observer.snapshot().0.incomplete, None);
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_run() {
    async fn run(seed: u64) -> (String, String) {
        let server = server(Options { journal: true, ..Options::default() });
        fill(&server);
        let mut observer = observer(&server, seed);
        let mut failing = 0;
        server.set_faults(Some(Box::new(move |request: &RequestInfo| {
            failing += 1;
            (&*request.actor == US && failing % 3 == 0).then(|| Fault::Refuse(ApiError::unavailable()))
        })));
        after(&mut observer, 30).await;
        server.expire_watches(US);
        let picture = format!("{:?}", after(&mut observer, 90).await);
        (picture, format!("{:?}", server.journal()))
    }
    let (first, again, other) = (run(1).await, run(1).await, run(2).await);
    assert!(first.1 == again.1, "the same requests in the same order");
    assert_eq!(first.0, again.0);
    assert_eq!(first.0, other.0, "another seed waits otherwise, and sees the same");
    assert_ne!(first.1, other.1);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_is_dropped_asks_nothing_more() {
    let server = server(Options::default());
    fill(&server);
    drop(synced(&server).await);
    sleep(Duration::from_secs(1)).await;
    server.reset_request_counts();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(server.request_counts().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn odd_objects_do_not_hide_the_others() {
    let server = server(Options::default());
    fill(&server);
    let odd = |name: &str, spec: Value| json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    server.create("people", odd("odd-1", json!({"domain": "none"}))).unwrap();
    server.create("people", odd("odd-2", json!({"nodeSelector": [1, 2]}))).unwrap();
    let mut observer = synced(&server).await;
    let (snapshot, _) = observer.snapshot();
    assert_eq!(snapshot.vms.len(), 1);
    assert!(snapshot.nodes.contains_key(&NodeName::new("node-a")));
    assert_eq!(observer.problems().filter(|(kind, ..)| *kind == Kind::VirtualMachineInstance).count(), 2);
}
