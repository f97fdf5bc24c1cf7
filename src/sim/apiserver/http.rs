//! The same server for other processes: HTTP on a listener, for stands where the operator is a process of its own.
//!
//! A bearer token is believed to be the actor's name. A TokenReview is answered in the same spirit: a token is a
//! ServiceAccount's user name and, behind an `@`, the node of the pod that it is bound to.

use super::server::ApiServer;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt, Either, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use kube::client::Body;
use serde_json::{Value, json};
use std::convert::Infallible;
use tokio::{net::TcpListener, task::JoinSet};
use tower::{BoxError, Service as _};

/// Where tokens are reviewed.
const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// Who asks without a token.
const ANONYMOUS: &str = "system:anonymous";

impl ApiServer {
    /// Answers HTTP/1.1 and HTTP/2 until it is dropped, connections included.
    pub async fn serve(&self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                accepted = listener.accept() => {
                    // A connection that breaks before it is taken costs nobody else anything.
                    let Ok((stream, _)) = accepted else { continue };
                    let _ = stream.set_nodelay(true);
                    let door = Door { server: self.clone() };
                    connections.spawn(async move {
                        let builder = auto::Builder::new(TokioExecutor::new());
                        if let Err(error) = builder.serve_connection(TokioIo::new(stream), door).await {
                            tracing::debug!(%error, "a connection ended");
                        }
                    });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Where requests of one connection come in.
struct Door {
    server: ApiServer,
}

impl Service<Request<Incoming>> for Door {
    type Response = Response<Either<Full<Bytes>, UnsyncBoxBody<Bytes, Infallible>>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let server = self.server.clone();
        Box::pin(async move {
            if request.method() == Method::POST && request.uri().path() == TOKEN_REVIEWS {
                let review = request.into_body().collect().await?.to_bytes();
                let mut answer = Response::new(Either::Left(reviewed(&review)));
                *answer.status_mut() = StatusCode::CREATED;
                return Ok(answer);
            }
            let actor = bearer(&request).unwrap_or(ANONYMOUS).to_owned();
            let (parts, body) = request.into_parts();
            let body = Body::from(body.collect().await?.to_bytes());
            let answer = server.edge(&actor).call(Request::from_parts(parts, body)).await?;
            Ok(answer.map(Either::Right))
        })
    }
}

fn bearer<B>(request: &Request<B>) -> Option<&str> {
    request.headers().get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The TokenReview with its status; one that can't be read is not authenticated.
fn reviewed(review: &[u8]) -> Full<Bytes> {
    let mut review: Value = serde_json::from_slice(review).unwrap_or_else(|_| json!({}));
    let (user, node) = {
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        token.split_once('@').map_or((token.to_owned(), None), |(user, node)| (user.to_owned(), Some(node.to_owned())))
    };
    let extra = node.map(|node| json!({"authentication.kubernetes.io/node-name": [node]}));
    review["status"] = json!({
        "authenticated": !user.is_empty(),
        "user": {"username": user, "extra": extra},
        "audiences": review["spec"]["audiences"],
    });
    Full::from(review.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::apiserver::Options;
    use k8s_openapi::api::{
        authentication::v1::{TokenReview, TokenReviewSpec},
        core::v1::Namespace,
    };
    use kube::{Api, Client, Config, api::ListParams, api::PostParams};

    async fn client(server: &ApiServer, token: &str) -> (Client, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        config.auth_info.token = Some(token.to_owned().into());
        let server = server.clone();
        let serving = tokio::spawn(async move { server.serve(listener).await });
        (Client::try_from(config).unwrap(), serving)
    }

    #[tokio::test]
    async fn another_process_sees_the_same_cluster_under_its_own_name() {
        let server = ApiServer::new(Options { journal: true, ..Options::default() });
        let (client, serving) = client(&server, "somebody").await;
        let namespaces = Api::<Namespace>::all(client).list(&ListParams::default()).await.unwrap();
        assert_eq!(namespaces.items.len(), 4);
        assert_eq!(server.journal().last().unwrap().kind.actor, "somebody");
        serving.abort();
    }

    #[tokio::test]
    async fn a_token_says_whose_it_is_and_on_which_node() {
        let server = ApiServer::new(Options::default());
        let (client, serving) = client(&server, "somebody").await;
        let spec = TokenReviewSpec {
            token: Some("system:serviceaccount:ns:agent@node-1".into()),
            audiences: Some(vec!["ours".into()]),
        };
        let review = TokenReview { spec, ..TokenReview::default() };
        let status = Api::all(client).create(&PostParams::default(), &review).await.unwrap().status.unwrap();
        let user = status.user.unwrap();
        assert_eq!(user.username.as_deref(), Some("system:serviceaccount:ns:agent"));
        assert_eq!(user.extra.unwrap()["authentication.kubernetes.io/node-name"], ["node-1"]);
        assert_eq!(status.audiences.unwrap(), ["ours"]);
        serving.abort();
    }
}
