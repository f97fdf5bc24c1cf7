//! The custom resources on a real API server.

use anyhow::ensure;
use kube::Api;
use kube::api::ListParams;
use miyako_e2e::control_plane::objects::api_of;
use miyako_e2e::scene::Scene;
use serde_json::Value;
use std::sync::Arc;

/// KubeVirt's own CRDs install, and the API server serves their kinds.
pub(crate) async fn kubevirts_are_served(scene: Arc<Scene>) -> anyhow::Result<()> {
    let crds = scene.install_kubevirt_crds().await?;
    are_listed(&scene, &crds).await
}

/// Ours install, and the API server serves their kinds.
pub(crate) async fn ours_are_served(scene: Arc<Scene>) -> anyhow::Result<()> {
    let crds = scene.install_our_crds().await?;
    ensure!(crds.len() == 4, "four kinds are ours, not {}", crds.len());
    are_listed(&scene, &crds).await
}

async fn are_listed(scene: &Scene, crds: &[Value]) -> anyhow::Result<()> {
    for crd in crds {
        let spec = &crd["spec"];
        for version in spec["versions"].as_array().into_iter().flatten().filter(|version| version["served"] == true) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let kind = kube::core::GroupVersionKind {
                group: text(&spec["group"]),
                version: text(&version["name"]),
                kind: text(&spec["names"]["kind"]),
            };
            let api: Api<_> = api_of(&scene.admin(), &kind, None).await?;
            api.list(&ListParams::default()).await?;
        }
    }
    Ok(())
}
