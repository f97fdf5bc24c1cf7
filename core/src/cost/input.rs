//! What the models are told, and why they refuse it.

use crate::model::{Bytes, BytesPerSecond, Seconds};

/// Why a model can't be asked this. It names the input.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct CostError {
    /// Which input.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with an input.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    /// Nothing, where there must be something.
    #[error("must be more than zero")]
    NotPositive,
    /// NaN, or infinite.
    #[error("must be a finite number")]
    NotFinite,
    /// Beyond its bounds.
    #[error("{value} is not from {least} to {most}{unit}")]
    OutOfRange {
        /// What was given.
        value: f64,
        /// The least that is allowed.
        least: f64,
        /// The most that is allowed.
        most: f64,
        /// Its unit, with a space before it.
        unit: &'static str,
    },
    /// The published coefficients were fitted elsewhere.
    #[error(
        "{value} is not from {least} to {most}{unit}, where the published coefficients were fitted; fit your own, \
         or use a model without them"
    )]
    OutsideFit {
        /// What was given.
        value: f64,
        /// The least of the experiments.
        least: f64,
        /// The most of the experiments.
        most: f64,
        /// Its unit, with a space before it.
        unit: &'static str,
    },
    /// It does not go with the rest.
    #[error("{0}")]
    Unfit(&'static str),
    /// Too few observations.
    #[error("{have} observations are too few, at least {need} are needed")]
    TooFew {
        /// So many there are.
        have: usize,
        /// So many it takes.
        need: usize,
    },
    /// Observations from which the coefficients can't be told apart.
    #[error(
        "the observations are too alike to tell the coefficients apart; observe migrations of other sizes and rates"
    )]
    TooAlike,
}

pub(super) fn refuse<T>(field: &'static str, problem: Problem) -> Result<T, CostError> {
    Err(CostError { field, problem })
}

pub(super) fn positive(field: &'static str, value: f64) -> Result<f64, CostError> {
    if value > 0.0 { Ok(value) } else { refuse(field, Problem::NotPositive) }
}

pub(super) fn within(field: &'static str, value: f64, least: f64, most: f64) -> Result<f64, CostError> {
    if value >= least && value <= most {
        Ok(value)
    } else {
        refuse(field, Problem::OutOfRange { value, least, most, unit: "" })
    }
}

/// Seconds of a number that is finite and not negative by its making.
pub(super) fn seconds(value: f64) -> Seconds {
    Seconds::new(value.clamp(0.0, f64::MAX)).unwrap_or(Seconds::ZERO)
}

/// A megabyte, as the papers' fits count them: the megabits of the same experiments are decimal.
pub const MEGABYTE: f64 = 1e6;

/// A VM as its migration meets it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guest {
    memory: Bytes,
    dirty_rate: BytesPerSecond,
    writable: Bytes,
    touched: Bytes,
}

impl Guest {
    /// A guest of so much memory, which dirties so much a second (D), all within its writable working set (W).
    /// Unless [told](Self::touching), it reads no more than it writes.
    ///
    /// # Errors
    /// No memory, or a working set larger than the memory.
    pub fn new(memory: Bytes, dirty_rate: BytesPerSecond, writable: Bytes) -> Result<Self, CostError> {
        positive("memory", memory.0 as f64)?;
        within("writable working set", writable.0 as f64, 0.0, memory.0 as f64)?;
        Ok(Self { memory, dirty_rate, writable, touched: writable })
    }

    /// It reads and writes so much of its memory in a short while. Post-copy waits for that.
    ///
    /// # Errors
    /// More than the memory, or less than what it writes.
    pub fn touching(self, touched: Bytes) -> Result<Self, CostError> {
        within("touched working set", touched.0 as f64, self.writable.0 as f64, self.memory.0 as f64)?;
        Ok(Self { touched, ..self })
    }

    /// All its memory.
    #[must_use]
    pub const fn memory(&self) -> Bytes {
        self.memory
    }

    /// How fast it dirties memory.
    #[must_use]
    pub const fn dirty_rate(&self) -> BytesPerSecond {
        self.dirty_rate
    }

    /// What it writes to at all.
    #[must_use]
    pub const fn writable(&self) -> Bytes {
        self.writable
    }

    /// What it reads or writes in a short while.
    #[must_use]
    pub const fn touched(&self) -> Bytes {
        self.touched
    }

    /// What is dirty after `time`, when it dirties `rate`: never more than the working set.
    pub(super) fn dirtied(&self, rate: BytesPerSecond, time: f64) -> f64 {
        (rate.value() * time).min(self.writable.0 as f64)
    }
}

/// How fast the memory is sent (R).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// Always the same.
    Fixed(BytesPerSecond),
    /// As the guest writes, within limits: Liu, eq. 22.
    Adaptive(super::Adaptive),
}

impl Rate {
    /// Always the same.
    ///
    /// # Errors
    /// Nothing is sent.
    pub fn fixed(rate: BytesPerSecond) -> Result<Self, CostError> {
        positive("transmission rate", rate.value())?;
        Ok(Self::Fixed(rate))
    }

    /// The rate of a round, when the guest dirtied `dirty` in the round before.
    #[must_use]
    pub fn after(&self, dirty: BytesPerSecond) -> BytesPerSecond {
        match self {
            Self::Fixed(rate) => *rate,
            Self::Adaptive(adaptive) => adaptive.after(dirty),
        }
    }

    /// The least and the most it can be.
    #[must_use]
    pub fn bounds(&self) -> (BytesPerSecond, BytesPerSecond) {
        match self {
            Self::Fixed(rate) => (*rate, *rate),
            Self::Adaptive(adaptive) => adaptive.limits(),
        }
    }
}

/// What a migration costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Cost {
    /// From its start until nothing of the VM is left behind (T_mig).
    #[serde(rename = "timeSeconds")]
    pub time: Seconds,
    /// The VM runs nowhere (T_down).
    #[serde(rename = "downtimeSeconds")]
    pub downtime: Seconds,
    /// The VM runs at its destination, and may wait for pages that are still on their way. Only post-copy has it.
    #[serde(rename = "degradedSeconds")]
    pub degraded: Seconds,
    /// What went over the migration network (V_mig).
    #[serde(rename = "trafficBytes")]
    pub traffic: Bytes,
}
