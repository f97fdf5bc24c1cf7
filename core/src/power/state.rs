//! The states, with the data of each.

use super::Facts;
use crate::model::{NodeMarks, PowerRecord, PowerState, Purpose, Timestamp};

/// How far an order to suspend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// It will have this generation, and has not been given.
    NotYet,
    /// It was given, at this moment.
    Ordered(Timestamp),
    /// The agent acknowledged it: the node may be falling asleep right now.
    Acknowledged,
    /// Another order has taken its place: the node is to be awake.
    TakenBack,
}

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Awake,
    /// New pods rather go elsewhere, to see whether it stays empty.
    Emptying {
        /// Since when.
        since: Timestamp,
        /// What for.
        purpose: Option<Purpose>,
    },
    /// No new pods come, and the order is about to be given, or given.
    Suspending {
        /// Since when.
        since: Timestamp,
        /// What for.
        purpose: Option<Purpose>,
        /// The order's generation.
        generation: i64,
        /// How far the order is.
        given: Given,
    },
    /// It sleeps.
    Suspended {
        /// What for.
        purpose: Option<Purpose>,
    },
    /// It is being woken, or was told not to fall asleep.
    Waking {
        /// Since when.
        since: Timestamp,
        /// Since when it slept, if it did.
        asleep_since: Option<Timestamp>,
    },
    /// It failed to wake.
    Quarantined {
        /// Since when.
        since: Timestamp,
    },
}

impl State {
    /// The state that a record stands for. Without a NodePower the node's own marks tell: it may have been deleted
    /// under a sleeper.
    #[must_use]
    pub fn of(record: &PowerRecord, facts: &Facts, now: Timestamp) -> Self {
        let since = record.since.unwrap_or(now);
        let purpose = record.purpose.clone();
        match record.phase {
            _ if !record.noted && facts.marks == Some(NodeMarks::Asleep) && !facts.ready => {
                Self::Suspended { purpose: None }
            }
            PowerState::Awake => Self::Awake,
            PowerState::Emptying => Self::Emptying { since, purpose },
            PowerState::Suspending => {
                let generation = record.suspend_generation.unwrap_or_else(|| record.generation() + 1);
                Self::Suspending { since, purpose, generation, given: given(record, generation) }
            }
            PowerState::Suspended => Self::Suspended { purpose },
            PowerState::Waking => Self::Waking { since, asleep_since: record.asleep_since },
            PowerState::Quarantined => Self::Quarantined { since },
        }
    }
}

fn given(record: &PowerRecord, generation: i64) -> Given {
    let standing = record.order.as_ref().filter(|_| record.is_ordered_asleep() && record.generation() == generation);
    match standing {
        _ if record.generation() > generation => Given::TakenBack,
        _ if record.generation() < generation => Given::NotYet,
        _ if record.acknowledged(generation) => Given::Acknowledged,
        Some(order) => Given::Ordered(order.issued),
        None => Given::TakenBack,
    }
}
