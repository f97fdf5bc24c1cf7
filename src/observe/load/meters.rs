//! What meters say that nodes draw: the newest figure of each, as long as it is fresh. Whatever can't be is no figure.

use super::inventory::Inventory;
use miyako_core::model::{NodeName, Span, Timestamp, Watts};
use std::collections::BTreeMap;

/// An answer of Prometheus counts for so long: three rounds of questions at their slowest.
const ASKED_STALE_AFTER: Span = Span::from_secs(90);

/// A question to Prometheus about the watts of a class's nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WattsQuestion {
    /// The query.
    pub query: String,
    /// The label that carries the node's name.
    pub node_label: String,
}

/// Fresh figures by node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metered {
    /// Of the processors' energy counters, by the nodes' agents.
    pub rapl: BTreeMap<NodeName, Watts>,
    /// Of the answers to [`WattsQuestion`]s.
    pub asked: BTreeMap<NodeName, Watts>,
}

/// The newest figures.
#[derive(Debug, Default)]
pub(super) struct Meters {
    rapl: BTreeMap<NodeName, (Timestamp, Watts)>,
    asked: BTreeMap<NodeName, (Timestamp, Watts)>,
    pub(super) questions: Vec<WattsQuestion>,
}

impl Meters {
    /// What a node's agent says; none takes away what it said before.
    pub(super) fn of_agent(&mut self, node: &NodeName, at: Timestamp, watts: Option<Watts>) {
        match watts {
            Some(watts) => drop(self.rapl.insert(node.clone(), (at, watts))),
            None => drop(self.rapl.remove(node)),
        }
    }

    /// What Prometheus answered.
    pub(super) fn of_prometheus(&mut self, answers: Vec<(NodeName, Watts)>, at: Timestamp) {
        self.asked.extend(answers.into_iter().map(|(node, watts)| (node, (at, watts))));
    }

    /// Forgets nodes that are no more.
    pub(super) fn keep(&mut self, inventory: &Inventory) {
        self.rapl.retain(|node, _| inventory.nodes.contains_key(node));
        self.asked.retain(|node, _| inventory.nodes.contains_key(node));
    }

    /// What is fresh. A figure from the future counts as long as one from the past would: a clock was set.
    pub(super) fn fresh(&self, now: Timestamp, agent_stale_after: Span) -> Metered {
        let fresh = |figures: &BTreeMap<NodeName, (Timestamp, Watts)>, stale_after: Span| {
            let near = figures.iter().filter(|(_, (at, _))| now.since(*at).max(at.since(now)) <= stale_after);
            near.map(|(node, (_, watts))| (node.clone(), *watts)).collect()
        };
        Metered { rapl: fresh(&self.rapl, agent_stale_after), asked: fresh(&self.asked, ASKED_STALE_AFTER) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_fresh_counts() {
        let (at, node) = (Timestamp::from_secs(1000), NodeName::new("n1"));
        let watts = |value| Watts::new(value).unwrap();
        let mut meters = Meters::default();
        meters.of_agent(&node, at, Some(watts(80.0)));
        meters.of_prometheus(vec![(node.clone(), watts(120.0))], at);
        let seen = |meters: &Meters, after: i64| {
            let metered = meters.fresh(Timestamp::from_secs(1000 + after), Span::from_secs(3));
            (metered.rapl.len(), metered.asked.len())
        };
        assert_eq!(
            [0, 3, 4, 90, 91, -100].map(|after| seen(&meters, after)),
            [(1, 1), (1, 1), (0, 1), (0, 1), (0, 0), (0, 0)]
        );
        // An agent whose counters fail says so by saying nothing.
        meters.of_agent(&node, at, None);
        assert_eq!(seen(&meters, 0), (0, 1));
        meters.keep(&Inventory::default());
        assert_eq!(seen(&meters, 0), (0, 0));
    }
}
