//! The cipher suites: HMACs, keys, AES (IPMI 2.0 §13.28 to §13.32, table 22-20).

use aes::Aes128;
use cbc::{
    Decryptor, Encryptor,
    cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _, block_padding::NoPadding},
};
use hmac::{Hmac, KeyInit as _};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

/// A cipher suite, all with AES-CBC-128.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suite {
    /// 17: SHA-256 throughout. What current BMCs prefer.
    Sha256,
    /// 3: SHA-1 throughout. What every BMC with IPMI 2.0 has.
    Sha1,
}

impl Suite {
    /// The better ones first.
    pub(super) const ALL: [Self; 2] = [Self::Sha256, Self::Sha1];

    /// Its number in table 22-20.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Sha256 => 17,
            Self::Sha1 => 3,
        }
    }

    /// The numbers of its authentication, integrity and confidentiality algorithms (tables 13-17 to 13-19).
    pub(super) fn algorithms(self) -> [u8; 3] {
        match self {
            Self::Sha256 => [3, 4, 1],
            Self::Sha1 => [1, 1, 1],
        }
    }

    /// The length of an integrity check value.
    pub(super) fn check_length(self) -> usize {
        match self {
            Self::Sha256 => 16,
            Self::Sha1 => 12,
        }
    }

    /// The length of a key exchange authentication code.
    pub(super) fn code_length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha1 => 20,
        }
    }

    /// The HMAC of the parts one after the other.
    pub(super) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha256 => with(Hmac::<Sha256>::new_from_slice(key), parts),
            Self::Sha1 => with(Hmac::<Sha1>::new_from_slice(key), parts),
        }
    }

    /// Whether a code is the (possibly truncated) HMAC, in constant time.
    pub(super) fn verify(self, key: &[u8], parts: &[&[u8]], code: &[u8]) -> bool {
        let expected = self.hmac(key, parts);
        let differences = expected.iter().zip(code).fold(0, |all, (a, b)| all | (a ^ b));
        (12..=expected.len()).contains(&code.len()) && differences == 0
    }
}

fn with<M: hmac::Mac>(mac: Result<M, impl Sized>, parts: &[&[u8]]) -> Vec<u8> {
    // An HMAC takes keys of every length.
    let Ok(mac) = mac else { return Vec::new() };
    parts.iter().fold(mac, |mac, part| mac.chain_update(part)).finalize().into_bytes().to_vec()
}

/// The keys of a session, made of its session integrity key.
pub(super) struct Keys {
    pub(super) suite: Suite,
    integrity: Zeroizing<Vec<u8>>,
    encryption: Zeroizing<[u8; 16]>,
}

impl Keys {
    /// K1 and K2 (§13.32): HMACs of constants, keyed with the session integrity key.
    pub(super) fn new(suite: Suite, session_key: &[u8]) -> Self {
        let mut encryption = Zeroizing::new([0; 16]);
        let second = Zeroizing::new(suite.hmac(session_key, &[&[2; 20]]));
        encryption.iter_mut().zip(second.iter()).for_each(|(to, from)| *to = *from);
        Self { suite, integrity: Zeroizing::new(suite.hmac(session_key, &[&[1; 20]])), encryption }
    }

    /// The integrity check value of a packet.
    pub(super) fn check(&self, bytes: &[u8]) -> Vec<u8> {
        let mut code = self.suite.hmac(&self.integrity, &[bytes]);
        code.truncate(self.suite.check_length());
        code
    }

    /// Whether a packet's integrity check value is right.
    pub(super) fn is_intact(&self, bytes: &[u8], code: &[u8]) -> bool {
        self.suite.verify(&self.integrity, &[bytes], code)
    }

    /// The initialization vector and the encrypted payload, padded with 1, 2, 3… and their count (§13.29).
    pub(super) fn encrypt(&self, payload: &[u8], iv: [u8; 16]) -> Vec<u8> {
        let mut plain = payload.to_vec();
        let mut padding = 0;
        while plain.len() % 16 != 15 {
            padding += 1;
            plain.push(padding);
        }
        plain.push(padding);
        let cipher = Encryptor::<Aes128>::new((&*self.encryption).into(), (&iv).into());
        let length = plain.len();
        let mut bytes = iv.to_vec();
        // The plain text is a whole number of blocks.
        if let Ok(encrypted) = cipher.encrypt_padded::<NoPadding>(&mut plain, length) {
            bytes.extend_from_slice(encrypted);
        }
        bytes
    }

    /// The payload, or nothing if it isn't whole blocks with right padding.
    pub(super) fn decrypt(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (iv, encrypted) = bytes.split_at_checked(16)?;
        let iv: &[u8; 16] = iv.try_into().ok()?;
        let mut plain = encrypted.to_vec();
        let cipher = Decryptor::<Aes128>::new((&*self.encryption).into(), iv.into());
        cipher.decrypt_padded::<NoPadding>(&mut plain).ok()?;
        let padding = usize::from(plain.pop()?);
        let length = plain.len().checked_sub(padding)?;
        let right = plain.get(length..)?.iter().zip(1u8..).all(|(found, expected)| *found == expected);
        plain.truncate(length);
        right.then_some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hmacs_are_those_of_the_rfcs() {
        // RFC 2202, test case 2, and RFC 4231, test case 2.
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let parts: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        assert_eq!(hex(Suite::Sha1.hmac(b"Jefe", &parts)), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        assert_eq!(
            hex(Suite::Sha256.hmac(b"Jefe", &parts)),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    proptest! {
        #[test]
        fn what_is_encrypted_can_be_read_and_what_is_changed_is_seen(
            payload in prop::collection::vec(any::<u8>(), 0..80),
            key in prop::collection::vec(any::<u8>(), 20..32),
            garbage in prop::collection::vec(any::<u8>(), 0..80),
            iv in any::<[u8; 16]>(),
            at in any::<usize>(),
        ) {
            for suite in Suite::ALL {
                let keys = Keys::new(suite, &key);
                let mut bytes = keys.encrypt(&payload, iv);
                prop_assert_eq!(keys.decrypt(&bytes), Some(payload.clone()));
                let code = keys.check(&bytes);
                prop_assert!(keys.is_intact(&bytes, &code));
                let length = bytes.len();
                bytes[at % length] ^= 1;
                prop_assert!(!keys.is_intact(&bytes, &code));
                prop_assert!(!keys.is_intact(&bytes, &code[..4]));
                let _ = (keys.decrypt(&bytes), keys.decrypt(&garbage));
            }
        }
    }
}
