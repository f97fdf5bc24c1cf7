//! What the operator keeps between passes, counted by who keeps it. Each count follows what exists in the cluster or
//! happened within a bounded time, so that an operator that runs for months is as large as one that has just begun.

use super::Operator;
use miyako_core::model::{Span, Timestamp};

/// Counting walks through everything that is known, so it is done this seldom.
pub(super) const EVERY: Span = Span::from_secs(60);

/// Who keeps how many entries.
pub(super) type Held = Vec<(String, usize)>;

impl Operator {
    /// Counts once a minute, for the metric.
    pub(super) fn tell_held(&mut self, now: Timestamp) {
        if self.counted.is_some_and(|counted| now >= counted && now < counted + EVERY) {
            return;
        }
        self.counted = Some(now);
        for (owner, entries) in self.held() {
            self.metrics.held.with_label_values(&[&owner]).set(i64::try_from(entries).unwrap_or(i64::MAX));
        }
    }

    fn held(&self) -> Held {
        let own = [
            ("PolicyStatuses", self.policies_said.len()),
            ("ClassStatuses", self.classes_said.len()),
            ("RefusedWrites", self.refusals.len()),
            ("StalledMigrations", self.stalled_told.len()),
            ("TakenLabels", self.unlabelled.len()),
            ("MendedPolicies", self.mended.len()),
            ("Story", self.chronicle.len()),
            ("Energy", self.ledger.len()),
            ("Wakes", self.wakes.len()),
            ("StuckNodes", self.stuck.len()),
            ("HungWrites", self.hung.len()),
        ];
        let own = own.into_iter().map(|(owner, entries)| (owner.to_owned(), entries));
        let load = self.load.lock().held().into_iter().map(|(owner, entries)| (format!("Load{owner}"), entries));
        own.chain(load).chain(self.observer.held()).collect()
    }
}
