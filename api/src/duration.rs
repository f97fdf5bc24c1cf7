//! A span of time as people write it in our resources: `5s`, `10m`, `1h30m`.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time};

/// A duration in Go's notation, kept as it was written so that nothing we store differs from what was applied.
///
/// The schema has judged it before it is stored, but an object may be older than the schema: reading one never fails,
/// [`Duration::get`] does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(String);

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: write one such as 5s, 10m or 1h30m")]
pub struct DurationError {
    /// What was written.
    pub text: String,
}

impl Duration {
    /// What was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whole seconds, in the shortest notation.
    #[must_use]
    pub fn from_secs(seconds: u64) -> Self {
        let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
        let text: String =
            parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
        Self(if text.is_empty() { "0s".to_owned() } else { text })
    }

    /// How long it is.
    ///
    /// # Errors
    /// When the text is no duration, is negative, or is longer than about 500 years.
    pub fn get(&self) -> Result<time::Duration, DurationError> {
        parse(&self.0).ok_or_else(|| DurationError { text: self.0.chars().take(64).collect() })
    }
}

impl From<&str> for Duration {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads one or more `<digits><unit>` with the units `ms`, `s`, `m` and `h`: the same language as the schema's rule.
fn parse(text: &str) -> Option<time::Duration> {
    let mut rest = text;
    let mut total = time::Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|length| (1..=6).contains(length))?;
        let count = u64::from_str(&rest[..digits]).ok()?;
        rest = &rest[digits..];
        let (length, one) = match rest.as_bytes() {
            [b'm', b's', ..] => (2, time::Duration::from_millis(count)),
            [b's', ..] => (1, time::Duration::from_secs(count)),
            [b'm', ..] => (1, time::Duration::from_secs(count * 60)),
            [b'h', ..] => (1, time::Duration::from_secs(count * 3600)),
            _ => return None,
        };
        total += one;
        rest = &rest[length..];
    }
    (!text.is_empty() && text.len() <= MAX_LENGTH).then_some(total)
}

/// The longest text that is read as a duration.
pub(crate) const MAX_LENGTH: usize = 32;

/// The same language as [`Duration::get`] reads, for CEL.
pub(crate) const PATTERN: &str = "^([0-9]{1,6}(ms|s|m|h)){1,8}$";

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<f64> {
        Duration::from(text).get().ok().map(|duration| duration.as_secs_f64())
    }

    #[test]
    fn reads_what_people_write() {
        assert_eq!(seconds("5s"), Some(5.0));
        assert_eq!(seconds("1h30m"), Some(5400.0));
        assert_eq!(seconds("1m500ms"), Some(60.5));
    }

    #[test]
    fn refuses_the_rest_without_a_panic() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "1.5h",
            "5d",
            "9999999s",
            "5s5",
            "\u{0665}s",
            "1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn seconds_come_out_short_and_come_back() {
        for (count, text) in [(0, "0s"), (20, "20s"), (300, "5m"), (5400, "1h30m"), (3601, "1h1s")] {
            let duration = Duration::from_secs(count);
            assert_eq!(duration.as_str(), text);
            assert_eq!(duration.get().map(|d| d.as_secs()), Ok(count));
        }
    }
}
