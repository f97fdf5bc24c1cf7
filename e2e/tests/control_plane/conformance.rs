//! The API server in memory answers as the real one does.

use anyhow::ensure;
use miyako::sim::apiserver::conformance::{crds, differences, run, script};
use miyako::sim::apiserver::{ApiServer, Options};
use miyako_e2e::control_plane::objects;
use miyako_e2e::scene::Scene;
use serde_json::json;
use std::sync::Arc;

/// One script of requests gets the same answers from both servers, but for uids, versions and times.
pub(crate) async fn the_simulated_api_server_conforms(scene: Arc<Scene>) -> anyhow::Result<()> {
    let (crds, script) = (crds(), script(scene.namespace()));
    scene.wait_for_default_account().await?;
    objects::apply(&scene.admin(), &crds).await?;
    objects::wait_for_crds(&scene.admin(), &crds).await?;
    let real = run(&scene.admin(), &script).await?;

    let server = ApiServer::new(Options::default());
    for crd in &crds {
        server.add_crd(crd)?;
    }
    server.create("test", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": scene.namespace()}}))?;
    // A version from long ago is as unknown to it as to a server whose etcd was compacted.
    server.forget_history();
    let simulated = run(&server.client("conformance"), &script).await?;

    let found = differences(&real, &simulated);
    ensure!(found.is_empty(), "real against simulated:\n{}", found.join("\n"));
    Ok(())
}
