//! The first word on a connection, by which each relay knows that the other one stands there.
//!
//! A cluster may run KubeVirt's migrations without TLS, and then anybody on the network may connect. So the first word
//! carries a proof of the migration's secret, which the operator told both relays and nobody else. The target answers
//! with the source's nonce: an answer that was overheard elsewhere fits no other connection.
//!
//! QEMU's own connections never begin like it, so the target can tell a source that passes its stream as it is.
//!
//! A greeting says what the target holds, as far as the speaker knows: where the source is right, no announcement is
//! needed ([`Greeting::knows`]). It also hands on the key under which the VM's pages are hashed, from a relay that has
//! one, sealed by the migration's secret. What both then use is [`agreed`].

use crate::hash::VmKey;
use crate::index::Sum;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};

/// How long a greeting is.
pub const LENGTH: usize = HEAD + SEALED + 32;

const MAGIC: [u8; 4] = *b"MYKR";
/// Of the frames that follow. The operator matches nodes whose relays speak the same.
pub const VERSION: u8 = 1;
/// Magic, version, who speaks, connection, nonce, what is held, whether there is a key, and seven bytes of room.
const HEAD: usize = 4 + 1 + 1 + 2 + 16 + 24 + 8;
const HELD: usize = 24;
const HAS_KEY: usize = HELD + 24;
/// A key and what authenticates it.
const SEALED: usize = 32 + 16;

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

    /// Seals what one greeting carries, and nothing else: its key follows from everything that the greeting says.
    fn seal(&self, head: &[u8]) -> ChaCha20Poly1305 {
        let key = blake3::derive_key("miyako relay: keys of VMs in greetings, version 1", &self.0);
        ChaCha20Poly1305::new(&(*blake3::keyed_hash(&key, head).as_bytes()).into())
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Who speaks.
    pub from: From,
    /// The number of the connection, in the order in which the source's QEMU made them.
    pub connection: u16,
    /// Chosen by the source at random, repeated by the target. None is used twice with the same secret.
    pub nonce: [u8; 16],
    /// What the target holds: what the source believes, or what is so. Nothing, where nothing is known.
    pub held: Sum,
    /// The key under which the speaker's images of the VM are hashed, if it has any.
    pub key: Option<VmKey>,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        bytes[HELD..HELD + 8].copy_from_slice(&self.held.count.to_be_bytes());
        bytes[HELD + 8..HELD + 24].copy_from_slice(&self.held.sum.to_be_bytes());
        bytes[HAS_KEY] = u8::from(self.key.is_some());
        let (head, rest) = bytes.split_at_mut(HEAD);
        if let Some(key) = &self.key {
            // It fails for gigabytes only.
            let sealed = secret.seal(head).encrypt(&Nonce::default(), Payload { msg: key.expose(), aad: head });
            rest[..SEALED].copy_from_slice(&sealed.unwrap_or_else(|_| vec![0; SEALED]));
        }
        let proof = secret.proof(&bytes[..HEAD + SEALED]);
        bytes[HEAD + SEALED..].copy_from_slice(proof.as_bytes());
        bytes
    }

    /// What a target answers to it that holds this, under such a key.
    #[must_use]
    pub fn answer(&self, held: Sum, key: Option<VmKey>) -> Self {
        Self { from: From::Target, held, key, ..*self }
    }

    /// Whether the source that greets so knows what the target holds, page by page, so that the target need not say it.
    /// Both must mean the same key.
    #[must_use]
    pub fn knows(&self, held: Sum, key: Option<&VmKey>) -> bool {
        self.held == held && self.key.as_ref() == key
    }
}

/// The key that both relays hash under: the target's, because it is the target's pages that are referred to, else the
/// source's, under which the target then keeps what passes. Without either there are no references, and whoever keeps
/// an image makes a key.
#[must_use]
pub fn agreed(source: Option<VmKey>, target: Option<VmKey>) -> Option<VmKey> {
    target.or(source)
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
    // The version stands where it always will; how long a greeting of another version is, nobody knows.
    match bytes.get(4) {
        None => return First::More,
        Some(&VERSION) => {}
        Some(version) => return First::OtherVersion(*version),
    }
    let Some(bytes) = bytes.first_chunk::<LENGTH>() else { return First::More };
    read(bytes, secret).map_or(First::Forged, First::Greeting)
}

fn read(bytes: &[u8; LENGTH], secret: &Secret) -> Option<Greeting> {
    let (said, proof) = bytes.split_at(HEAD + SEALED);
    // `blake3::Hash` compares in constant time.
    if secret.proof(said) != *proof.first_chunk::<32>()? {
        return None;
    }
    let (head, sealed) = said.split_at(HEAD);
    let from = match head[5] {
        0 => From::Source,
        1 => From::Target,
        _ => return None,
    };
    let key = match head[HAS_KEY] {
        0 => None,
        1 => {
            let key = secret.seal(head).decrypt(&Nonce::default(), Payload { msg: sealed, aad: head }).ok()?;
            Some(VmKey::new(key.try_into().ok()?))
        }
        _ => return None,
    };
    let connection = u16::from_be_bytes([head[6], head[7]]);
    let (nonce, count) = (*head[8..].first_chunk()?, u64::from_be_bytes(*head[HELD..].first_chunk()?));
    let held = Sum { count, sum: u128::from_be_bytes(*head[HELD + 8..].first_chunk()?) };
    Some(Greeting { from, connection, nonce, held, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD_NOW: Sum = Sum { count: 5, sum: 1 << 90 };

    fn greeting(key: Option<VmKey>) -> Greeting {
        Greeting { from: From::Source, connection: 3, nonce: [9; 16], held: HELD_NOW, key }
    }

    #[test]
    fn only_who_knows_the_secret_is_believed() {
        let secret = Secret::new([1; 32]);
        for key in [None, Some(VmKey::new([5; 32]))] {
            let sealed = greeting(key.clone()).seal(&secret);
            assert_eq!(first(&sealed, &secret), First::Greeting(greeting(key.clone())));
            assert_eq!(first(&sealed, &Secret::new([2; 32])), First::Forged);
            let answer = greeting(None).answer(Sum { count: 1, sum: 2 }, key);
            assert_eq!(first(&answer.seal(&secret), &secret), First::Greeting(answer));
            for at in 5..LENGTH {
                let mut other = sealed;
                other[at] ^= 1;
                assert_eq!(first(&other, &secret), First::Forged, "byte {at}");
            }
            let mut newer = sealed;
            newer[4] = 2;
            assert_eq!(first(&newer[..5], &secret), First::OtherVersion(2));
        }
    }

    /// On the wire a key looks like another one each time, and never like itself.
    #[test]
    fn a_key_is_handed_on_and_not_shown() {
        let (secret, key) = (Secret::new([1; 32]), VmKey::new([5; 32]));
        let sealed = |nonce| Greeting { nonce, ..greeting(Some(key.clone())) }.seal(&secret);
        let part = |bytes: [u8; LENGTH]| bytes[HEAD..HEAD + SEALED].to_vec();
        assert_ne!(part(sealed([1; 16])), part(sealed([2; 16])));
        assert!(!sealed([1; 16]).windows(4).any(|window| window == [5; 4]));
        let answer = greeting(None).answer(HELD_NOW, Some(key.clone()));
        assert_ne!(part(greeting(Some(key)).seal(&secret)), part(answer.seal(&secret)));
    }

    #[test]
    fn the_targets_key_goes_before_the_sources() {
        let key = |byte| Some(VmKey::new([byte; 32]));
        assert_eq!(agreed(key(1), key(2)), key(2));
        assert_eq!(agreed(key(1), None), key(1));
        assert_eq!(agreed(None, None), None);
    }

    #[test]
    fn who_knows_what_is_held_needs_no_announcement() {
        let (key, other) = (VmKey::new([5; 32]), VmKey::new([6; 32]));
        let source = greeting(Some(key.clone()));
        assert!(source.knows(HELD_NOW, Some(&key)));
        assert!(!source.knows(Sum { count: 4, ..HELD_NOW }, Some(&key)));
        assert!(!source.knows(HELD_NOW, Some(&other)) && !source.knows(HELD_NOW, None));
    }

    #[test]
    fn a_plain_stream_is_known_by_its_first_byte() {
        let secret = Secret::new([1; 32]);
        for plain in [&b"QEVM"[..], b"Q", &[0], &[8], &[0x11, 0x22], b"MYKQ"] {
            assert_eq!(first(plain, &secret), First::Plain);
        }
        let sealed = greeting(None).seal(&secret);
        assert!((0..LENGTH).all(|length| first(&sealed[..length], &secret) == First::More));
    }
}
