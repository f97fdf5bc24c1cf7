//! The server's times: its clock is handed in, so that a simulation's timestamps come from its own time.

use crate::clock::SimClock;
use k8s_openapi::jiff::Timestamp;

/// Where simulated time begins unless told otherwise: a Monday, 2026-01-05 00:00 UTC, in seconds since the Unix epoch.
pub const EPOCH_SECONDS: i64 = 1_767_571_200;

/// A clock that shows where simulated time begins, now.
#[must_use]
pub fn from_the_beginning() -> SimClock {
    SimClock::starting_at(miyako_core::model::Timestamp::from_secs(EPOCH_SECONDS))
}

/// A time as `metav1.Time` writes it: whole seconds, UTC.
pub(crate) fn seconds_text(time: miyako_core::model::Timestamp) -> String {
    let time = crate::time::to_api(time).0;
    Timestamp::from_second(time.as_second()).map_or_else(|_| time.to_string(), |whole| whole.to_string())
}
