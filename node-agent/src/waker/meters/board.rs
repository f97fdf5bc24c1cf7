//! What was read, until it has been told; and whether to go on reading.

use miyako_api::wire::{METER_STALE_AFTER, READER_LAPSES, load::Reading};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;

/// The newest reading of each node. Cloning is cheap; all clones are one board.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Newest>>);

#[derive(Debug, Default)]
struct Newest {
    readings: BTreeMap<String, Noted>,
    /// Numbers readings in the order in which they came.
    count: u64,
    /// There is something to be read at all.
    measured: bool,
    /// When an operator last said that this waker is to read.
    asked_to_read: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Noted {
    number: u64,
    at: Instant,
    watts: f64,
}

impl Board {
    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a node draws.
    pub fn note(&self, node: &str, watts: f64, at: Instant) {
        let mut newest = self.newest();
        newest.count += 1;
        let number = newest.count;
        newest.readings.insert(node.to_owned(), Noted { number, at, watts });
    }

    /// Says whether any node is to be measured, and forgets those that are not.
    pub(super) fn set_measured(&self, measured: bool, is_measured: impl Fn(&str) -> bool) {
        let mut newest = self.newest();
        newest.measured = measured;
        newest.readings.retain(|node, _| is_measured(node));
    }

    /// Whether any node is to be measured: without, no operator is bothered.
    pub(super) fn is_measured(&self) -> bool {
        self.newest().measured
    }

    /// The readings after this number that are still worth telling at `now`, the oldest first and at most so many, and the
    /// number to ask from next.
    #[must_use]
    pub fn after(&self, number: u64, most: usize, now: Instant) -> (Vec<Reading>, u64) {
        let newest = self.newest();
        let mut later: Vec<_> = newest.readings.iter().filter(|(_, noted)| noted.number > number).collect();
        later.sort_by_key(|(_, noted)| noted.number);
        later.truncate(most);
        let last = later.last().map_or(number, |(_, noted)| noted.number);
        let fresh = later.into_iter().filter_map(|(node, noted)| {
            let age = now.saturating_duration_since(noted.at);
            let age_ms = u32::try_from(age.as_millis()).ok().filter(|_| age <= METER_STALE_AFTER)?;
            Some(Reading { node: node.clone(), watts: noted.watts, age_ms })
        });
        (fresh.collect(), last)
    }

    /// An operator said whether this waker is to read.
    pub fn answered(&self, read: bool, now: Instant) {
        if read {
            self.newest().asked_to_read = Some(now);
        }
    }

    /// Whether this waker is to read: some operator said so not long ago.
    #[must_use]
    pub fn is_reader(&self, now: Instant) -> bool {
        self.newest().asked_to_read.is_some_and(|at| now.saturating_duration_since(at) <= READER_LAPSES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn told(board: &Board, number: u64, now: Instant) -> (Vec<(String, u32)>, u64) {
        let (readings, next) = board.after(number, 2, now);
        (readings.into_iter().map(|reading| (reading.node, reading.age_ms)).collect(), next)
    }

    #[test]
    fn each_reading_is_told_once_and_a_stranger_gets_all_that_is_fresh() {
        let (board, begun) = (Board::default(), Instant::now());
        let at = |second| begun + Duration::from_secs(second);
        for (second, node) in [(0, "c"), (1, "a"), (2, "b"), (3, "c")] {
            board.note(node, 100.0, at(second));
        }
        let named = |node: &str, age_ms| (node.to_owned(), age_ms);
        assert_eq!(told(&board, 0, at(4)), (vec![named("a", 3000), named("b", 2000)], 3));
        assert_eq!(told(&board, 3, at(4)), (vec![named("c", 1000)], 4));
        assert_eq!(told(&board, 4, at(4)), (vec![], 4));
        assert_eq!(told(&board, 0, at(182)), (vec![named("b", 180_000)], 3), "the oldest is stale");
        board.set_measured(true, |node| node == "a");
        assert_eq!(told(&board, 0, at(4)).0, [named("a", 3000)]);
    }

    #[test]
    fn one_reads_as_long_as_some_operator_says_so() {
        let (board, begun) = (Board::default(), Instant::now());
        let at = |second| begun + Duration::from_secs(second);
        assert!(!board.is_reader(begun), "nobody listens");
        board.answered(true, at(0));
        board.answered(false, at(10));
        assert!(board.is_reader(at(15)), "another replica may not have heard of the same wakers");
        assert!(!board.is_reader(at(16)));
    }
}
