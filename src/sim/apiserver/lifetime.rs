//! Events end by themselves, as etcd's leases end them for the real server.

use super::store::Key;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Where Events are stored.
pub(crate) const EVENTS: &str = "events";
/// How long an Event lives after its last write: kube-apiserver's `--event-ttl`.
const EVENT_LIFETIME: Duration = Duration::from_hours(1);

/// Which Events end when, the next one first.
#[derive(Debug, Default)]
pub(crate) struct Lifetimes {
    ends: VecDeque<(Instant, Key, u64)>,
}

impl Lifetimes {
    /// An Event was written: it got this version.
    pub(crate) fn begin(&mut self, key: Key, version: u64, now: Instant) {
        self.ends.push_back((now + EVENT_LIFETIME, key, version));
    }

    /// An Event whose time is over unless it was written after this version.
    pub(crate) fn over(&mut self, now: Instant) -> Option<(Key, u64)> {
        let (end, ..) = self.ends.front()?;
        if *end > now {
            return None;
        }
        self.ends.pop_front().map(|(_, key, version)| (key, version))
    }
}
