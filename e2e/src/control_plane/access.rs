//! Who is who on the stand: kubeconfigs, clients and service-account tokens.

use super::certificates::Identity;
use anyhow::Context as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use std::path::Path;

/// A kubeconfig for the user that a client certificate names.
#[must_use]
pub fn kubeconfig_with_certificate(url: &str, authority: &str, identity: &Identity) -> Value {
    kubeconfig(
        url,
        authority,
        &json!({
            "client-certificate-data": base64(&identity.certificate),
            "client-key-data": base64(&identity.key),
        }),
    )
}

/// A kubeconfig for the user whose token it is.
#[must_use]
pub fn kubeconfig_with_token(url: &str, authority: &str, token: &str) -> Value {
    kubeconfig(url, authority, &json!({ "token": token }))
}

/// Serializes as base64.
fn base64(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

fn kubeconfig(url: &str, authority: &str, user: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "stand",
            "cluster": { "server": url, "certificate-authority-data": base64(authority) },
        }],
        "users": [{ "name": "user", "user": user }],
        "contexts": [{ "name": "stand", "context": { "cluster": "stand", "user": "user" } }],
        "current-context": "stand",
    })
}

/// Writes a kubeconfig (as JSON, which is YAML).
///
/// # Errors
/// When it can't be written.
pub fn write_kubeconfig(kubeconfig: &Value, path: &Path) -> anyhow::Result<()> {
    std::fs::write(path, kubeconfig.to_string()).with_context(|| format!("writing {}", path.display()))
}

/// The client of a kubeconfig.
///
/// # Errors
/// When the kubeconfig makes no sense.
pub async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// What a token is asked for.
#[derive(Debug, Clone, Default)]
pub struct TokenFor<'a> {
    /// Who may accept it; none means the API server.
    pub audiences: &'a [&'a str],
    /// The pod it is bound to. The API server then also knows the pod's node
    /// (`authentication.kubernetes.io/node-name`) and refuses the token once the pod is gone.
    pub pod: Option<&'a Pod>,
}

/// A token of a ServiceAccount, as the kubelet asks for it on behalf of a pod (TokenRequest).
///
/// # Errors
/// When the API server refuses.
pub async fn token(admin: &Client, namespace: &str, account: &str, how: TokenFor<'_>) -> anyhow::Result<String> {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: how.audiences.iter().map(ToString::to_string).collect(),
            bound_object_ref: how.pod.map(|pod| BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
            expiration_seconds: None,
        },
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .with_context(|| format!("a token of the ServiceAccount {namespace}/{account}"))?;
    Ok(answer.status.context("a TokenRequest without an answer")?.token)
}
