//! Nodes by name, for who looks up every pod's and VM's.

use crate::model::{NodeName, Snapshot};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// Hashes names eight bytes at a time (the multiply-and-rotate of Firefox's hash tables): names of nodes come from the
/// API server, not from an attacker, and every pod and VM is looked up by one.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        // The product's upper bits are the mixed ones, and tables look at the lower ones.
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }
}

/// The place of each node in the order of the names. It is looked up, never iterated.
pub(crate) struct NodeIndex<'a>(HashMap<&'a str, usize, BuildHasherDefault<NameHasher>>);

impl<'a> NodeIndex<'a> {
    /// Indexes the snapshot's nodes.
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        Self(snapshot.nodes.keys().enumerate().map(|(index, name)| (name.as_str(), index)).collect())
    }

    /// The node's place, if it is known.
    pub(crate) fn get(&self, name: &NodeName) -> Option<usize> {
        self.0.get(name.as_str()).copied()
    }
}
