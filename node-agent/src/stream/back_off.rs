//! How long to wait before dialling again.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// Exponential back-off with full jitter (AWS Architecture Blog, "Exponential Backoff and Jitter"): a thousand
/// agents that lost the same operator do not come back in the same instant.
#[derive(Debug)]
pub struct BackOff {
    random: ChaCha8Rng,
    failures: u32,
}

impl BackOff {
    /// The bound of the first wait.
    pub const FIRST: Duration = Duration::from_millis(500);
    /// The bound of all waits: an operator that is back is found within this time.
    pub const LONGEST: Duration = Duration::from_secs(15);
    /// The shortest wait, so that jitter never makes a busy loop.
    pub const SHORTEST: Duration = Duration::from_millis(100);

    /// A back-off with its own seed; the same seed gives the same waits.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), failures: 0 }
    }

    /// How long to wait now that another try failed.
    pub fn after_failure(&mut self) -> Duration {
        let bound = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(self.random.random::<f64>()).max(Self::SHORTEST)
    }

    /// A try succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_differ_between_seeds() {
        let waits = |seed| {
            let mut back_off = BackOff::new(seed);
            (0..64).map(|_| back_off.after_failure()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
        assert!(waits(1)[0] <= BackOff::FIRST);
        assert!(waits(1).iter().all(|wait| (BackOff::SHORTEST..=BackOff::LONGEST).contains(wait)));
        assert!(waits(1).iter().any(|wait| *wait > BackOff::FIRST * 8));
    }
}
