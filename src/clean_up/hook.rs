//! Whether a Job of the chart's hooks runs because of an uninstall.
//!
//! `helm template` renders hooks like everything else, and whoever applies its output runs them at once: then all nodes
//! would be woken and held, and the operator's marks taken away, by an installation. Helm and those who use it leave
//! traces on what they install, and none of them applies a hook before its time.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, ResourceExt as _};
use miyako_api::answer::is_absent;
use miyako_api::names::ours;

/// Helm writes it on all that it installs, and so do Flux and whoever else works through Helm.
const HELM: &str = "meta.helm.sh/release-name";
/// Argo CD, which knows Helm's hooks, writes annotations that begin so.
const ARGO_CD: &str = "argocd.argoproj.io/";
/// The cure, for both hooks.
const CURE: &str = "it was applied without Helm, as an ordinary object; delete the Job and render the chart without its hooks (charts/manifest, or helm template --no-hooks)";

/// Why a hook does nothing.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// Nobody who knows hooks installed Miyako.
    #[error("this Job is a hook of `helm uninstall`, and Helm did not install Miyako in namespace {namespace}: {CURE}")]
    NotInstalledByHelm {
        /// Miyako's namespace.
        namespace: String,
    },
    /// What is to be cleaned up after is still there.
    #[error("this Job is a hook of `helm uninstall`, and Miyako is still installed in namespace {namespace}: {CURE}")]
    StillInstalled {
        /// Miyako's namespace.
        namespace: String,
    },
    /// It could not be found out.
    #[error("cannot find out whether Miyako is being uninstalled from namespace {namespace}")]
    Read {
        /// Miyako's namespace.
        namespace: String,
        /// The API server's answer.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Before an uninstall: whoever installed Miyako knows hooks.
///
/// # Errors
/// See [`HookError`].
pub async fn before(client: &Client, namespace: &str) -> Result<(), HookError> {
    let knows_hooks = |map: &ConfigMap| map.annotations().keys().any(|key| key == HELM || key.starts_with(ARGO_CD));
    match installed(client, namespace).await? {
        Some(map) if !knows_hooks(&map) => Err(HookError::NotInstalledByHelm { namespace: namespace.to_owned() }),
        _ => Ok(()),
    }
}

/// After an uninstall: Miyako is gone, or was put there by somebody who knows hooks.
///
/// # Errors
/// See [`HookError`].
pub async fn after(client: &Client, namespace: &str) -> Result<(), HookError> {
    match before(client, namespace).await {
        Err(HookError::NotInstalledByHelm { namespace }) => Err(HookError::StillInstalled { namespace }),
        other => other,
    }
}

/// What every installation has.
async fn installed(client: &Client, namespace: &str) -> Result<Option<ConfigMap>, HookError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    match maps.get(ours::SWITCHES).await {
        Ok(map) => Ok(Some(map)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(source) => Err(HookError::Read { namespace: namespace.to_owned(), source: Box::new(source) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::apiserver::{ApiServer, Options};
    use serde_json::{Value, json};

    fn installed_with(annotations: Value) -> ApiServer {
        let server = ApiServer::new(Options::default());
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": ours::SWITCHES, "namespace": "default", "annotations": annotations},
        });
        server.create("setup", map).unwrap();
        server
    }

    #[tokio::test(start_paused = true)]
    async fn a_hook_that_was_applied_as_an_ordinary_object_does_nothing() {
        let server = installed_with(json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"}));
        let client = server.client("hook");
        let error = before(&client, "default").await.unwrap_err();
        assert!(matches!(error, HookError::NotInstalledByHelm { .. }), "{error}");
        assert!(error.to_string().contains("--no-hooks"), "{error}");
        assert!(matches!(after(&client, "default").await, Err(HookError::StillInstalled { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hook_of_helm_or_argo_cd_works_and_so_does_one_after_everything_is_gone() {
        for annotation in ["meta.helm.sh/release-name", "argocd.argoproj.io/tracking-id"] {
            let client = installed_with(json!({annotation: "miyako"})).client("hook");
            assert!(before(&client, "default").await.is_ok() && after(&client, "default").await.is_ok());
        }
        let client = ApiServer::new(Options::default()).client("hook");
        assert!(before(&client, "default").await.is_ok() && after(&client, "default").await.is_ok());
    }
}
