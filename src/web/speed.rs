//! How fast a simulated world goes, as the page sets it.

use super::server::Served;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Simulated seconds in a real one; 0 stands still.
#[derive(Debug, Clone)]
pub struct Speed(Arc<AtomicU32>);

impl Speed {
    /// Faster than this no machine goes.
    pub const MOST: u32 = 3600;

    /// Begins with a speed, at most [`Self::MOST`].
    #[must_use]
    pub fn new(speed: u32) -> Self {
        Self(Arc::new(AtomicU32::new(speed.min(Self::MOST))))
    }

    /// The speed now.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, speed: u32) {
        self.0.store(speed.min(Self::MOST), Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    speed: u32,
}

/// `POST /api/demo/speed`. It takes JSON only, so that no other site's form can send it.
pub(super) async fn set(
    State(served): State<Served>,
    Json(wish): Json<Wish>,
) -> Result<Json<Wish>, (StatusCode, String)> {
    let Some(speed) = &served.site.speed else {
        return Err((StatusCode::NOT_FOUND, "this is no demo: its time is the real one".to_owned()));
    };
    if wish.speed > Speed::MOST {
        return Err((StatusCode::BAD_REQUEST, format!("speed: write 0 (paused) to {}", Speed::MOST)));
    }
    speed.set(wish.speed);
    Ok(Json(wish))
}
