//! When which node's BMC is read. Pure.

use crate::wake::Retry;
use miyako_api::wire::METER_INTERVAL;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// The longest time until a BMC that does not tell is asked again; one that can't is asked this seldom from the first on.
pub const LONGEST_WAIT: Duration = Duration::from_secs(900);

/// So long after a change of phase a node is read: what it draws has settled, and BMCs average over seconds.
pub const SETTLES: Duration = Duration::from_secs(10);

/// Each node's turn.
#[derive(Debug, Default)]
pub struct Schedule {
    turns: BTreeMap<String, Turn>,
}

#[derive(Debug)]
struct Turn {
    due: Instant,
    /// Failures in a row.
    failures: u32,
    under_way: bool,
}

impl Schedule {
    /// Says whom there is to read. Who is new is read soon.
    pub fn set_nodes<'a>(&mut self, nodes: impl Iterator<Item = &'a String>, now: Instant) {
        let mut before = std::mem::take(&mut self.turns);
        let mut turn = |node: &String| before.remove(node).unwrap_or(Turn { due: now, failures: 0, under_way: false });
        self.turns = nodes.map(|node| (node.clone(), turn(node))).collect();
    }

    /// Begins a new round in which the nodes take their turns evenly: BMCs of one rack share a switch.
    pub fn spread(&mut self, now: Instant) {
        let count = u32::try_from(self.turns.len()).unwrap_or(u32::MAX);
        for (index, turn) in (0..).zip(self.turns.values_mut()) {
            turn.due = now + METER_INTERVAL.saturating_mul(index) / count;
        }
    }

    /// Whose turn it is, at most so many, those first that wait longest; they count as under way from now on. Nodes that
    /// are `busy` wait.
    pub fn take_due(&mut self, now: Instant, busy: &BTreeSet<String>, most: usize) -> Vec<String> {
        let due = |(node, turn): &(&String, &mut Turn)| !turn.under_way && turn.due <= now && !busy.contains(*node);
        let mut due: Vec<_> = self.turns.iter_mut().filter(due).collect();
        due.sort_by_key(|(_, turn)| turn.due);
        let taken = due.into_iter().take(most).map(|(node, turn)| {
            turn.under_way = true;
            node.clone()
        });
        taken.collect()
    }

    /// A reading ended well, or was given up for a wake.
    pub fn done(&mut self, node: &str, now: Instant) {
        self.end(node, |_| (now + METER_INTERVAL, 0));
    }

    /// A reading failed: the next one comes later and later.
    pub fn failed(&mut self, node: &str, retry: Retry, now: Instant) {
        self.end(node, |failures| {
            let later = METER_INTERVAL.saturating_mul(1 << failures.min(8)).min(LONGEST_WAIT);
            (now + if retry == Retry::No { LONGEST_WAIT } else { later }, failures + 1)
        });
    }

    fn end(&mut self, node: &str, next: impl Fn(u32) -> (Instant, u32)) {
        if let Some(turn) = self.turns.get_mut(node) {
            turn.under_way = false;
            (turn.due, turn.failures) = next(turn.failures);
        }
    }

    /// What the node draws has changed: it is read soon, unless its BMC does not tell anyway.
    pub fn hasten(&mut self, node: &str, now: Instant) {
        if let Some(turn) = self.turns.get_mut(node).filter(|turn| turn.failures == 0) {
            turn.due = turn.due.min(now + SETTLES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(nodes: &[&str], now: Instant) -> Schedule {
        let nodes: Vec<String> = nodes.iter().map(|node| (*node).to_owned()).collect();
        let mut schedule = Schedule::default();
        schedule.set_nodes(nodes.iter(), now);
        schedule.spread(now);
        schedule
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn turns_are_spread_and_come_back_every_interval() {
        let now = Instant::now();
        let mut schedule = schedule(&["a", "b", "c"], now);
        let none = BTreeSet::new();
        assert_eq!(schedule.take_due(now, &none, 9), ["a"]);
        assert_eq!(schedule.take_due(now + seconds(19), &none, 9), [""; 0], "a is under way");
        assert_eq!(schedule.take_due(now + seconds(20), &none, 9), ["b"]);
        schedule.done("a", now + seconds(21));
        assert_eq!(schedule.take_due(now + seconds(81), &none, 1), ["c"], "it waits longest");
        assert_eq!(schedule.take_due(now + seconds(81), &none, 1), ["a"]);
    }

    #[test]
    fn an_errand_comes_first() {
        let now = Instant::now();
        let mut schedule = schedule(&["a", "b"], now);
        let busy = BTreeSet::from(["a".to_owned()]);
        assert_eq!(schedule.take_due(now + seconds(60), &busy, 9), ["b"]);
        assert_eq!(schedule.take_due(now + seconds(60), &BTreeSet::new(), 9), ["a"]);
    }

    #[test]
    fn a_silent_bmc_is_asked_ever_more_seldom_and_a_hopeless_one_at_once() {
        let mut now = Instant::now();
        let mut schedule = schedule(&["a"], now);
        let none = BTreeSet::new();
        for wait in [60, 120, 240, 480, 900, 900] {
            assert_eq!(schedule.take_due(now, &none, 9), ["a"]);
            schedule.failed("a", Retry::Soon, now);
            schedule.hasten("a", now);
            assert_eq!(schedule.take_due(now + seconds(wait - 1), &none, 9), [""; 0]);
            now += seconds(wait);
        }
        assert_eq!(schedule.take_due(now, &none, 9), ["a"]);
        schedule.done("a", now);
        now += seconds(60);
        assert_eq!(schedule.take_due(now, &none, 9), ["a"], "one answer is enough");
        schedule.failed("a", Retry::No, now);
        assert_eq!(schedule.take_due(now + seconds(899), &none, 9), [""; 0]);
    }

    #[test]
    fn a_change_of_phase_is_read_soon_and_new_nodes_at_once() {
        let now = Instant::now();
        let mut schedule = schedule(&["a"], now);
        let none = BTreeSet::new();
        schedule.take_due(now, &none, 9);
        schedule.done("a", now);
        schedule.hasten("a", now + seconds(5));
        assert_eq!(schedule.take_due(now + seconds(15), &none, 9), ["a"]);
        schedule.set_nodes([&"b".to_owned()].into_iter(), now);
        assert_eq!(schedule.take_due(now, &none, 9), ["b"]);
        schedule.done("a", now);
    }
}
