//! What a round of pre-copy skips: γ of Liu's eqs. 9 and 10, and where its published coefficients hold.

use super::input::{CostError, Guest, MEGABYTE, Problem, Rate, refuse};
use crate::model::{Bytes, BytesPerSecond, Seconds};

/// Which share of the dirty pages a round skips, because they are likely to be dirtied again: γ of Liu's eq. 10.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Skipping {
    /// ω, per second of the round in which they got dirty.
    pub per_second: f64,
    /// ξ, per MB/s of the dirty rate.
    pub per_megabyte_rate: f64,
    /// ψ.
    pub constant: f64,
    /// Where it was fitted; anywhere, if there is none.
    pub fitted: Option<FitRange>,
}

/// Where coefficients were fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitRange {
    /// The least and the most memory.
    pub memory: (Bytes, Bytes),
    /// The slowest and the fastest transmission, in decimal megabits per second.
    pub megabits: (f64, f64),
}

impl Skipping {
    /// Nothing is skipped: QEMU.
    pub const NONE: Self = Self { per_second: 0.0, per_megabyte_rate: 0.0, constant: 0.0, fitted: None };

    /// Xen 3.4, fitted over DaCapo (Liu, section 3.1; R² 0.843): guests of 1 GB, 800 MB in section 7.4, at 400 to
    /// 800 Mb/s.
    pub const PUBLISHED: Self = Self {
        per_second: -0.0463,
        per_megabyte_rate: -0.0001,
        constant: 0.3586,
        fitted: Some(FitRange { memory: (Bytes(800_000_000), Bytes::gib(1)), megabits: (400.0, 800.0) }),
    };

    /// γ after a round of so many seconds, within 0 and 1.
    #[must_use]
    pub fn share(&self, took: Seconds, dirty_rate: BytesPerSecond) -> f64 {
        let rate = dirty_rate.value() / MEGABYTE;
        (self.per_second * took.value() + self.per_megabyte_rate * rate + self.constant).clamp(0.0, 1.0)
    }

    pub(super) fn refuse_outside(&self, guest: &Guest, rate: &Rate) -> Result<(), CostError> {
        let outside = |field, value, (least, most): (f64, f64), unit| {
            if value >= least && value <= most {
                Ok(())
            } else {
                refuse(field, Problem::OutsideFit { value, least, most, unit })
            }
        };
        let Some(range) = &self.fitted else { return Ok(()) };
        let memory = (range.memory.0.0 as f64, range.memory.1.0 as f64);
        outside("memory", guest.memory().0 as f64, memory, " bytes")?;
        let (least, most) = rate.bounds();
        for rate in [least, most] {
            outside("transmission rate", rate.value() * 8.0 / 1e6, range.megabits, " Mb/s")?;
        }
        Ok(())
    }
}
