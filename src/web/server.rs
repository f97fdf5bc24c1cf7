//! What is served where.

use super::probes::{self, Ready};
use super::speed::{self, Speed};
use super::stream::{self, Frames};
use super::{explain, page};
use crate::controller::{Metrics, Onlookers, View};
use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What the web server tells about.
#[derive(Clone)]
pub struct Site {
    /// The metrics.
    pub metrics: Metrics,
    /// What the last pass saw and thought.
    pub view: watch::Receiver<Arc<View>>,
    /// Who looks at the pictures in the views.
    pub onlookers: Onlookers,
    /// Readiness.
    pub ready: Ready,
    /// How fast the simulated world goes, if this is a demo.
    pub speed: Option<Speed>,
}

/// What the handlers see.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) site: Site,
    pub(super) frames: Frames,
}

/// Serves until it is dropped.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, site: Site) -> std::io::Result<()> {
    let (frames, make) = stream::frames(site.clone());
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(probes::ready))
        .route("/metrics", get(probes::metrics))
        .route("/", get(page::index))
        .route("/app.js", get(page::script))
        .route("/app.css", get(page::style))
        .route("/icon.svg", get(page::icon))
        .route("/api/state", get(stream::once))
        .route("/api/stream", get(stream::push))
        .route("/api/explain/vm/{namespace}/{name}", get(explain::vm))
        .route("/api/explain/node/{name}", get(explain::node))
        .route("/api/demo/speed", post(speed::set))
        .with_state(Served { site, frames });
    tokio::select! {
        biased;
        () = make => Ok(()),
        ended = axum::serve(listener, router) => ended,
    }
}
