//! What time it is. Everything that asks is given a [`Clock`]; [`SystemClock`] alone reads the machine's.

use miyako_core::model::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Tells the time of day.
pub trait Clock: Send + Sync + 'static {
    /// The moment it is now. It may jump, in either direction: people set clocks.
    fn now(&self) -> Timestamp;
}

/// Closures are clocks too.
impl<F: Fn() -> Timestamp + Send + Sync + 'static> Clock for F {
    fn now(&self) -> Timestamp {
        self()
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Simulated time: a fixed beginning, and tokio's (paused) time since then.
#[derive(Debug, Clone, Copy)]
pub struct SimClock {
    epoch: Timestamp,
    began: Instant,
}

impl SimClock {
    /// A clock that shows `epoch` now and runs with tokio's time.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "tokio's time, which simulations pause and drive")]
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self { epoch, began: Instant::now() }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.epoch + self.began.elapsed()
    }
}

/// Tells how long something has run, by a clock that nobody sets and that goes on while the machine sleeps.
pub type Uptime = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The time since this machine booted, its sleep counted (CLOCK_BOOTTIME). tokio's clock is CLOCK_MONOTONIC, which stands
/// still in S3.
#[must_use]
pub fn machine_uptime() -> Uptime {
    Arc::new(|| Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default())
}

/// Simulated time since now: tokio's.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "tokio's time, which simulations pause and drive")]
pub fn simulated_uptime() -> Uptime {
    let began = Instant::now();
    Arc::new(move || began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn simulated_time_is_tokios() {
        let clock = SimClock::starting_at(Timestamp::from_secs(1_000_000));
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(clock.now(), Timestamp::from_secs(1_000_090));
    }

    #[test]
    fn the_machines_uptime_runs_on() {
        let uptime = machine_uptime();
        let before = uptime();
        assert!(before > Duration::ZERO && uptime() >= before);
    }
}
