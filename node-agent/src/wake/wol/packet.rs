//! The magic packet (AMD, "Magic Packet Technology", publication 20213): six bytes of ones, then the MAC address sixteen
//! times, then the SecureOn password if there is one.

use miyako_api::wake::{MacAddress, hex_bytes};
use secrecy::{ExposeSecret as _, SecretSlice};
use std::{fmt, str::FromStr};
use thiserror::Error;

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
    packet.extend(mac.bytes().repeat(16));
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
        assert!("0102".parse::<SecureOn>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_password_or_an_error(text in "\\PC*", near in "[0-9a-f:é-]{0,20}") {
            for text in [text, near] {
                let _ = text.parse::<SecureOn>();
            }
        }
    }
}
