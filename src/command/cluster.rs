//! Which cluster a command speaks to, and as whom.

use clap::Args;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, PostParams};
use kube::config::{InferConfigError, KubeConfigOptions, KubeconfigError};
use kube::{Client, Config};

/// Flags of every command that speaks to a cluster.
#[derive(Debug, Clone, Default, Args)]
pub struct ClusterArgs {
    /// The kubeconfig's context to use instead of the current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace that Miyako is installed in.
    #[arg(short, long, env = "MIYAKO_NAMESPACE", default_value = "miyako-system")]
    pub namespace: String,
}

/// Why a cluster can't be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No configuration.
    #[error("cannot tell how to reach the API server: set KUBECONFIG, or run in a pod with a ServiceAccount")]
    Config(#[source] InferConfigError),
    /// The context.
    #[error("cannot use --context {context}")]
    Context {
        /// Its name.
        context: String,
        /// What is wrong with it.
        #[source]
        source: KubeconfigError,
    },
    /// The client could not be built.
    #[error("cannot build a client for the API server")]
    Client(#[source] kube::Error),
    /// The API server does not say who asks.
    #[error("the API server does not tell which user you are")]
    Nobody(#[source] kube::Error),
}

impl ClusterArgs {
    /// A client with the caller's own rights.
    ///
    /// # Errors
    /// When there is no usable configuration.
    pub async fn client(&self) -> Result<Client, ClusterError> {
        let config = match &self.context {
            None => Config::infer().await.map_err(ClusterError::Config)?,
            Some(context) => {
                let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
                Config::from_kubeconfig(&options)
                    .await
                    .map_err(|source| ClusterError::Context { context: context.clone(), source })?
            }
        };
        Client::try_from(config).map_err(ClusterError::Client)
    }
}

/// The caller's user name, as admission sees it.
///
/// # Errors
/// When the API server can't be asked or does not say.
pub async fn caller(client: &Client) -> Result<String, ClusterError> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review =
        reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.map_err(ClusterError::Nobody)?;
    Ok(review.status.and_then(|status| status.user_info).and_then(|user| user.username).unwrap_or_default())
}
