//! What was broken, what went wrong with the stand itself, and what there was of everything.

use super::bmc::Mood;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Gathers it.
#[derive(Debug, Default)]
pub(super) struct Verdict(Mutex<Gathered>);

#[derive(Debug, Default)]
struct Gathered {
    broken: BTreeSet<String>,
    trouble: BTreeSet<String>,
    sleeps: BTreeMap<String, u32>,
    figures: Figures,
}

/// What there was.
#[derive(Debug, Default, Clone)]
pub(super) struct Figures {
    /// Orders to sleep.
    pub(super) orders: u32,
    /// Orders to be awake.
    pub(super) wake_orders: u32,
    /// Nodes that were quarantined, by how their BMC was.
    pub(super) quarantined: BTreeMap<Mood, u32>,
    /// Wakes that a waker called failed, by how the BMC was.
    pub(super) failed: BTreeMap<Mood, u32>,
    /// Wake tests that ended, and how many of them well.
    pub(super) tests: (u32, u32),
    /// Whatever was done to the cluster, by what it was.
    pub(super) done: BTreeMap<&'static str, u32>,
    /// From a pod's creation until it runs: all of them.
    pub(super) waits: Vec<Duration>,
    /// Migrations of ours.
    pub(super) moves: u32,
    /// Requests to turn on that BMCs took.
    pub(super) requests: u32,
}

impl Verdict {
    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A rule was broken.
    pub(super) fn broken(&self, what: String) {
        if self.gathered().broken.insert(what.clone()) {
            eprintln!("BROKEN: {what}");
        }
    }

    /// The stand could not do its part.
    pub(super) fn trouble(&self, what: String) {
        if self.gathered().trouble.insert(what.clone()) {
            eprintln!("trouble with the stand: {what}");
        }
    }

    /// A machine fell asleep.
    pub(super) fn slept(&self, node: &str) {
        *self.gathered().sleeps.entry(node.to_owned()).or_default() += 1;
    }

    /// Something was done.
    pub(super) fn done(&self, what: &'static str) {
        *self.gathered().figures.done.entry(what).or_default() += 1;
    }

    /// Counts.
    pub(super) fn count(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.gathered().figures);
    }

    /// Everything that is wrong.
    pub(super) fn wrong(&self) -> Vec<String> {
        let gathered = self.gathered();
        gathered.broken.iter().chain(&gathered.trouble).cloned().collect()
    }

    /// How often machines fell asleep.
    pub(super) fn sleeps(&self) -> u32 {
        self.gathered().sleeps.values().sum()
    }

    /// The table, as Markdown.
    pub(super) fn table(&self) -> String {
        let gathered = self.gathered();
        let figures = &gathered.figures;
        let mut rows = vec![
            ("machines fell asleep".to_owned(), gathered.sleeps.values().sum::<u32>().to_string()),
            ("orders to sleep".into(), figures.orders.to_string()),
            ("orders to be awake".into(), figures.wake_orders.to_string()),
            ("requests that BMCs took".into(), figures.requests.to_string()),
            ("wake tests (passed)".into(), format!("{} ({})", figures.tests.0, figures.tests.1)),
        ];
        for (mood, count) in &figures.failed {
            rows.push((format!("wakes that a waker gave up, {mood}"), count.to_string()));
        }
        for (mood, count) in &figures.quarantined {
            rows.push((format!("nodes quarantined, {mood}"), count.to_string()));
        }
        for (what, count) in &figures.done {
            rows.push(((*what).to_owned(), count.to_string()));
        }
        rows.push(("moves of VMs".into(), figures.moves.to_string()));
        let mut waits = figures.waits.clone();
        waits.sort();
        let at = |share: usize| waits.get((waits.len() * share / 100).min(waits.len().saturating_sub(1)));
        let seconds =
            |wait: Option<&Duration>| wait.map_or("–".to_owned(), |wait| format!("{:.0} s", wait.as_secs_f64()));
        rows.push(("pods' wait until they ran: median".into(), seconds(at(50))));
        rows.push(("pods' wait until they ran: 95 %".into(), seconds(at(95))));
        rows.push(("pods' wait until they ran: longest".into(), seconds(waits.last())));
        rows.push(("rules broken".into(), gathered.broken.len().to_string()));
        let mut text = "| what | how much |\n|---|---|\n".to_owned();
        for (what, much) in rows {
            let _ = writeln!(text, "| {what} | {much} |");
        }
        text
    }
}
