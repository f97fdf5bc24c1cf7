//! Which cluster a command speaks to, and as whom.

use clap::Args;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, ListParams, PostParams};
use kube::config::{InferConfigError, KubeConfigOptions, KubeconfigError};
use kube::{Client, Config};
use miyako_api::{ConsolidationPolicy, answer, names};
use std::error::Error;
use std::time::Duration;

/// How long a connection may take. Who asks for it sits at a terminal.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long the first answer may take: a credential plugin may have to log in first.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

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
    #[error(
        "cannot tell how to reach the API server: {}; set KUBECONFIG, or run in a pod with a ServiceAccount",
        of_kubeconfig(.0)
    )]
    Config(Box<InferConfigError>),
    /// The context.
    #[error("cannot use --context {context}: {}; see `kubectl config get-contexts`", crate::error_chain(.problem))]
    Context {
        /// Its name.
        context: String,
        /// What is wrong with it.
        problem: Box<KubeconfigError>,
    },
    /// The client could not be built.
    #[error("cannot build a client for the API server")]
    Client(#[source] kube::Error),
    /// Nobody answers, or not as an API server.
    #[error(
        "cannot reach the API server at {url}: {why}; is it up, and is it the cluster that you mean (KUBECONFIG, --context)?"
    )]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What went wrong, in a few words.
        why: String,
    },
    /// It does not accept who asks.
    #[error(
        "the API server at {url} does not accept your credentials: {why}; log in again, or name another user in your kubeconfig"
    )]
    Credentials {
        /// Where it is.
        url: String,
        /// Its words, or what kept us from getting credentials.
        why: String,
    },
    /// Our custom resources are not there.
    #[error(
        "Miyako's custom resources are not installed in the cluster at {url}: install the chart miyako-crds, or name the cluster that you mean (KUBECONFIG, --context)"
    )]
    NotInstalled {
        /// Where it is.
        url: String,
    },
    /// The API server does not say who asks.
    #[error("the API server does not tell which user you are")]
    Nobody(#[source] kube::Error),
}

impl ClusterArgs {
    /// A client with the caller's own rights, for an API server that answers.
    ///
    /// # Errors
    /// When there is no usable configuration, nobody answers soon, or the credentials are refused.
    pub async fn client(&self) -> Result<Client, ClusterError> {
        Ok(self.connect().await?.0)
    }

    /// The same for a cluster that has Miyako's custom resources.
    ///
    /// # Errors
    /// Also when it has not.
    pub async fn client_for_ours(&self) -> Result<Client, ClusterError> {
        let (client, url) = self.connect().await?;
        require_ours(&client, &url).await?;
        Ok(client)
    }

    async fn connect(&self) -> Result<(Client, String), ClusterError> {
        let mut config = match &self.context {
            None => Config::infer().await.map_err(|error| ClusterError::Config(Box::new(error)))?,
            Some(context) => {
                let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
                Config::from_kubeconfig(&options)
                    .await
                    .map_err(|error| ClusterError::Context { context: context.clone(), problem: Box::new(error) })?
            }
        };
        config.connect_timeout = Some(CONNECT_WITHIN);
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|error| match error {
            kube::Error::Auth(error) => ClusterError::Credentials { url: url.clone(), why: crate::error_chain(&error) },
            error => ClusterError::Client(error),
        })?;
        reach(&client, &url).await?;
        Ok((client, url))
    }
}

/// Asks the API server for its version, which it tells everybody. Whoever can't be reached is found out here, once and at
/// once, and not by each request that follows.
///
/// # Errors
/// See [`ClusterError`].
pub async fn reach(client: &Client, url: &str) -> Result<(), ClusterError> {
    let unreachable = |why: String| ClusterError::Unreachable { url: url.to_owned(), why };
    let credentials = |why: String| ClusterError::Credentials { url: url.to_owned(), why };
    let Ok(answer) = tokio::time::timeout(ANSWER_WITHIN, client.apiserver_version()).await else {
        return Err(unreachable(format!("no answer within {} s", ANSWER_WITHIN.as_secs())));
    };
    match answer {
        // It answers. Who may not even know its version may still have rights to what is asked for.
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => match status.code {
            401 => Err(credentials(status.message)),
            404 => Err(unreachable("what answers there is no API server (404 for /version)".to_owned())),
            500.. => Err(unreachable(format!("it answers {}: {}", status.code, status.message))),
            _ => Ok(()),
        },
        Err(kube::Error::SerdeError(_)) => Err(unreachable("what answers there is no API server".to_owned())),
        Err(kube::Error::Auth(error)) => Err(credentials(crate::error_chain(&error))),
        Err(error) => Err(unreachable(root_cause(&error))),
    }
}

/// # Errors
/// When the API server says that it serves no custom resources of ours.
pub async fn require_ours(client: &Client, url: &str) -> Result<(), ClusterError> {
    let path = format!("/apis/{}", names::GROUP);
    let Ok(request) = http::Request::get(path).body(Vec::new()) else { return Ok(()) };
    let is_absent = |error: &kube::Error| answer::is_absent(error);
    // Whatever else it says: the requests that follow say it better.
    if !client.request::<serde_json::Value>(request).await.is_err_and(|error| is_absent(&error)) {
        return Ok(());
    }
    // A proxy may serve no discovery. A list is what people need.
    let policies = Api::<ConsolidationPolicy>::all(client.clone()).list(&ListParams::default().limit(1)).await;
    match policies {
        Err(error) if is_absent(&error) => Err(ClusterError::NotInstalled { url: url.to_owned() }),
        _ => Ok(()),
    }
}

/// What is wrong with the kubeconfig: that this is no pod either is nothing that a person at a terminal cares for.
fn of_kubeconfig(error: &InferConfigError) -> String {
    error.source().map_or_else(|| error.to_string(), crate::error_chain)
}

/// What an error comes down to, in a few words: people need "connection refused" and not the layers above it.
fn root_cause(error: &kube::Error) -> String {
    let mut cause: &(dyn Error + 'static) = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = cause.to_string();
    let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match io {
        Some(std::io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(std::io::ErrorKind::TimedOut) => format!("no connection within {} s", CONNECT_WITHIN.as_secs()),
        _ if text.contains("deadline has elapsed") => format!("no connection within {} s", CONNECT_WITHIN.as_secs()),
        _ => text,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::apiserver::{ApiError, ApiServer, Fault, Options, RequestInfo};
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn client(url: &str) -> Client {
        let mut config = Config::new(url.parse().unwrap());
        config.connect_timeout = Some(CONNECT_WITHIN);
        Client::try_from(config).unwrap()
    }

    /// Answers every request with this text.
    async fn answers(text: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let kept = Mutex::new(Vec::new());
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(text.as_bytes()).await;
                kept.lock().unwrap().push(stream);
            }
        });
        url
    }

    /// One sentence, with the address and what to look at.
    async fn said(url: &str) -> String {
        let error = reach(&client(url), url).await.unwrap_err();
        assert!(error.source().is_none(), "the cause is in the sentence: {error:?}");
        let text = error.to_string();
        assert!(text.contains(url) && !text.contains('\n'), "{text}");
        text
    }

    #[tokio::test]
    async fn a_refused_connection_is_one_sentence() {
        // A port that was free a moment ago.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let text = said(&url).await;
        assert!(text.contains("connection refused") && text.contains("KUBECONFIG"), "{text}");
    }

    #[tokio::test]
    async fn whoever_is_no_api_server_or_knows_no_such_user_is_told() {
        let page = answers("HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nnot here\n").await;
        assert!(said(&page).await.contains("no API server"));
        let html = answers("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n<html></html>").await;
        assert!(said(&html).await.contains("no API server"));
        let stranger = answers(concat!(
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 96\r\n\r\n",
            r#"{"kind":"Status","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}"#
        ))
        .await;
        let text = said(&stranger).await;
        assert!(text.contains("credentials") && text.contains("Unauthorized"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_is_given_up() {
        let server = ApiServer::new(Options::default());
        let client = server.client("somebody");
        server.crash("somebody");
        let error = reach(&client, "https://api").await.unwrap_err();
        assert!(error.to_string().contains("no answer within"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_without_our_resources_is_told() {
        let server = ApiServer::new(Options::default());
        let client = server.client("somebody");
        assert!(reach(&client, "https://api").await.is_ok());
        let error = require_ours(&client, "https://api").await.unwrap_err();
        assert!(matches!(error, ClusterError::NotInstalled { .. }), "{error}");
        for crd in miyako_api::crds() {
            server.add_crd(&serde_json::to_value(crd).unwrap()).unwrap();
        }
        assert!(require_ours(&client, "https://api").await.is_ok());
        // Behind a proxy that serves objects and no discovery.
        server.set_faults(Some(Box::new(|request: &RequestInfo| {
            let discovery = request.resource.starts_with("/apis") || request.resource.starts_with("apis");
            discovery.then(|| Fault::Refuse(ApiError::page_not_found()))
        })));
        assert!(require_ours(&client, "https://api").await.is_ok());
    }
}
