//! A table that is asked by name and never walked, so that nothing depends on its order.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// Hashes names eight bytes at a time (the multiply-and-rotate of Firefox's hash tables): names come from the API
/// server, not from an attacker, and every pod and VM of a decision asks by one.
#[derive(Default)]
pub(crate) struct NameHasher(u64);

impl NameHasher {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        // The product's upper bits are the mixed ones, and tables look at the lower ones.
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        self.mix(rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }

    /// The mark that ends a text: a name is hashed alone, so there is nothing to tell it from.
    fn write_u8(&mut self, _: u8) {}
}

/// Hashes keys made of names.
pub(crate) type ByName = BuildHasherDefault<NameHasher>;

/// What belongs to each name.
pub(crate) struct Lookup<'a, V>(HashMap<&'a str, V, ByName>);

impl<V> Default for Lookup<'_, V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<'a, V> Lookup<'a, V> {
    /// What belongs to this name, if it is known.
    pub(crate) fn get(&self, name: &str) -> Option<&V> {
        self.0.get(name)
    }

    /// What belongs to this name, to change it.
    pub(crate) fn at(&mut self, name: &'a str) -> &mut V
    where
        V: Default,
    {
        self.0.entry(name).or_default()
    }

    /// What belongs to this name, made up when it is asked for first.
    pub(crate) fn get_or_insert_with(&mut self, name: &'a str, make: impl FnOnce() -> V) -> &V {
        // Found nearly always, and looking is cheaper than preparing to insert.
        if !self.0.contains_key(name) {
            self.0.insert(name, make());
        }
        &self.0[name]
    }
}

impl<'a, V> FromIterator<(&'a str, V)> for Lookup<'a, V> {
    fn from_iter<I: IntoIterator<Item = (&'a str, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}
