//! The refined model: the dirty rate from past migrations and a sample, instead of the sample alone (Liu, section 3.2).

use super::input::{CostError, Problem, refuse, within};
use crate::model::{BytesPerSecond, Seconds};

/// D̄, the mean dirty rate of a migration, weighted by its rounds: Liu, eq. 11. None of rounds that took no time.
#[must_use]
pub fn mean_dirty_rate(rounds: &[(BytesPerSecond, Seconds)]) -> Option<BytesPerSecond> {
    let time: f64 = rounds.iter().map(|(_, took)| took.value()).sum();
    let written: f64 = rounds.iter().map(|(rate, took)| rate.value() * took.value()).sum();
    if time > 0.0 { BytesPerSecond::new(written / time).ok() } else { None }
}

/// How much of the way to the weight that would have been right a migration moves φ. The paper says that it is tuned
/// and not how.
const TUNING: f64 = 0.2;

/// A VM's dirty rate over its migrations: Liu, eqs. 12 and 13.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refined {
    mu: f64,
    phi: f64,
    average: Option<BytesPerSecond>,
}

impl Default for Refined {
    /// φ = 0.5 as published; μ = 0.7, which is "larger than 0.5".
    fn default() -> Self {
        Self { mu: 0.7, phi: 0.5, average: None }
    }
}

impl Refined {
    /// With the weight of the newest migration (μ) and of the sample at first (φ).
    ///
    /// # Errors
    /// μ that is not above 0.5 and below 1, φ that is not above 0 and below 1.
    pub fn new(mu: f64, phi: f64) -> Result<Self, CostError> {
        let open = |field, value: f64, least, most| {
            if value > least && value < most {
                Ok(value)
            } else {
                refuse(field, Problem::OutOfRange { value, least, most, unit: ", both excluded" })
            }
        };
        Ok(Self { mu: open("mu", mu, 0.5, 1.0)?, phi: open("phi", phi, 0.0, 1.0)?, average: None })
    }

    /// D̃, of which the next migration is foretold: eq. 13. Before the first migration it is the sample.
    #[must_use]
    pub fn estimate(&self, sample: BytesPerSecond) -> BytesPerSecond {
        let Some(average) = self.average else { return sample };
        let mixed = self.phi * sample.value() + (1.0 - self.phi) * average.value();
        BytesPerSecond::new(mixed).unwrap_or(sample)
    }

    /// Takes in a migration: its D̄, and the sample from which it had been foretold. Tunes φ by the errors of both, then
    /// moves the average (eq. 12).
    pub fn observe(&mut self, mean: BytesPerSecond, sample: BytesPerSecond) {
        let Some(average) = self.average else {
            self.average = Some(mean);
            return;
        };
        let (mean, sample, average) = (mean.value(), sample.value(), average.value());
        // The φ for which eq. 13 would have been exact; if both agree, any would do.
        if (sample - average).abs() > 1e-9 * sample.max(average) {
            let exact = ((mean - average) / (sample - average)).clamp(0.0, 1.0);
            self.phi = (self.phi + TUNING * (exact - self.phi)).clamp(0.05, 0.95);
        }
        self.average = BytesPerSecond::new(self.mu * mean + (1.0 - self.mu) * average).ok();
    }

    /// The weight of the sample now.
    #[must_use]
    pub const fn phi(&self) -> f64 {
        self.phi
    }

    /// The average over migrations (D̂), if there was one.
    #[must_use]
    pub const fn average(&self) -> Option<BytesPerSecond> {
        self.average
    }
}

/// How far a figure is off, as a share of what was measured.
///
/// # Errors
/// Nothing was measured.
pub fn relative_error(foretold: f64, measured: f64) -> Result<f64, CostError> {
    within("measured", measured, f64::MIN_POSITIVE, f64::MAX)?;
    Ok((foretold - measured).abs() / measured)
}
