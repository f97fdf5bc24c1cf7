//! Kubernetes' quantities (`250m`, `1.5Gi`, `12e6`) as exact thousandths.
//!
//! Arithmetic saturates: an absurd amount stays absurd, and none of it can panic.

use super::Problems;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use miyako_core::model::{Bytes, MilliCpu, Resources};
use std::collections::BTreeMap;

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number with one of Kubernetes' suffixes.
    #[error("{0:?} is not a quantity; write a number with a suffix such as m, k, M, G, Ki, Mi or Gi")]
    Malformed(String),
    /// Below zero.
    #[error("{0:?} is negative; write zero or more")]
    Negative(String),
}

/// Longer texts are no quantities; Kubernetes itself writes at most some twenty characters.
const LONGEST: usize = 64;

/// A quantity in thousandths of its unit, rounded up as Kubernetes does.
///
/// # Errors
/// Refuses what is no quantity, and negative ones.
pub fn thousandths(text: &str) -> Result<u128, QuantityError> {
    let malformed = || QuantityError::Malformed(text.chars().take(LONGEST).collect());
    let trimmed = text.trim();
    if trimmed.len() > LONGEST {
        return Err(malformed());
    }
    let (negative, unsigned) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(malformed());
    }
    let scale = Scale::of(suffix).ok_or_else(malformed)?;
    // The digits as one integer, and how many of them lie behind the point.
    let digits = whole
        .bytes()
        .chain(fraction.bytes())
        .fold(0_u128, |value, digit| value.saturating_mul(10).saturating_add(u128::from(digit.saturating_sub(b'0'))));
    let places = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let value = scale.apply(digits, places);
    if negative && value > 0 { Err(QuantityError::Negative(text.to_owned())) } else { Ok(value) }
}

/// What a suffix multiplies by.
enum Scale {
    /// A power of 1024.
    Binary(u32),
    /// A power of ten.
    Decimal(i32),
}

impl Scale {
    fn of(suffix: &str) -> Option<Self> {
        Some(match suffix {
            "Ki" => Self::Binary(1),
            "Mi" => Self::Binary(2),
            "Gi" => Self::Binary(3),
            "Ti" => Self::Binary(4),
            "Pi" => Self::Binary(5),
            "Ei" => Self::Binary(6),
            "n" => Self::Decimal(-9),
            "u" => Self::Decimal(-6),
            "m" => Self::Decimal(-3),
            "" => Self::Decimal(0),
            "k" => Self::Decimal(3),
            "M" => Self::Decimal(6),
            "G" => Self::Decimal(9),
            "T" => Self::Decimal(12),
            "P" => Self::Decimal(15),
            "E" => Self::Decimal(18),
            _ => Self::Decimal(suffix.strip_prefix(['e', 'E'])?.parse::<i8>().ok()?.into()),
        })
    }

    fn apply(&self, digits: u128, places: i32) -> u128 {
        let (value, power) = match self {
            Self::Binary(power) => (digits.saturating_mul(1024_u128.pow(*power)), 3 - places),
            Self::Decimal(power) => (digits, power.saturating_add(3).saturating_sub(places)),
        };
        let ten = |power: u32| 10_u128.checked_pow(power);
        match u32::try_from(power) {
            Ok(up) if value > 0 => value.saturating_mul(ten(up).unwrap_or(u128::MAX)),
            Ok(_) => 0,
            Err(_) => ten(power.unsigned_abs()).map_or(u128::from(value > 0), |by| value.div_ceil(by)),
        }
    }
}

fn saturating(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// A quantity in whole units, rounded up.
///
/// # Errors
/// Refuses what is no quantity, and negative ones.
pub fn whole(text: &str) -> Result<u64, QuantityError> {
    thousandths(text).map(|milli| saturating(milli.div_ceil(1000)))
}

/// A quantity of bytes, rounded up.
///
/// # Errors
/// Refuses what is no quantity, and negative ones.
pub fn bytes(text: &str) -> Result<Bytes, QuantityError> {
    whole(text).map(Bytes)
}

/// A quantity of CPU, rounded up to thousandths of a core.
///
/// # Errors
/// Refuses what is no quantity, and negative ones.
pub fn cpu(text: &str) -> Result<MilliCpu, QuantityError> {
    thousandths(text).map(|milli| MilliCpu(saturating(milli)))
}

/// A resource list. What is no quantity counts as nothing and is noted.
pub fn resources(list: Option<&BTreeMap<String, Quantity>>, field: &str, problems: &mut Problems) -> Resources {
    let mut resources = Resources::default();
    for (name, Quantity(text)) in list.into_iter().flatten() {
        let at =
            |problems: &mut Problems, error: QuantityError| problems.note(format!("{field}.{name}"), error.to_string());
        let milli = match thousandths(text) {
            Ok(milli) => milli,
            Err(error) => {
                at(problems, error);
                continue;
            }
        };
        let units = saturating(milli.div_ceil(1000));
        match name.as_str() {
            "cpu" => resources.cpu = MilliCpu(saturating(milli)),
            "memory" => resources.memory = Bytes(units),
            "ephemeral-storage" => resources.ephemeral_storage = Bytes(units),
            "pods" => resources.pods = units,
            _ => {
                resources.extended.insert(name.clone(), units);
            }
        }
    }
    resources
}

/// Of each resource the larger amount.
#[must_use]
pub fn larger(mut one: Resources, other: &Resources) -> Resources {
    one.cpu = one.cpu.max(other.cpu);
    one.memory = one.memory.max(other.memory);
    one.ephemeral_storage = one.ephemeral_storage.max(other.ephemeral_storage);
    one.pods = one.pods.max(other.pods);
    for (name, amount) in &other.extended {
        let most = one.extended.entry(name.clone()).or_default();
        *most = (*most).max(*amount);
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suffix_means_what_kubernetes_says() {
        let cases = [
            ("0", 0),
            ("1", 1000),
            ("100m", 100),
            ("1.5", 1500),
            (".5", 500),
            ("5.", 5000),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("2k", 2_000_000),
            ("12e6", 12_000_000_000),
            ("12E-2", 120),
            ("1E", 1_000_000_000_000_000_000_000),
            ("1n", 1),
            ("100u", 1),
            ("+3", 3000),
            ("-0", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(thousandths(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_and_absurd_amounts_saturate() {
        for text in ["", ".", "NaN", "inf", "1.2.3", "1 Gi", "Gi", "1ki", "0x10", "1e", "1e999", "١"] {
            assert!(matches!(thousandths(text), Err(QuantityError::Malformed(_))), "{text}");
        }
        assert_eq!(thousandths("-1"), Err(QuantityError::Negative("-1".into())));
        assert_eq!(bytes("999999999999999999999999999999999999Ei"), Ok(Bytes(u64::MAX)));
        assert_eq!(whole("1e-127"), Ok(1));
        assert!(thousandths(&"9".repeat(1 << 20)).is_err());
    }
}
