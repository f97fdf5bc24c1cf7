//! How long samples are under way, found out without comparing two machines' clocks.
//!
//! ```text
//!   sent by the agent's clock      1000   2000   3000            4000
//!   arrived by ours                  71   1074   2070            8071
//!   difference                     -929   -926   -930            4071   the least of them is how the clocks lie
//!   under way, beyond the fastest     0      3      0            5001
//! ```

use miyako_core::model::Span;
use tokio::time::Instant;

/// How far apart two clocks may run that nobody sets, in milliseconds per second: many times what quartz does.
const DRIFT: f64 = 0.5e-3;

/// What one stream shows. Neither of its two clocks is ever set: the agent's runs since its machine booted, ours since the
/// stream began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delays {
    began: Instant,
    /// The least difference between arriving and sending so far, and when it was looked at last.
    least: Option<(f64, Instant)>,
}

impl Delays {
    /// A stream that begins.
    pub(super) fn new(began: Instant) -> Self {
        Self { began, least: None }
    }

    /// How much longer than the fastest of its stream a sample was under way that was sent at `sent`, in milliseconds of the
    /// agent's clock.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates
    pub(super) fn of(&mut self, sent: u64, arrived: Instant) -> Span {
        let millis = |from: Instant| arrived.saturating_duration_since(from).as_secs_f64() * 1000.0;
        let difference = millis(self.began) - sent as f64;
        let before = self.least.map_or(f64::INFINITY, |(least, at)| least + millis(at) * DRIFT);
        let least = difference.min(before);
        self.least = Some((least, arrived));
        Span::from_millis((difference - least).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_sample_that_was_held_up_shows_against_the_others_and_not_against_a_clock() {
        let began = Instant::now();
        let mut delays = Delays::new(began);
        let mut of = |sent: u64, arrived: u64| delays.of(sent, began + Duration::from_millis(arrived)).as_millis();
        // The agent's machine has run for days.
        let booted = 500_000_000;
        assert_eq!(of(booted + 1_000, 71), 0);
        assert!((2..=3).contains(&of(booted + 2_000, 1_074)));
        assert_eq!(of(booted + 3_000, 2_070), 0);
        assert!((4_990..=5_001).contains(&of(booted + 4_000, 8_071)));
        // Those behind it in the queue come right after it.
        assert!((3_990..=4_101).contains(&of(booted + 5_000, 8_171)));
        assert!(of(booted + 9_000, 8_172) < 103);
    }

    #[tokio::test(start_paused = true)]
    async fn clocks_that_run_apart_a_little_are_no_delay() {
        let began = Instant::now();
        let mut delays = Delays::new(began);
        for second in 0..100_000_u64 {
            let arrived = began + Duration::from_micros(second * 1_000_200);
            assert!(delays.of(second * 1_000, arrived).as_millis() <= 1, "{second}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nonsense_is_no_panic() {
        let mut delays = Delays::new(Instant::now());
        for sent in [u64::MAX, 0, 1, u64::MAX / 2] {
            delays.of(sent, Instant::now());
        }
    }
}
