//! How fast to send: R = D + δ within limits (Liu, eq. 22).

use super::input::{CostError, Problem, positive, refuse};
use crate::model::BytesPerSecond;

/// A rate that follows the guest's writes: fast enough to gain on them, and no faster, so that others keep their network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adaptive {
    increment: BytesPerSecond,
    least: BytesPerSecond,
    most: BytesPerSecond,
}

impl Adaptive {
    /// δ as published: 100 Mb/s (Liu, section 6.3).
    pub const PUBLISHED_INCREMENT_MEGABITS: f64 = 100.0;

    /// So much faster than the guest writes, within limits.
    ///
    /// # Errors
    /// An increment or a lower limit of nothing, or an upper limit below the lower one.
    pub fn new(increment: BytesPerSecond, least: BytesPerSecond, most: BytesPerSecond) -> Result<Self, CostError> {
        positive("rate increment", increment.value())?;
        positive("least transmission rate", least.value())?;
        if most < least {
            let (value, least) = (most.value(), least.value());
            let problem = Problem::OutOfRange { value, least, most: f64::MAX, unit: " bytes per second" };
            return refuse("most transmission rate", problem);
        }
        Ok(Self { increment, least, most })
    }

    /// As published: δ = 100 Mb/s.
    ///
    /// # Errors
    /// A lower limit of nothing, or an upper limit below the lower one.
    pub fn published(least: BytesPerSecond, most: BytesPerSecond) -> Result<Self, CostError> {
        Self::new(megabits(Self::PUBLISHED_INCREMENT_MEGABITS), least, most)
    }

    /// The rate of a round, when the guest dirtied `dirty` in the round before; of the first round, when it was measured
    /// so beforehand.
    #[must_use]
    pub fn after(&self, dirty: BytesPerSecond) -> BytesPerSecond {
        let wished = dirty + self.increment;
        if wished < self.least {
            self.least
        } else if wished > self.most {
            self.most
        } else {
            wished
        }
    }

    /// The least and the most.
    #[must_use]
    pub const fn limits(&self) -> (BytesPerSecond, BytesPerSecond) {
        (self.least, self.most)
    }
}

/// A rate in decimal megabits per second, as networks are sold. Nothing, if it is no quantity.
#[must_use]
pub fn megabits(value: f64) -> BytesPerSecond {
    BytesPerSecond::new(value * 1e6 / 8.0).unwrap_or(BytesPerSecond::ZERO)
}
