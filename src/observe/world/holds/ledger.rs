//! Since when each hold lasts. Many of the objects that hold say nothing of when they began, so the moment they were
//! first seen counts; policies' statuses keep it over restarts.

use miyako_core::model::{HoldKind, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What tells one hold from the others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::observe) struct Key(String);

impl Key {
    /// What holds, and what tells it from others of its kind.
    pub(in crate::observe) fn new(kind: HoldKind, key: impl ToString) -> Self {
        Self(format!("{}/{}", kind.name(), key.to_string()))
    }
}

/// When each hold was first seen.
#[derive(Debug, Default)]
pub(in crate::observe) struct Ledger {
    first: BTreeMap<Key, Timestamp>,
    /// What statuses told before anything was seen.
    told: BTreeMap<Key, Timestamp>,
    /// Those that were asked for since the others were last forgotten.
    alive: BTreeSet<Key>,
}

impl Ledger {
    /// A status tells since when something held. It counts for what holds at the first look; later we know better.
    pub(in crate::observe) fn told(&mut self, kind: &str, key: &str, since: Timestamp) {
        let key = Key(format!("{kind}/{key}"));
        let known = self.told.entry(key).or_insert(since);
        *known = since.min(*known);
    }

    /// Since when this has held: as the object itself says, else since it was first seen. Never later than now.
    pub(super) fn since(&mut self, key: &Key, own: Option<Timestamp>, now: Timestamp) -> Timestamp {
        self.alive.insert(key.clone());
        let told = self.told.get(key).copied();
        let first = self.first.entry(key.clone()).or_insert_with(|| told.unwrap_or(now));
        *first = (*first).min(now);
        own.unwrap_or(*first).min(now)
    }

    /// How many holds are known.
    pub(in crate::observe) fn len(&self) -> usize {
        self.first.len() + self.told.len() + self.alive.len()
    }

    /// Whatever was not asked for has ended.
    pub(super) fn forget_the_rest(&mut self) {
        let alive = std::mem::take(&mut self.alive);
        self.first.retain(|key, _| alive.contains(key));
        self.told.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_told_counts_at_the_first_look_only() {
        let at = Timestamp::from_secs;
        let (old, new) = (Key::new(HoldKind::Backup, "vms/a"), Key::new(HoldKind::Backup, "vms/b"));
        let mut ledger = Ledger::default();
        ledger.told("Backup", "vms/a", at(100));
        ledger.told("Backup", "vms/b", at(100));
        assert_eq!(ledger.since(&old, None, at(1000)), at(100));
        ledger.forget_the_rest();
        assert_eq!(ledger.since(&old, None, at(1001)), at(100));
        assert_eq!(ledger.since(&new, None, at(1001)), at(1001), "another backup than the one that was told of");
        ledger.forget_the_rest();
        ledger.forget_the_rest();
        assert_eq!(ledger.since(&old, None, at(2000)), at(2000), "it had ended in between");
        assert_eq!(ledger.since(&new, Some(at(1500)), at(2000)), at(1500), "the object knows best");
        assert_eq!(ledger.since(&new, Some(at(9000)), at(2000)), at(2000), "a clock that runs ahead");
    }
}
