//! The first word on a connection, by which each relay knows that the other one stands there.
//!
//! A cluster may run KubeVirt's migrations without TLS, and then anybody on the network may connect. So the first word
//! carries a proof of the migration's secret, which the operator told both relays and nobody else. The target answers
//! with the source's nonce: an answer that was overheard elsewhere fits no other connection.
//!
//! QEMU's own connections never begin like it, so the target can tell a source that passes its stream as it is.

/// How long a greeting is.
pub const LENGTH: usize = 64;

const MAGIC: [u8; 4] = *b"MYKR";
/// Of the frames that follow. The operator matches nodes whose relays speak the same.
pub const VERSION: u8 = 1;
const SAID: usize = LENGTH - 32;

/// What the operator told both relays for one migration.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// A secret of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn proof(&self, said: &[u8]) -> blake3::Hash {
        let key = blake3::derive_key("miyako relay: greetings of a migration, version 1", &self.0);
        blake3::keyed_hash(&key, said)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The relay beside the source's QEMU, which speaks first.
    Source,
    /// The one beside the target's.
    Target,
}

/// A greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// Who speaks.
    pub from: From,
    /// The number of the connection, in the order in which the source's QEMU made them.
    pub connection: u16,
    /// Chosen by the source at random, repeated by the target.
    pub nonce: [u8; 16],
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// More must come.
    More,
    /// A stream without a relay at its other end: to be passed as it is.
    Plain,
    /// A greeting, of [`LENGTH`] bytes.
    Greeting(Greeting),
    /// A greeting of another version.
    OtherVersion(u8),
    /// Something that begins like a greeting, of somebody who does not know the secret.
    Forged,
}

impl Greeting {
    /// The greeting with its proof.
    #[must_use]
    pub fn seal(&self, secret: &Secret) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = match self.from {
            From::Source => 0,
            From::Target => 1,
        };
        bytes[6..8].copy_from_slice(&self.connection.to_be_bytes());
        bytes[8..24].copy_from_slice(&self.nonce);
        let proof = secret.proof(&bytes[..SAID]);
        bytes[SAID..].copy_from_slice(proof.as_bytes());
        bytes
    }

    /// What the target answers to it.
    #[must_use]
    pub fn answer(self) -> Self {
        Self { from: From::Target, ..self }
    }
}

/// What a connection begins with.
#[must_use]
pub fn first(bytes: &[u8], secret: &Secret) -> First {
    if bytes.is_empty() {
        return First::More;
    }
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return First::Plain;
    }
    let Some(bytes) = bytes.first_chunk::<LENGTH>() else { return First::More };
    if bytes[4] != VERSION {
        return First::OtherVersion(bytes[4]);
    }
    let proof: [u8; 32] = std::array::from_fn(|at| bytes[SAID + at]);
    // `blake3::Hash` compares in constant time.
    if secret.proof(&bytes[..SAID]) != proof {
        return First::Forged;
    }
    let from = match bytes[5] {
        0 => From::Source,
        1 => From::Target,
        _ => return First::Forged,
    };
    let nonce = std::array::from_fn(|at| bytes[8 + at]);
    First::Greeting(Greeting { from, connection: u16::from_be_bytes([bytes[6], bytes[7]]), nonce })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: Greeting = Greeting { from: From::Source, connection: 3, nonce: [9; 16] };

    #[test]
    fn only_who_knows_the_secret_is_believed() {
        let secret = Secret::new([1; 32]);
        let sealed = GREETING.seal(&secret);
        assert_eq!(first(&sealed, &secret), First::Greeting(GREETING));
        assert_eq!(first(&GREETING.answer().seal(&secret), &secret), First::Greeting(GREETING.answer()));
        assert_eq!(first(&sealed, &Secret::new([2; 32])), First::Forged);
        for at in 5..LENGTH {
            let mut other = sealed;
            other[at] ^= 1;
            assert_eq!(first(&other, &secret), First::Forged, "byte {at}");
        }
        let mut newer = sealed;
        newer[4] = 2;
        assert_eq!(first(&newer, &secret), First::OtherVersion(2));
    }

    #[test]
    fn a_plain_stream_is_known_by_its_first_byte() {
        let secret = Secret::new([1; 32]);
        for plain in [&b"QEVM"[..], b"Q", &[0], &[8], &[0x11, 0x22], b"MYKQ"] {
            assert_eq!(first(plain, &secret), First::Plain);
        }
        let sealed = GREETING.seal(&secret);
        assert!((0..LENGTH).all(|length| first(&sealed[..length], &secret) == First::More));
    }
}
