//! Waits between attempts, doubling, with jitter from a seed: two runs of one seed wait alike, two replicas do not.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(800);
/// The longest wait: kube-runtime's own, which API servers are used to.
const LONGEST: Duration = Duration::from_secs(30);

/// The waits of one watch.
pub(super) struct BackOff {
    random: ChaCha8Rng,
    failures: u32,
}

impl BackOff {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), failures: 0 }
    }

    /// All is well again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure: between half and all of the doubled wait.
    pub(super) fn next(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(self.random.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_follow_the_seed() {
        let waits = |seed| {
            let mut back_off = BackOff::new(seed);
            (0..40).map(|_| back_off.next()).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
        assert!(waits(7).iter().all(|wait| *wait <= LONGEST));
        assert!(waits(7)[39] >= LONGEST / 2 && waits(7)[0] <= FIRST);
    }
}
