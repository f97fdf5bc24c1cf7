//! Whom the operator lets in.

use crate::wire::scene::{account, token_reviews};
use miyako::observe::load::agents::{Authenticate, AuthenticationError, TokenReviewer};
use miyako_core::model::NodeName;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

#[tokio::test]
async fn an_agent_speaks_for_the_node_of_its_pod() {
    let reviewer = TokenReviewer::new(token_reviews(Arc::default()), account());
    assert_eq!(reviewer.authenticate("agent-on:node-1").await.unwrap().node, NodeName::new("node-1"));
}

#[tokio::test]
async fn nobody_else_speaks() {
    let reviewer = TokenReviewer::new(token_reviews(Arc::default()), account());
    let refuse = async |token| reviewer.authenticate(token).await.unwrap_err();
    assert!(matches!(refuse("forged").await, AuthenticationError::Refused(_)));
    assert!(matches!(refuse("elsewhere-on:node-1").await, AuthenticationError::Refused(_)));
    assert!(matches!(refuse("nobody-on:node-1").await, AuthenticationError::WrongAccount { .. }));
    assert!(matches!(refuse("agent").await, AuthenticationError::NoNode));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_good_for_a_minute() {
    let asked = Arc::new(AtomicUsize::new(0));
    let reviewer = TokenReviewer::new(token_reviews(Arc::clone(&asked)), account());
    for _ in 0..10 {
        reviewer.authenticate("agent-on:node-1").await.unwrap();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    tokio::time::sleep(Duration::from_secs(61)).await;
    reviewer.authenticate("agent-on:node-1").await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_is_no_refusal() {
    let service = tower::service_fn(|_: http::Request<kube::client::Body>| {
        std::future::pending::<Result<http::Response<kube::client::Body>, std::convert::Infallible>>()
    });
    let reviewer = TokenReviewer::new(kube::Client::new(service, "default"), account());
    let error = reviewer.authenticate("agent-on:node-1").await.unwrap_err();
    assert!(matches!(error, AuthenticationError::Unavailable(_)));
}
