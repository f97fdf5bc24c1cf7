//! The magic packet (AMD, "Magic Packet Technology", publication 20213): six bytes of ones, then the MAC address sixteen
//! times, then the SecureOn password if there is one.

use secrecy::{ExposeSecret as _, SecretSlice};
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

/// Bytes in hex, two digits each, either all apart by the same `:` or `-`, or none.
fn hex_bytes(text: &str) -> Option<Vec<u8>> {
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

/// A SecureOn password: four or six bytes that the network card compares. It travels in clear.
#[derive(Clone)]
pub struct SecureOn(SecretSlice<u8>);

impl fmt::Debug for SecureOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecureOn(redacted)")
    }
}

/// The text is no SecureOn password. Does not quote it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the SecureOn password is not four or six bytes in hex, such as 01:02:03:04:05:06")]
pub struct SecureOnError;

impl FromStr for SecureOn {
    type Err = SecureOnError;

    fn from_str(text: &str) -> Result<Self, SecureOnError> {
        let bytes = hex_bytes(text).ok_or(SecureOnError)?;
        if !matches!(bytes.len(), 4 | 6) {
            return Err(SecureOnError);
        }
        Ok(Self(SecretSlice::from(bytes)))
    }
}

/// The packet that wakes this card: 102, 106 or 108 bytes.
#[must_use]
pub fn magic_packet(mac: MacAddress, secure_on: Option<&SecureOn>) -> Vec<u8> {
    let mut packet = vec![0xff; 6];
    packet.extend(mac.0.repeat(16));
    if let Some(SecureOn(password)) = secure_on {
        packet.extend_from_slice(password.expose_secret());
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_packet_is_ones_and_sixteen_times_the_address() {
        let mac: MacAddress = "52-54-00-12-34-56".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:12:34:56");
        let packet = magic_packet(mac, None);
        assert_eq!(packet.len(), 102);
        assert_eq!(packet[..6], [0xff; 6]);
        assert!(packet[6..].chunks(6).all(|chunk| chunk == [0x52, 0x54, 0, 0x12, 0x34, 0x56]));
        let password: SecureOn = "01:02:03:04:05:06".parse().unwrap();
        assert_eq!(magic_packet(mac, Some(&password))[102..], [1, 2, 3, 4, 5, 6]);
        assert_eq!(magic_packet(mac, Some(&"0a0b0c0d".parse().unwrap())).len(), 106);
        assert_eq!(format!("{password:?}"), "SecureOn(redacted)");
    }

    #[test]
    fn what_is_no_cards_address_is_refused_with_a_reason() {
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
        assert!("0102".parse::<SecureOn>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in "\\PC*", near in "[0-9a-f:é-]{0,20}") {
            for text in [text, near] {
                if let Ok(mac) = text.parse::<MacAddress>() {
                    prop_assert_eq!(mac.to_string().parse::<MacAddress>().unwrap(), mac);
                }
                let _ = text.parse::<SecureOn>();
            }
        }
    }
}
