//! Injected faults.

use super::{CONFIG_MAPS, MERGE, send, server};
use crate::sim::apiserver::{ApiError, Fault, FaultRates, RandomFaults, RequestInfo, RequestKind, Verb};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Error,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use std::time::Duration;

fn named(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_leaves_the_write_behind() {
    let server = server();
    server.set_faults(Some(Box::new(|request: &RequestInfo| match (request.verb, request.number) {
        (Verb::Create, 1) => Some(Fault::LoseAnswer),
        (Verb::Create, 2) => Some(Fault::Refuse(ApiError::unavailable())),
        _ => None,
    })));
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("test"));
    assert!(matches!(api.create(&PostParams::default(), &named("a")).await, Err(Error::Service(_))));
    assert!(
        matches!(api.create(&PostParams::default(), &named("b")).await, Err(Error::Api(status)) if status.code == 503)
    );
    let all = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(all.items.len(), 1);
    let kind = RequestKind { actor: "test".into(), verb: Verb::Create, resource: "configmaps".into() };
    assert_eq!(server.request_counts()[&kind], 2);
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_the_second_write_stops_that_process_and_not_its_successor() {
    let server = server();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("operator"));
    let mut crash = server.crash_after_writes("operator", 2);
    api.create(&PostParams::default(), &named("a")).await.unwrap();
    // A write that changes nothing does not count.
    api.patch("a", &PatchParams::default(), &Patch::Merge(json!({}))).await.unwrap();
    let doomed = tokio::spawn({
        let api = api.clone();
        async move { api.create(&PostParams::default(), &named("b")).await }
    });
    crash.wait_for(|crashed| *crashed).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(3600), doomed).await.is_err(), "its answer never comes");
    assert!(tokio::time::timeout(Duration::from_secs(3600), api.get("a")).await.is_err(), "nor any other");
    let successor: Api<ConfigMap> = Api::default_namespaced(server.client("operator"));
    assert_eq!(successor.list(&ListParams::default()).await.unwrap().items.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn random_faults_follow_the_seed() {
    let run = |seed| async move {
        let server = server();
        let rates = FaultRates { server_errors: 0.2, too_many_requests: 0.1, conflicts: 0.1, ..FaultRates::default() };
        server.set_faults(Some(Box::new(RandomFaults::new(seed, rates).only_for("test"))));
        let client = server.client("test");
        let mut codes = vec![];
        for number in 0..50 {
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"n": number.to_string()}});
            let path = format!("{CONFIG_MAPS}/c");
            codes.push(send(&client, "PATCH", &path, MERGE, body).await.0);
        }
        (codes, server.journal())
    };
    let (one, again, other) = (run(1).await, run(1).await, run(2).await);
    assert_eq!(one, again);
    assert_ne!(one.0, other.0);
    assert!(one.0.contains(&429) && one.0.contains(&409) && one.0.contains(&404), "{:?}", one.0);
}
