//! Which samples were taken when, by a clock that nobody sets: what an order to sleep quotes is looked up here.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Time since the machine booted, its sleep counted (CLOCK_BOOTTIME), handed in: tests bring their own.
pub type BootClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// As many samples are remembered: half a minute of them. An order that quotes an older one is too old anyway.
const REMEMBERED: usize = 32;

/// The samples of the last half minute. Clones share it.
#[derive(Clone)]
pub struct SampleLog {
    clock: BootClock,
    taken: Arc<Mutex<VecDeque<(u64, Duration)>>>,
}

impl fmt::Debug for SampleLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SampleLog").field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl SampleLog {
    /// Nothing was taken yet.
    #[must_use]
    pub fn new(clock: BootClock) -> Self {
        Self { clock, taken: Arc::default() }
    }

    /// Notes a sample that is taken now; says when that is.
    pub fn note(&self, sequence: u64) -> Duration {
        let now = self.now();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.truncate(REMEMBERED - 1);
        taken.push_front((sequence, now));
        now
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Duration {
        (self.clock)()
    }

    /// How long ago a sample was taken; nothing of one that is not remembered.
    #[must_use]
    pub fn age(&self, sequence: u64) -> Option<Duration> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, at) = taken.iter().find(|(taken, _)| *taken == sequence)?;
        Some(self.now().saturating_sub(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_sample_grows_old_and_is_forgotten() {
        let seconds = Arc::new(AtomicU64::new(100));
        let clock = Arc::clone(&seconds);
        let log = SampleLog::new(Arc::new(move || Duration::from_secs(clock.load(Ordering::Relaxed))));
        assert_eq!(log.note(7), Duration::from_secs(100));
        // The machine slept meanwhile, and this clock with it did not.
        seconds.store(3700, Ordering::Relaxed);
        assert_eq!((log.age(7), log.age(8)), (Some(Duration::from_secs(3600)), None));
        for sequence in 8..8 + u64::try_from(REMEMBERED).unwrap() {
            log.note(sequence);
        }
        assert_eq!((log.age(7), log.age(8)), (None, Some(Duration::ZERO)));
    }
}
