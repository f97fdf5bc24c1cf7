//! Pushing: one frame is made at a time, however many pages are open, and a page that is slow misses frames.

use super::server::{Served, Site};
use super::state::{self, Past};
use crate::controller::{Onlooker, View};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Frames are at least so far apart.
const BETWEEN_FRAMES: Duration = Duration::from_millis(250);
/// So many pages are served at once.
const MOST_PAGES: usize = 32;
/// A picture is waited for so long: a pass or two.
const PATIENCE: Duration = Duration::from_secs(5);

/// The newest frame, and room for pages.
#[derive(Clone)]
pub(super) struct Frames {
    newest: watch::Receiver<Arc<str>>,
    room: Arc<Semaphore>,
}

/// The frames, and what makes them until it is dropped or the operator has gone.
pub(super) fn frames(site: Site) -> (Frames, impl Future<Output = ()>) {
    let (sender, newest) = watch::channel(Arc::from(""));
    (Frames { newest, room: Arc::new(Semaphore::new(MOST_PAGES)) }, make(site, sender))
}

async fn make(mut site: Site, sender: watch::Sender<Arc<str>>) {
    while site.view.changed().await.is_ok() {
        let view = site.view.borrow_and_update().clone();
        if let Some(json) = state::json(&view, speed(&site), Past::New) {
            sender.send_replace(Arc::from(json));
        }
        tokio::time::sleep(BETWEEN_FRAMES).await;
    }
}

fn speed(site: &Site) -> Option<u32> {
    site.speed.as_ref().map(super::Speed::get)
}

/// The first view with a picture.
async fn pictured(site: &Site) -> Result<Arc<View>, (StatusCode, &'static str)> {
    let mut view = site.view.clone();
    let seen = tokio::time::timeout(PATIENCE, view.wait_for(|view| view.picture.is_some())).await;
    match seen {
        Ok(Ok(view)) => Ok(view.clone()),
        _ => Err((StatusCode::SERVICE_UNAVAILABLE, "the operator has not looked at the cluster yet; try again")),
    }
}

/// `GET /api/state`.
pub(super) async fn once(State(served): State<Served>) -> Response {
    let _onlooker = served.site.onlookers.join();
    match pictured(&served.site).await {
        Ok(view) => {
            let json = state::json(&view, speed(&served.site), Past::All).unwrap_or_default();
            ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], json).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// One open page.
struct Page {
    first: Option<String>,
    frames: watch::Receiver<Arc<str>>,
    _onlooker: Onlooker,
    _room: OwnedSemaphorePermit,
}

/// `GET /api/stream`: the whole state, then frame by frame.
pub(super) async fn push(State(served): State<Served>) -> Response {
    let Ok(room) = served.frames.room.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "as many pages are open as are served; close one").into_response();
    };
    let onlooker = served.site.onlookers.join();
    let view = match pictured(&served.site).await {
        Ok(view) => view,
        Err(refusal) => return refusal.into_response(),
    };
    let first = state::json(&view, speed(&served.site), Past::All);
    let page = Page { first, frames: served.frames.newest.clone(), _onlooker: onlooker, _room: room };
    let events = futures::stream::unfold(page, |mut page| async move {
        let json = match page.first.take() {
            Some(first) => first,
            None => {
                page.frames.changed().await.ok()?;
                page.frames.borrow_and_update().to_string()
            }
        };
        Some((Ok::<_, Infallible>(Event::default().data(json)), page))
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
