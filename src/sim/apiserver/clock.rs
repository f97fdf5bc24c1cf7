//! The server's clock: handed in, so that a simulation's timestamps come from its own time.

use jiff::Timestamp;
use std::time::Duration;

/// Tells the server what time it is.
pub trait Clock: Send + Sync {
    /// The wall clock's time.
    fn now(&self) -> Timestamp;
}

impl<F: Fn() -> Timestamp + Send + Sync> Clock for F {
    fn now(&self) -> Timestamp {
        self()
    }
}

/// A fixed epoch plus what tokio's clock has run since: the same times in every run under tokio's paused time.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedClock {
    epoch: Timestamp,
    start: tokio::time::Instant,
}

/// Where simulated time begins unless told otherwise: a Monday, 2026-01-05 00:00 UTC, in seconds since the Unix epoch.
pub const EPOCH_SECONDS: i64 = 1_767_571_200;

impl SimulatedClock {
    /// A clock that shows `epoch` now.
    #[must_use]
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self { epoch, start: tokio::time::Instant::now() }
    }

    /// How long it has run.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Default for SimulatedClock {
    fn default() -> Self {
        Self::starting_at(Timestamp::from_second(EPOCH_SECONDS).unwrap_or(Timestamp::UNIX_EPOCH))
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        self.epoch.saturating_add(self.start.elapsed()).unwrap_or(Timestamp::MAX)
    }
}

/// A time as `metav1.Time` writes it: whole seconds, UTC.
pub(crate) fn seconds_text(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).map_or_else(|_| time.to_string(), |whole| whole.to_string())
}
