//! Which pages are looked at, and what follows from how many of them changed. Pure.

use super::guest_memory::PAGE;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::{ops::Range, time::Duration};

/// Pages per GiB, as QEMU takes them by default.
const PAGES_PER_GIB: u64 = 512;

/// The fewest, so that a small guest's estimate is worth something, and the most, so that a large one's takes no time.
const FEWEST: u64 = 1024;
const MOST: u64 = 65_536;

/// An estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DirtyRate {
    /// Bytes per second, in whole pages; a page that was written often counts once.
    pub bytes_per_second: f64,
    /// The standard error of it, from the number of pages looked at.
    pub standard_error: f64,
    /// The guest's memory.
    pub memory_bytes: u64,
    /// Over how long.
    pub period: Duration,
}

/// One page from each of as many equal parts of the memory as are looked at, anywhere in it.
pub(super) fn pages(regions: &[Range<u64>], seed: u64) -> Vec<u64> {
    let all: u64 = regions.iter().map(|region| (region.end - region.start) / PAGE).sum();
    let wanted = (all * PAGE / (1 << 30) * PAGES_PER_GIB).clamp(FEWEST, MOST).min(all);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..wanted)
        .filter_map(|part| {
            let (first, end) = (part * all / wanted, (part + 1) * all / wanted);
            address(regions, random.random_range(first..end))
        })
        .collect()
}

fn address(regions: &[Range<u64>], mut page: u64) -> Option<u64> {
    for region in regions {
        let pages = (region.end - region.start) / PAGE;
        if page < pages {
            return Some(region.start + page * PAGE);
        }
        page -= pages;
    }
    None
}

/// What follows if `changed` of `looked_at` pages of a memory of `bytes` changed within `period`.
#[must_use]
pub fn estimate(looked_at: usize, changed: usize, bytes: u64, period: Duration) -> DirtyRate {
    let looked_at = looked_at.max(1) as f64;
    let share = (changed as f64 / looked_at).min(1.0);
    let per_second = bytes as f64 / period.as_secs_f64().max(1e-3);
    DirtyRate {
        bytes_per_second: share * per_second,
        // Of a share found among independent pages (binomial).
        standard_error: (share * (1.0 - share) / looked_at).sqrt() * per_second,
        memory_bytes: bytes,
        period,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_quarter_of_the_pages_is_a_quarter_of_the_memory() {
        let rate = estimate(1024, 256, 1 << 30, Duration::from_secs(2));
        assert!((rate.bytes_per_second - f64::from(1 << 27)).abs() < 1.0);
        assert!(rate.standard_error > 0.0 && rate.standard_error < rate.bytes_per_second / 10.0);
        assert_eq!(estimate(1024, 0, 1 << 30, Duration::from_secs(2)).bytes_per_second, 0.0);
    }

    proptest! {
        #[test]
        fn pages_lie_in_the_memory_and_are_different(lengths in proptest::collection::vec(1..100_000_u64, 1..4), seed: u64) {
            let mut regions = Vec::new();
            let mut start = PAGE;
            for length in lengths {
                regions.push(start..start + length * PAGE);
                start += (length + 7) * PAGE;
            }
            let pages = pages(&regions, seed);
            prop_assert!(pages.is_sorted_by(|one, next| one < next));
            prop_assert!(pages.iter().all(|page| page % PAGE == 0 && regions.iter().any(|region| region.contains(page))));
        }

        #[test]
        fn an_estimate_is_a_number(looked_at: usize, changed: usize, bytes: u64, millis in 0..10_000_u64) {
            let rate = estimate(looked_at, changed, bytes, Duration::from_millis(millis));
            prop_assert!(rate.bytes_per_second.is_finite() && rate.standard_error.is_finite());
        }
    }
}
