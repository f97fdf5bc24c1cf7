//! Nodes whose writes got no answer: a webhook, or an API server, that hangs on one node must hold no other.

use miyako_core::model::{NodeName, Span, Timestamp};
use std::collections::BTreeMap;

/// The wait after the first time; it doubles with each further one.
const FIRST_WAIT: Span = Span::from_secs(4);
/// The longest wait: somebody may need the node.
const LONGEST_WAIT: Span = Span::from_secs(60);
/// A node that was not written to for so long is forgotten.
const FORGOTTEN_AFTER: Span = Span::from_secs(600);

#[derive(Debug, Clone, Copy)]
struct Hang {
    times: u32,
    last: Timestamp,
}

/// Which nodes' writes hung lately.
#[derive(Debug, Default)]
pub(super) struct Hung(BTreeMap<NodeName, Hang>);

impl Hung {
    /// How many nodes' writes hang.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the last write to this node hung.
    pub(super) fn contains(&self, node: &NodeName) -> bool {
        self.0.contains_key(node)
    }

    /// Whether this node may be written to now.
    pub(super) fn may_write(&self, node: &NodeName, now: Timestamp) -> bool {
        let Some(hang) = self.0.get(node) else { return true };
        let wait = FIRST_WAIT.saturating_mul(1 << (hang.times - 1).min(10)).min(LONGEST_WAIT);
        // A clock that was set back must not make it wait for hours.
        hang.last > now || now.since(hang.last) >= wait
    }

    /// A write to this node got no answer in time.
    pub(super) fn hung(&mut self, node: &NodeName, now: Timestamp) {
        let times = self.0.get(node).map_or(0, |hang| hang.times).saturating_add(1);
        self.0.insert(node.clone(), Hang { times, last: now });
    }

    /// The writes to this node were answered.
    pub(super) fn answered(&mut self, node: &NodeName) {
        self.0.remove(node);
    }

    /// Forgets nodes that nobody writes to any more.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        self.0.retain(|_, hang| now.since(hang.last) < FORGOTTEN_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_hangs_is_tried_ever_more_seldom_and_forgotten_when_it_answers() {
        let (mut hung, node) = (Hung::default(), NodeName::new("n"));
        let start = Timestamp::from_secs(1_000_000);
        let (mut now, mut waits) = (start, Vec::new());
        for _ in 0..7 {
            hung.hung(&node, now);
            let from = now;
            while !hung.may_write(&node, now) {
                now = now + Span::from_secs(1);
            }
            waits.push(now.since(from).as_secs());
        }
        assert_eq!(waits, [4, 8, 16, 32, 60, 60, 60]);
        hung.answered(&node);
        assert!(hung.may_write(&node, now) && !hung.contains(&node));
        hung.hung(&node, now);
        assert!(hung.may_write(&node, start), "the clock was set back");
        hung.forget_old(now + FORGOTTEN_AFTER);
        assert!(!hung.contains(&node));
    }
}
