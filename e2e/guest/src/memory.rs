//! The working set: memory whose every page can be checked at any moment.
//!
//! A page's content is a function of the seed, the page's index and how often it was written; the counts are kept apart
//! from the pages. A page that is lost, damaged, or of another moment than the rest can then not pass: only a whole
//! machine of an earlier moment could, and that would show in the counters that the host follows.
//!
//! A page is 512 words: the count, a mixture of the count, and pseudo-random words that never change. A write changes
//! the first two, so it costs little and still makes the page differ from every other version of it.

/// Words of a page.
const WORDS: usize = 512;

/// Bytes of a page.
pub const PAGE: usize = WORDS * size_of::<u64>();

/// Pages that one worker reads and writes.
#[derive(Debug)]
pub struct WorkingSet {
    seed: u64,
    /// The pages, after a gap that lets the first begin on a page of the machine.
    words: Vec<u64>,
    gap: usize,
    /// How often each page was written.
    counts: Vec<u64>,
    /// The next page to touch, and how far the one after it is.
    next: usize,
    stride: usize,
}

/// What is wrong with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A true version of the page, but not the last.
    Outdated,
    /// No version of the page.
    Damaged,
}

impl WorkingSet {
    /// As many pages as said, filled.
    #[must_use]
    pub fn new(seed: u64, pages: usize) -> Self {
        let mut words: Vec<u64> = vec![0; (pages + 1) * WORDS];
        let gap = words.as_ptr().align_offset(PAGE).min(WORDS);
        for (index, page) in words[gap..].chunks_exact_mut(WORDS).take(pages).enumerate() {
            stamp(page, seed, index, 0);
            for (word, content) in page[2..].iter_mut().zip(constants(seed, index)) {
                *word = content;
            }
        }
        Self { seed, words, gap, counts: vec![0; pages], next: 0, stride: stride(pages) }
    }

    /// How many pages.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.counts.len()
    }

    /// Writes the next page. All pages get their turn before one is written again, in an order without locality.
    pub fn write(&mut self) {
        let Some(index) = self.advance() else { return };
        self.counts[index] += 1;
        let (seed, count) = (self.seed, self.counts[index]);
        stamp(self.page_mut(index), seed, index, count);
    }

    /// Reads the next page; the answer only keeps the reading from being optimised away.
    pub fn read(&mut self) -> u64 {
        self.advance().map_or(0, |index| self.page(index)[0])
    }

    /// Compares a page with what it must be.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, index: usize) -> Result<(), Fault> {
        let page = self.page(index);
        let intact = page[1] == mix(self.seed, index, page[0])
            && page[2..].iter().zip(constants(self.seed, index)).all(|(word, content)| *word == content);
        if !intact {
            Err(Fault::Damaged)
        } else if page[0] != self.counts[index] {
            Err(Fault::Outdated)
        } else {
            Ok(())
        }
    }

    /// Flips a bit of a page.
    pub fn damage(&mut self, index: usize) {
        self.page_mut(index)[WORDS / 2] ^= 1 << 20;
    }

    /// Puts a page back to the version before its last.
    pub fn outdate(&mut self, index: usize) {
        let (seed, count) = (self.seed, self.counts[index].wrapping_sub(1));
        stamp(self.page_mut(index), seed, index, count);
    }

    fn advance(&mut self) -> Option<usize> {
        let index = self.next;
        self.next = (index + self.stride).checked_rem(self.pages())?;
        Some(index)
    }

    fn page(&self, index: usize) -> &[u64] {
        &self.words[self.gap + index * WORDS..][..WORDS]
    }

    fn page_mut(&mut self, index: usize) -> &mut [u64] {
        &mut self.words[self.gap + index * WORDS..][..WORDS]
    }
}

/// Makes the page the version that this count says.
fn stamp(page: &mut [u64], seed: u64, index: usize, count: u64) {
    page[0] = count;
    page[1] = mix(seed, index, count);
}

/// Near the golden section of the number of pages, and without a common divisor, so that the walk meets every page once
/// before it begins again.
fn stride(pages: usize) -> usize {
    let start = (pages * 618 / 1000).max(1);
    (start..).find(|stride| gcd(*stride, pages.max(1)) == 1).unwrap_or(1)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The words of a page that never change: xorshift64*, which is good enough that no two pages are alike and cheap enough
/// for a machine that is emulated.
fn constants(seed: u64, index: usize) -> impl Iterator<Item = u64> {
    let mut state = mix(seed, index, u64::MAX) | 1;
    std::iter::repeat_with(move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}

/// One word from three, by the finaliser of splitmix64.
fn mix(seed: u64, index: usize, count: u64) -> u64 {
    let step = |word: u64| {
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    step(step(step(seed) ^ index as u64) ^ count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn faults(set: &WorkingSet) -> Vec<(usize, Fault)> {
        (0..set.pages()).filter_map(|index| set.check(index).err().map(|fault| (index, fault))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_honest_working_set_is_good_however_often_it_is_written(seed: u64, pages in 0..40usize, writes in 0..200) {
            let mut set = WorkingSet::new(seed, pages);
            for _ in 0..writes {
                set.write();
                set.read();
            }
            prop_assert_eq!(faults(&set), []);
        }

        #[test]
        fn each_bad_page_is_named_and_no_other(seed: u64, pages in 1..40usize, bad: prop::sample::Index, writes in 0..200) {
            let mut set = WorkingSet::new(seed, pages);
            (0..writes).for_each(|_| set.write());
            let bad = bad.index(pages);
            set.damage(bad);
            prop_assert_eq!(faults(&set), [(bad, Fault::Damaged)]);
            set.damage(bad);
            set.outdate(bad);
            prop_assert_eq!(faults(&set), [(bad, Fault::Outdated)]);
        }

        #[test]
        fn any_flipped_bit_is_seen(seed: u64, word in 0..WORDS, bit in 0..64) {
            let mut set = WorkingSet::new(seed, 3);
            (0..5).for_each(|_| set.write());
            set.page_mut(1)[word] ^= 1_u64 << bit;
            prop_assert_eq!(faults(&set).len(), 1);
        }

        #[test]
        fn every_page_has_its_turn_before_one_is_written_again(pages in 1..500usize) {
            let mut set = WorkingSet { counts: vec![0; pages], ..WorkingSet::new(1, 0) };
            set.stride = stride(pages);
            let mut seen: Vec<_> = (0..pages).map(|_| set.advance().unwrap()).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..pages).collect::<Vec<_>>());
        }
    }

    #[test]
    fn another_pages_content_is_damage_and_not_an_old_version() {
        let mut set = WorkingSet::new(7, 2);
        let other = set.page(1).to_vec();
        set.page_mut(0).copy_from_slice(&other);
        assert_eq!(faults(&set), [(0, Fault::Damaged)]);
        set.page_mut(0).fill(0);
        assert_eq!(faults(&set), [(0, Fault::Damaged)], "a page of zeros is what a lost page looks like");
    }

    #[test]
    fn pages_are_pages_of_the_machine() {
        let set = WorkingSet::new(7, 3);
        assert_eq!(set.page(0).as_ptr().addr() % PAGE, 0);
    }
}
