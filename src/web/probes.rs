//! What kubelet and Prometheus ask for.

use super::server::Served;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use std::sync::Arc;

/// Whether the process could do its work, or what it waits for.
pub type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

pub(super) async fn ready(State(served): State<Served>) -> impl IntoResponse {
    match (served.site.ready)() {
        Ok(()) => (StatusCode::OK, "ok".to_owned()),
        Err(waits_for) => (StatusCode::SERVICE_UNAVAILABLE, waits_for),
    }
}

pub(super) async fn metrics(State(served): State<Served>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], served.site.metrics.text())
}
