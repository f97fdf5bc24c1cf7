//! Two agents that report for one node in turn: a second DaemonSet, or a pod that somebody started by hand. The newest
//! stream is believed, so each takes over from the other, again and again. An order to sleep quotes a sample that the
//! other agent never sent. A rollout is no rivalry: the old pod does not come back.

use miyako_core::model::{NodeName, Span, Timestamp};
use std::collections::BTreeMap;

/// Returns longer ago than this no longer count: an agent dials again within seconds.
const LATELY: Span = Span::from_secs(300);
/// A pod that is ending may come back once.
const ORDINARY_RETURNS: u32 = 1;

/// Who spoke for a node last, and from whom it took over.
#[derive(Debug, Clone)]
struct Speakers {
    now: String,
    before: Option<String>,
    /// How often a pod took over that had been taken over from, while the other one still spoke.
    returns: u32,
    last: Timestamp,
}

/// Which pods speak for which node.
#[derive(Debug, Clone, Default)]
pub(super) struct Rivals(BTreeMap<NodeName, Speakers>);

impl Rivals {
    /// A stream of this pod begins; `live` says whether the stream before it still brought samples.
    pub(super) fn opened(&mut self, node: &NodeName, pod: &str, live: bool, at: Timestamp) {
        let Some(known) = self.0.get_mut(node) else {
            let first = Speakers { now: pod.to_owned(), before: None, returns: 0, last: at };
            self.0.insert(node.clone(), first);
            return;
        };
        if known.now == pod {
            return;
        }
        if at.since(known.last) > LATELY {
            known.returns = 0;
        }
        if live && known.before.as_deref() == Some(pod) {
            known.returns = known.returns.saturating_add(1);
            known.last = at;
        }
        known.before = Some(std::mem::replace(&mut known.now, pod.to_owned()));
    }

    /// The two pods that take a node from each other now.
    pub(super) fn of(&self, node: &NodeName, now: Timestamp) -> Option<(String, String)> {
        let known = self.0.get(node).filter(|known| known.returns > ORDINARY_RETURNS)?;
        let mut pods = [known.before.clone()?, known.now.clone()];
        pods.sort();
        let [first, second] = pods;
        (now.since(known.last) <= LATELY).then_some((first, second))
    }

    /// Forgets nodes that are no more.
    pub(super) fn keep(&mut self, exists: impl Fn(&NodeName) -> bool) {
        self.0.retain(|node, _| exists(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + i64::try_from(second).unwrap())
    }

    #[test]
    fn two_pods_that_take_over_from_each_other_are_rivals_until_one_is_gone() {
        let (mut rivals, node) = (Rivals::default(), NodeName::new("n"));
        for (second, pod) in [(0, "agent-b"), (5, "agent-a"), (9, "agent-b")] {
            rivals.opened(&node, pod, true, at(second));
        }
        assert_eq!(rivals.of(&node, at(9)), None, "an ending pod may come back once");
        rivals.opened(&node, "agent-a", true, at(14));
        assert_eq!(rivals.of(&node, at(14)), Some(("agent-a".into(), "agent-b".into())));
        assert_eq!(rivals.of(&node, at(14 + 301)), None);
        rivals.keep(|_| false);
        assert_eq!(rivals.of(&node, at(14)), None);
    }

    #[test]
    fn rollouts_and_agents_that_dial_again_are_no_rivals() {
        let (mut rivals, node) = (Rivals::default(), NodeName::new("n"));
        for second in 0..20 {
            rivals.opened(&node, &format!("agent-{second}"), true, at(second));
        }
        for second in 20..40 {
            rivals.opened(&node, "agent-19", true, at(second));
        }
        // One that follows when the other has stopped.
        for second in 40..60 {
            rivals.opened(&node, if second % 2 == 0 { "agent-0" } else { "agent-1" }, false, at(second));
        }
        assert_eq!(rivals.of(&node, at(60)), None);
    }
}
