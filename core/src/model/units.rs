//! Quantities with their units. Only operations that mean something exist: watts times seconds are joules,
//! and adding watts to bytes does not compile. Floats are finite and not negative by construction.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Mul, Sub},
};

/// Why a number is not a quantity.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum UnitError {
    /// NaN or infinite.
    #[error("{0} is not a finite number")]
    NotFinite(f64),
    /// Below zero.
    #[error("{0} is negative")]
    Negative(f64),
    /// Above what the unit allows.
    #[error("{value} is more than {most}")]
    TooLarge {
        /// What was given.
        value: f64,
        /// The most that is allowed.
        most: f64,
    },
}

fn finite(value: f64) -> Result<f64, UnitError> {
    if !value.is_finite() {
        Err(UnitError::NotFinite(value))
    } else if value < 0.0 {
        Err(UnitError::Negative(value))
    } else {
        Ok(value)
    }
}

/// An amount of memory or data, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// So many MiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// So many GiB.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// The whole number of bytes nearest to a finite number; nothing below zero, and at most what a `u64` holds.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    pub fn nearest(value: f64) -> Self {
        Self(value.round() as u64)
    }
}

/// A requested or allocatable amount of CPU, in thousandths of a core, as Kubernetes counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MilliCpu(pub u64);

impl MilliCpu {
    /// The whole cores in it, rounded down.
    #[must_use]
    pub const fn whole_cores(self) -> u64 {
        self.0 / 1000
    }

    /// As cores.
    #[must_use]
    pub fn cores(self) -> Cores {
        Cores(self.0 as f64 / 1000.0)
    }
}

macro_rules! integer_sums {
    ($($name:ident),*) => {$(
        impl $name {
            /// What is left after taking `other`, or nothing.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }
        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
                iter.fold(Self(0), Add::add)
            }
        }
    )*};
}
integer_sums!(Bytes, MilliCpu);

macro_rules! float_units {
    ($($(#[$doc:meta])* $name:ident, $suffix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name(f64);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0.0);

            /// Takes a finite number that is not negative.
            ///
            /// # Errors
            /// NaN, infinity and negative numbers are refused.
            pub fn new(value: f64) -> Result<Self, UnitError> {
                finite(value).map(Self)
            }

            /// The bare number.
            #[must_use]
            pub const fn value(self) -> f64 {
                self.0
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self((self.0 + other.0).min(f64::MAX))
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl Sub for $name {
            type Output = Self;
            /// Saturates at zero: a quantity is never negative.
            fn sub(self, other: Self) -> Self {
                Self((self.0 - other.0).max(0.0))
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
                iter.fold(Self::ZERO, Add::add)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:.2}{}", self.0, $suffix)
            }
        }
    )*};
}

float_units! {
    /// CPU in use, in cores.
    Cores, " cores";
    /// Power.
    Watts, " W";
    /// Energy.
    Joules, " J";
    /// A length of time as a measured quantity; for windows and time-outs see [`super::Span`].
    Seconds, " s";
    /// How fast data moves, or memory is written.
    BytesPerSecond, " B/s";
}

impl Mul<Seconds> for Watts {
    type Output = Joules;
    fn mul(self, time: Seconds) -> Joules {
        Joules((self.0 * time.0).min(f64::MAX))
    }
}

impl Mul<Seconds> for BytesPerSecond {
    type Output = Bytes;
    /// To the nearest byte.
    fn mul(self, time: Seconds) -> Bytes {
        Bytes::nearest((self.0 * time.0).min(f64::MAX))
    }
}

impl Cores {
    /// These cores as a share of `capacity`; of no capacity, everything is more than all of it.
    #[must_use]
    pub fn percent_of(self, capacity: Self) -> Percent {
        if capacity.0 > 0.0 {
            Percent((100.0 * self.0 / capacity.0).min(f64::MAX))
        } else if self.0 > 0.0 {
            Percent(f64::MAX)
        } else {
            Percent(0.0)
        }
    }
}

/// A share in percent. A measured load may pass 100.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Percent(f64);

impl Percent {
    /// A share of zero or more.
    ///
    /// # Errors
    /// NaN, infinity and negative numbers are refused.
    pub fn new(value: f64) -> Result<Self, UnitError> {
        finite(value).map(Self)
    }

    /// A threshold from 0 to 100.
    ///
    /// # Errors
    /// Anything that is not a number from 0 to 100 is refused.
    pub fn threshold(value: f64) -> Result<Self, UnitError> {
        let value = finite(value)?;
        if value > 100.0 { Err(UnitError::TooLarge { value, most: 100.0 }) } else { Ok(Self(value)) }
    }

    /// The bare number.
    #[must_use]
    pub const fn value(self) -> f64 {
        self.0
    }

    /// This share of `capacity`.
    #[must_use]
    pub fn of(self, capacity: Cores) -> Cores {
        Cores((capacity.0 * self.0 / 100.0).min(f64::MAX))
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}%", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_refuse_what_is_no_quantity() {
        assert!(Cores::new(f64::NAN).is_err());
        assert_eq!(Watts::new(-1.0), Err(UnitError::Negative(-1.0)));
        assert!(Percent::threshold(100.5).is_err());
        assert!(serde_json::from_str::<Cores>("-3").is_err());
    }

    #[test]
    fn watts_times_seconds_are_joules() {
        // Energy §II: one idle node (53 W) for five seconds.
        let joules = Watts::new(53.0).unwrap() * Seconds::new(5.0).unwrap();
        assert_eq!(joules, Joules::new(265.0).unwrap());
    }

    #[test]
    fn a_rate_times_seconds_is_data() {
        let rate = BytesPerSecond::new(100e6).unwrap();
        assert_eq!(rate * Seconds::new(2.5).unwrap(), Bytes(250_000_000));
        assert_eq!(Bytes::nearest(-1.0), Bytes(0));
        assert_eq!(BytesPerSecond::new(f64::MAX).unwrap() * Seconds::new(9.0).unwrap(), Bytes(u64::MAX));
    }

    #[test]
    fn a_share_of_nothing_is_everything() {
        assert!(Cores::ZERO.percent_of(Cores::ZERO).value().abs() < f64::EPSILON);
        assert!(Cores::new(0.1).unwrap().percent_of(Cores::ZERO) > Percent::threshold(100.0).unwrap());
    }
}
