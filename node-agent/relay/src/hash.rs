//! What a page is called by: hashes, and the keys that make them worth something.
//!
//! # Within a VM: Poly1305 as a universal hash
//!
//! Every page that passes is hashed at both ends, so the hash decides how fast a relay is. A keyed universal hash is
//! enough where the one who chooses the pages, the guest, neither knows the key nor ever sees a hash: two pages that
//! were chosen without them have the same [`Tag`] with a probability of at most 2⁻⁹⁵, at twice the speed of the
//! fastest collision-resistant hash where AVX2 is built in, and at the same without (`benches/throughput.rs`). A guest
//! that had the key could make its own two pages change places and would harm itself alone, because a tag stands for
//! pages of one VM only.
//!
//! # Across VMs: BLAKE3
//!
//! A page of another VM may be what *that* VM chose, so only a collision-resistant hash will do: [`Digest`]. Its key is
//! that of a namespace, so that a digest says nothing to another.
//!
//! # Whose a VM's key is
//!
//! A [`VmKey`] belongs to the images of one VM, and lives as long as the longest-lived of them:
//!
//! - **Made** by the relay that saves the first image of the VM, from the kernel's random numbers. The operator has no
//!   part in it and needs no right to Secrets.
//! - **Kept** in the header of each image file, which only root may read, and nowhere else. So it outlives restarts and
//!   S3, and is gone when the last image is wiped.
//! - **Handed on** in band, in the greeting of whoever has it ([`greeting`](crate::frame::greeting)), sealed under the
//!   migration's secret. The operator tells that secret to both ends, over the agents' own mutually authenticated
//!   streams. So a third node has the key as soon as it has a reason to.
//! - **Where two ends have different keys** (each made one while it did not know of the other), the target's is used,
//!   as its image is what references point to. What the source saves on the way out is saved under it too, so the two
//!   meet.
//!
//! [`KeyId`] tells keys apart without telling them.

use crate::PAGE;
use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit, UniversalHash};
use std::fmt;

/// The secret under which pages of one VM are hashed.
#[derive(Clone, PartialEq, Eq)]
pub struct VmKey([u8; 32]);

impl VmKey {
    /// A key of these bytes, which nobody else may be able to guess.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the header of an image.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What it may be called by in public.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest = blake3::derive_key("miyako relay: the name of a VM's key, version 1", &self.0);
        KeyId(*digest.first_chunk().expect("16 of 32 bytes"))
    }
}

impl fmt::Debug for VmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VmKey({:?})", self.id())
    }
}

/// The name of a [`VmKey`], which says nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 16]);

/// A page's hash under a VM's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub [u8; 16]);

impl Tag {
    /// Half of it: enough to look up by, not to believe.
    #[must_use]
    pub fn fingerprint(self) -> Fingerprint {
        Fingerprint(u64::from_le_bytes(*self.0.first_chunk().expect("8 of 16 bytes")))
    }
}

/// Half of a [`Tag`], as an index and its announcement have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

/// A page's hash among VMs that may share pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// Hashes the pages of one VM.
#[derive(Clone, Debug)]
pub struct PageHash {
    /// With the powers of its key, ready to be copied.
    prepared: Poly1305,
}

impl PageHash {
    /// For the VM of this key.
    #[must_use]
    pub fn new(key: &VmKey) -> Self {
        let key = blake3::derive_key("miyako relay: hashes of a VM's pages, version 1", &key.0);
        Self { prepared: Poly1305::new(&key.into()) }
    }

    /// The page's hash.
    #[must_use]
    pub fn tag(&self, page: &[u8; PAGE]) -> Tag {
        let mut hash = self.prepared.clone();
        hash.update_padded(page);
        Tag(hash.finalize().into())
    }
}

/// Hashes pages that the VMs of one namespace may share.
#[derive(Clone)]
pub struct SharedHash {
    key: [u8; 32],
}

impl SharedHash {
    /// For the namespace of this key.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { key: blake3::derive_key("miyako relay: hashes of pages that VMs share, version 1", &key) }
    }

    /// The page's hash.
    #[must_use]
    pub fn digest(&self, page: &[u8; PAGE]) -> Digest {
        Digest(*blake3::keyed_hash(&self.key, page).as_bytes())
    }
}

impl fmt::Debug for SharedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedHash").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: VmKey = VmKey([7; 32]);

    #[test]
    fn a_bit_or_another_key_make_another_hash() {
        let page = [3; PAGE];
        let hash = PageHash::new(&KEY);
        let tag = hash.tag(&page);
        assert_eq!(tag, hash.tag(&page), "hashing leaves no trace in the hasher");
        assert_ne!(tag, PageHash::new(&VmKey([8; 32])).tag(&page));
        for at in 0..PAGE {
            let mut other = page;
            other[at] ^= 1 << (at % 8);
            assert_ne!(tag.fingerprint(), hash.tag(&other).fingerprint(), "byte {at}");
            let mut moved = page;
            moved[at] = 4;
            moved.rotate_left(1);
            assert_ne!(tag, hash.tag(&moved));
        }
        let shared = SharedHash::new([7; 32]);
        assert_ne!(shared.digest(&page), SharedHash::new([8; 32]).digest(&page));
        assert_ne!(shared.digest(&page), shared.digest(&[4; PAGE]));
    }

    /// Images are read back by later versions.
    #[test]
    fn the_same_as_ever() {
        let page: [u8; PAGE] = std::array::from_fn(|at| u8::try_from(at * at % 251).unwrap());
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let names = [hex(&PageHash::new(&KEY).tag(&page).0), hex(&KEY.id().0)];
        assert_eq!(names, ["3f62982d33919be73e8e1ab562e27029", "dcaa43d1321a6ecc3a681a220acff42a"]);
    }

    #[test]
    fn keys_are_not_printed() {
        let printed = format!("{KEY:?} {:?} {:?}", PageHash::new(&KEY), SharedHash::new([7; 32]));
        assert!(!printed.contains("7, 7") && !printed.contains("0707"), "{printed}");
    }
}
