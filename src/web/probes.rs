//! What kubelet and Prometheus ask for.

use crate::controller::{Metrics, View};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Whether the process could do its work, or what it waits for.
pub type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the web server tells about.
#[derive(Clone)]
pub struct Site {
    /// The metrics.
    pub metrics: Metrics,
    /// What the last pass saw and thought.
    pub view: watch::Receiver<Arc<View>>,
    /// Readiness.
    pub ready: Ready,
}

/// Serves until it is dropped.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, site: Site) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(site);
    axum::serve(listener, router).await
}

async fn ready(State(site): State<Site>) -> impl IntoResponse {
    match (site.ready)() {
        Ok(()) => (StatusCode::OK, "ok".to_owned()),
        Err(waits_for) => (StatusCode::SERVICE_UNAVAILABLE, waits_for),
    }
}

async fn metrics(State(site): State<Site>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], site.metrics.text())
}
