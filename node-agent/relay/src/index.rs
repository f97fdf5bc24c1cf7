//! What is held of a VM, by content.
//!
//! The target looks pages up to put them back: an [`Index`] says where in its image a page of some hash lies. The
//! source only wants to know whether the target holds a page: it has [`Held`]. Both are told by half a hash, so both
//! may be wrong about a page; the target hashes what it found before it hands it on, and asks for the page if it is
//! another.
//!
//! Memory: an index takes at most 8 MiB per GiB of guest (32 bytes a page), however full it is; `Held` less.

use crate::hash::Fingerprint;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Where a page lies in an image: the number of its slot of [`PAGE`](crate::PAGE) bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Twelve bytes, not sixteen: that is what keeps the promise of the memory when the table has just grown.
#[derive(Debug, Clone, Copy)]
struct Packed([u32; 3]);

impl Packed {
    fn new(Fingerprint(fingerprint): Fingerprint, Slot(slot): Slot) -> Self {
        let [low, high] = halves(fingerprint);
        Self([low, high, slot])
    }

    fn fingerprint(self) -> u64 {
        let Self([low, high, _]) = self;
        u64::from(high) << 32 | u64::from(low)
    }
}

#[allow(clippy::cast_possible_truncation)] // that is what halves are
fn halves(whole: u64) -> [u32; 2] {
    [whole as u32, (whole >> 32) as u32]
}

/// The pages of an image by their content. Of pages with the same content it knows one.
#[derive(Debug, Clone, Default)]
pub struct Index {
    table: HashTable<Packed>,
    sum: Sum,
}

impl Index {
    /// An index with room for so many pages, so that it need not grow while it is filled.
    #[must_use]
    pub fn with_capacity(pages: usize) -> Self {
        Self { table: HashTable::with_capacity(pages), sum: Sum::default() }
    }

    /// Notes where a page lies. If the content is known already, the older slot stays.
    pub fn insert(&mut self, fingerprint: Fingerprint, slot: Slot) {
        let same = |packed: &Packed| packed.fingerprint() == fingerprint.0;
        if let Entry::Vacant(entry) = self.table.entry(fingerprint.0, same, |packed| packed.fingerprint()) {
            entry.insert(Packed::new(fingerprint, slot));
            self.sum.add(fingerprint);
        }
    }

    /// Forgets a page whose slot is to hold something else. Another slot of that content stays.
    pub fn remove(&mut self, fingerprint: Fingerprint, slot: Slot) {
        let same = |packed: &Packed| packed.fingerprint() == fingerprint.0 && packed.0[2] == slot.0;
        if let Ok(entry) = self.table.find_entry(fingerprint.0, same) {
            entry.remove();
            self.sum.subtract(fingerprint);
        }
    }

    /// Where a page of this hash lies, perhaps.
    #[must_use]
    pub fn find(&self, fingerprint: Fingerprint) -> Option<Slot> {
        let same = |packed: &Packed| packed.fingerprint() == fingerprint.0;
        self.table.find(fingerprint.0, same).map(|packed| Slot(packed.0[2]))
    }

    /// How many different pages it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Its memory, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.table.allocation_size()
    }

    /// What it holds, in no order: to be announced.
    pub fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> {
        self.table.iter().map(|packed| Fingerprint(packed.fingerprint()))
    }

    /// What both ends compare before the target announces anything: a source that has the same needs no announcement.
    #[must_use]
    pub fn sum(&self) -> Sum {
        self.sum
    }
}

/// The pages that the other end says it holds.
#[derive(Debug, Clone)]
pub struct Held {
    table: HashTable<[u32; 2]>,
    most: usize,
    sum: Sum,
}

impl Held {
    /// Room for so many and no more, as many as the VM has pages, whatever the other end says. It takes no memory
    /// before it is told.
    #[must_use]
    pub fn of_at_most(pages: usize) -> Self {
        Self { table: HashTable::new(), most: pages, sum: Sum::default() }
    }

    /// Notes that a page of this hash is held, if there is room.
    pub fn insert(&mut self, fingerprint: Fingerprint) {
        if self.table.len() >= self.most {
            return;
        }
        let key = halves(fingerprint.0);
        if let Entry::Vacant(entry) = self.table.entry(fingerprint.0, |held| *held == key, whole) {
            entry.insert(key);
            self.sum.add(fingerprint);
        }
    }

    /// Notes that it turned out not to be.
    pub fn remove(&mut self, fingerprint: Fingerprint) {
        let key = halves(fingerprint.0);
        if let Ok(entry) = self.table.find_entry(fingerprint.0, |held| *held == key) {
            entry.remove();
            self.sum.subtract(fingerprint);
        }
    }

    /// Whether a page of this hash is held, perhaps.
    #[must_use]
    pub fn contains(&self, fingerprint: Fingerprint) -> bool {
        let key = halves(fingerprint.0);
        self.table.find(fingerprint.0, |held| *held == key).is_some()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Its memory, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.table.allocation_size()
    }

    /// To be compared with the other end's.
    #[must_use]
    pub fn sum(&self) -> Sum {
        self.sum
    }
}

fn whole([low, high]: &[u32; 2]) -> u64 {
    u64::from(*high) << 32 | u64::from(*low)
}

/// A digest of a set of hashes that does not depend on their order, and follows each change at once. The hashes are
/// secret, so nobody can choose them to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Their sum, each scattered over 128 bits first.
    pub sum: u128,
}

impl Sum {
    fn add(&mut self, fingerprint: Fingerprint) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(scatter(fingerprint));
    }

    fn subtract(&mut self, fingerprint: Fingerprint) {
        self.count -= 1;
        self.sum = self.sum.wrapping_sub(scatter(fingerprint));
    }
}

fn scatter(Fingerprint(value): Fingerprint) -> u128 {
    // An odd constant: no two values meet. The square spreads the low bits upwards and the high ones back.
    let spread = u128::from(value).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    spread ^ spread.rotate_left(64).wrapping_mul(0xbf58_476d_1ce4_e5b9_94d0_49bb_1331_11eb)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn spread(number: u64) -> Fingerprint {
        Fingerprint(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number << 40)
    }

    /// 8 MiB per GiB at every size, also just after the table has grown.
    #[test]
    fn memory_is_bounded_by_that_of_the_guest() {
        let (mut index, mut held) = (Index::default(), Held::of_at_most(1 << 20));
        let mut worst = (0.0_f64, 0.0_f64);
        for page in 0..300_000_u32 {
            index.insert(spread(page.into()), Slot(page));
            held.insert(spread(page.into()));
            if page > 1000 {
                let pages = f64::from(page + 1);
                worst = (worst.0.max(index.memory() as f64 / pages), worst.1.max(held.memory() as f64 / pages));
            }
        }
        assert!(worst.0 <= 32.0 && worst.1 <= 24.0, "{worst:?} bytes a page");
    }

    /// The other end may say whatever it likes.
    #[test]
    fn no_more_is_held_than_there_is_room_for() {
        let mut held = Held::of_at_most(100);
        (0..10_000).for_each(|number| held.insert(spread(number)));
        assert_eq!((held.len(), held.sum().count), (100, 100));
        assert!(held.memory() < 4000);
    }

    proptest! {
        /// Against a map, whose older entries stay.
        #[test]
        fn an_index_is_a_map(changes in proptest::collection::vec((0..40_u64, 0..5_u32, any::<bool>()), 0..400)) {
            let (mut index, mut held, mut model) = (Index::default(), Held::of_at_most(1 << 20), BTreeMap::new());
            for (number, slot, insert) in changes {
                let (fingerprint, slot) = (spread(number), Slot(slot));
                if insert {
                    index.insert(fingerprint, slot);
                    held.insert(fingerprint);
                    model.entry(fingerprint).or_insert(slot);
                } else {
                    index.remove(fingerprint, slot);
                    if model.get(&fingerprint) == Some(&slot) {
                        model.remove(&fingerprint);
                        held.remove(fingerprint);
                    }
                }
                prop_assert_eq!(index.find(fingerprint), model.get(&fingerprint).copied());
                prop_assert_eq!(held.contains(fingerprint), model.contains_key(&fingerprint));
            }
            let mut all: Vec<_> = index.fingerprints().collect();
            all.sort();
            prop_assert_eq!(&all, &model.keys().copied().collect::<Vec<_>>());
            prop_assert_eq!((index.len(), held.len()), (model.len(), model.len()));
            // However it came about, and in whatever order.
            let mut again = Held::of_at_most(1 << 20);
            all.iter().rev().for_each(|fingerprint| again.insert(*fingerprint));
            prop_assert_eq!((index.sum(), held.sum()), (again.sum(), again.sum()));
            if let Some(one) = all.first() {
                again.remove(*one);
                prop_assert_ne!(index.sum(), again.sum());
                again.insert(Fingerprint(one.0 ^ 1));
                prop_assert_ne!(index.sum(), again.sum());
            }
        }
    }
}
