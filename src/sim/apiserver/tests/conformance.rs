//! The conformance script against this server alone: it runs through, the same way each time.

use super::server;
use crate::sim::apiserver::conformance::{Answer, crds, differences, run, script};
use serde_json::json;

async fn answers() -> Vec<Answer> {
    let server = server();
    for crd in crds() {
        server.add_crd(&crd).unwrap();
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "conformance"}});
    server.create("test", namespace).unwrap();
    server.forget_history();
    run(&server.client("conformance"), &script("conformance")).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_script_runs_and_repeats() {
    let (once, twice) = (answers().await, answers().await);
    assert_eq!(differences(&once, &twice), Vec::<String>::new());
    let code = |name: &str| once.iter().find(|answer| answer.step == name).unwrap().code;
    assert_eq!(code("create"), 201);
    assert_eq!(code("create what exists"), 409);
    assert_eq!(code("apply by force"), 200);
    assert_eq!(code("watch everything since"), 200);
}
