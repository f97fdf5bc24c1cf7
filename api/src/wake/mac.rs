//! Network cards' addresses.

use std::{fmt, str::FromStr};
use thiserror::Error;

/// A network card's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MacAddress([u8; 6]);

/// Why a text is no MAC address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MacAddressError {
    /// Not six bytes in hex.
    #[error("{0:?} is no MAC address: write 52:54:00:12:34:56, 52-54-00-12-34-56 or 525400123456")]
    Malformed(String),
    /// A group address, which no network card has.
    #[error("{0} is a group address and no network card's own: write the MAC address of the node's wired card")]
    Group(MacAddress),
    /// All zeros.
    #[error("00:00:00:00:00:00 is no network card's address")]
    Zero,
}

impl MacAddress {
    /// Its six bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    /// Six bytes in hex with colons, dashes or nothing between them: a label's value may hold no colon.
    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        let malformed = || MacAddressError::Malformed(text.to_owned());
        let mac = Self(hex_bytes(text).ok_or_else(malformed)?.try_into().map_err(|_| malformed())?);
        match mac.0 {
            [0, 0, 0, 0, 0, 0] => Err(MacAddressError::Zero),
            [first, ..] if first & 1 == 1 => Err(MacAddressError::Group(mac)),
            _ => Ok(mac),
        }
    }
}

/// Bytes in hex, two digits each, either all apart by the same `:` or `-`, or none; nothing if the text is anything else.
#[must_use]
pub fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let separator = text.chars().nth(2).filter(|c| matches!(c, ':' | '-'));
    let digits = match separator {
        Some(separator) => {
            let groups: Vec<_> = text.split(separator).collect();
            groups.iter().all(|group| group.len() == 2).then(|| groups.concat())?
        }
        None => text.to_owned(),
    };
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_cards_address_is_refused_with_a_reason() {
        assert_eq!("52-54-00-12-34-56".parse::<MacAddress>().unwrap().to_string(), "52:54:00:12:34:56");
        for (text, message) in [
            (
                "52:54:00:12:34",
                r#""52:54:00:12:34" is no MAC address: write 52:54:00:12:34:56, 52-54-00-12-34-56 or 525400123456"#,
            ),
            (
                "52:54-00:12:34:56",
                r#""52:54-00:12:34:56" is no MAC address: write 52:54:00:12:34:56, 52-54-00-12-34-56 or 525400123456"#,
            ),
            (
                "ff:ff:ff:ff:ff:ff",
                "ff:ff:ff:ff:ff:ff is a group address and no network card's own: write the MAC address of the node's wired card",
            ),
            ("000000000000", "00:00:00:00:00:00 is no network card's address"),
        ] {
            assert_eq!(text.parse::<MacAddress>().unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in "\\PC*", near in "[0-9a-f:é-]{0,20}") {
            for text in [text, near] {
                if let Ok(mac) = text.parse::<MacAddress>() {
                    prop_assert_eq!(mac.to_string().parse::<MacAddress>().unwrap(), mac);
                }
            }
        }
    }
}
