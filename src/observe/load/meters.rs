//! What meters say that nodes draw: the newest figure of each, as long as it is fresh. Whatever can't be is no figure.

use super::{
    inventory::Inventory,
    judge::{self, Refusal},
};
use miyako_api::wire::{METER_STALE_AFTER, READER_LAPSES, load as wire};
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
    /// Of the nodes' BMCs, by the waker that reads them, and when they were read: what was read of a node before it fell
    /// asleep says nothing of its sleep.
    pub bmc: BTreeMap<NodeName, (Timestamp, Watts)>,
}

/// The newest figures.
#[derive(Debug, Default)]
pub(super) struct Meters {
    rapl: BTreeMap<NodeName, (Timestamp, Watts)>,
    asked: BTreeMap<NodeName, (Timestamp, Watts)>,
    bmc: BTreeMap<NodeName, (Timestamp, Watts)>,
    /// Wakers by the nodes that they run on, and when they last called.
    wakers: BTreeMap<NodeName, Timestamp>,
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

    /// What a waker has read of BMCs. One figure that can't be takes no other along.
    pub(super) fn of_waker(
        &mut self,
        waker: &NodeName,
        readings: &[wire::Reading],
        known: &Inventory,
        arrived: Timestamp,
    ) -> Vec<Refusal> {
        self.wakers.retain(|_, called| is_near(*called, arrived, READER_LAPSES));
        self.wakers.insert(waker.clone(), arrived);
        readings.iter().filter_map(|reading| self.of_bmc(reading, known, arrived).err()).collect()
    }

    fn of_bmc(&mut self, reading: &wire::Reading, known: &Inventory, arrived: Timestamp) -> Result<(), Refusal> {
        let node = NodeName::new(reading.node.chars().take(253).collect::<String>());
        if !known.nodes.contains_key(&node) {
            return Err(Refusal::UnknownNode(node));
        }
        let watts = judge::watts("watts", reading.watts)?;
        let at = arrived - Span::from_millis(reading.age_ms.into());
        // Two wakers may read for a moment while one takes over from the other.
        if self.bmc.get(&node).is_none_or(|(known, _)| *known <= at || !is_near(*known, arrived, METER_STALE_AFTER)) {
            self.bmc.insert(node, (at, watts));
        }
        Ok(())
    }

    /// Whether this waker is to read BMCs: of those that call the first by name, so that every replica which hears the
    /// same ones names the same one.
    pub(super) fn is_reader(&self, waker: &NodeName) -> bool {
        self.wakers.keys().next() == Some(waker)
    }

    /// How many figures and wakers are known.
    pub(super) fn len(&self) -> usize {
        self.rapl.len() + self.asked.len() + self.bmc.len() + self.wakers.len()
    }

    /// Forgets nodes that are no more.
    pub(super) fn keep(&mut self, inventory: &Inventory) {
        self.rapl.retain(|node, _| inventory.nodes.contains_key(node));
        self.asked.retain(|node, _| inventory.nodes.contains_key(node));
        self.bmc.retain(|node, _| inventory.nodes.contains_key(node));
    }

    /// What is fresh. A figure from the future counts as long as one from the past would: a clock was set.
    pub(super) fn fresh(&self, now: Timestamp, agent_stale_after: Span) -> Metered {
        let near = |figures: &BTreeMap<NodeName, (Timestamp, Watts)>, stale_after: Span| {
            let mut figures = figures.clone();
            figures.retain(|_, (at, _)| is_near(*at, now, stale_after));
            figures
        };
        let watts = |figures: BTreeMap<NodeName, (Timestamp, Watts)>| {
            figures.into_iter().map(|(node, (_, watts))| (node, watts)).collect()
        };
        Metered {
            rapl: watts(near(&self.rapl, agent_stale_after)),
            asked: watts(near(&self.asked, ASKED_STALE_AFTER)),
            bmc: near(&self.bmc, METER_STALE_AFTER),
        }
    }
}

fn is_near(at: Timestamp, now: Timestamp, within: Span) -> bool {
    now.since(at).max(at.since(now)) <= within
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

    fn reading(node: &str, watts: f64, age_ms: u32) -> wire::Reading {
        wire::Reading { node: node.into(), watts, age_ms }
    }

    fn known(nodes: &[&str]) -> Inventory {
        let nodes = nodes.iter().map(|name| (NodeName::new(*name), miyako_core::model::Cores::ZERO)).collect();
        Inventory { nodes, ..Inventory::default() }
    }

    #[test]
    fn a_bmcs_reading_counts_from_when_it_was_read_until_it_is_stale() {
        let (arrived, waker) = (Timestamp::from_secs(1000), NodeName::new("cp-1"));
        let mut meters = Meters::default();
        let refused = meters.of_waker(
            &waker,
            &[reading("n1", 230.0, 40_000), reading("n2", 7.5, 0), reading("elsewhere", 1.0, 0)],
            &known(&["n1", "n2"]),
            arrived,
        );
        assert_eq!(refused.iter().map(Refusal::reason).collect::<Vec<_>>(), ["UnknownNode"]);
        let seen = |meters: &Meters, after: i64| {
            let fresh = meters.fresh(Timestamp::from_secs(1000 + after), Span::from_secs(3));
            fresh
                .bmc
                .into_iter()
                .map(|(node, (at, watts))| (node.to_string(), at.millis() / 1000, watts.value()))
                .collect::<Vec<_>>()
        };
        let (n1, n2) = (("n1".to_owned(), 960, 230.0), ("n2".to_owned(), 1000, 7.5));
        assert_eq!(seen(&meters, 140), [n1, n2.clone()]);
        assert_eq!(seen(&meters, 141), std::slice::from_ref(&n2));
        // What the other waker read before does not take the place of what is newer.
        meters.of_waker(&NodeName::new("cp-2"), &[reading("n2", 99.0, 5_000)], &known(&["n2"]), arrived);
        assert_eq!(seen(&meters, 0)[1], n2);
        meters.keep(&known(&["n1"]));
        assert_eq!(seen(&meters, 0).len(), 1);
    }

    #[test]
    fn nonsense_is_refused_and_takes_nothing_else_along() {
        let mut meters = Meters::default();
        let readings = [f64::NAN, f64::INFINITY, -1.0, 1e6, 80.0].map(|watts| reading("n1", watts, 0));
        let refused = meters.of_waker(&NodeName::new("cp"), &readings, &known(&["n1"]), Timestamp::from_secs(9));
        let reasons: Vec<_> = refused.iter().map(Refusal::reason).collect();
        assert_eq!(reasons, ["NotFinite", "NotFinite", "Negative", "Absurd"]);
        assert_eq!(meters.bmc[&NodeName::new("n1")].1, Watts::new(80.0).unwrap());
    }

    #[test]
    fn of_the_wakers_that_call_one_reads_and_another_when_it_falls_silent() {
        let (mut meters, at) = (Meters::default(), Timestamp::from_secs);
        let mut call = |waker: &str, second: i64| {
            let waker = NodeName::new(waker);
            meters.of_waker(&waker, &[], &Inventory::default(), at(second));
            meters.is_reader(&waker)
        };
        assert!(call("cp-2", 0), "there is no other");
        assert!(call("cp-1", 2));
        assert!(!call("cp-2", 5));
        assert!(call("cp-1", 7));
        assert!(!call("cp-2", 22), "its last word is 15 s old");
        assert!(call("cp-2", 23));
        // A clock that is set back far does not leave a waker that is gone in its place.
        assert!(call("cp-3", -1000));
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_waker_says_is_bounded(watts in proptest::num::f64::ANY, age in proptest::num::u32::ANY, node in ".{0,300}") {
            let (mut meters, arrived) = (Meters::default(), Timestamp::from_secs(1_000_000_000));
            let told = [reading(&node, watts, age), reading("n1", watts, age)];
            meters.of_waker(&NodeName::new("cp"), &told, &known(&["n1"]), arrived);
            proptest::prop_assert!(meters.bmc.keys().all(|node| node.as_str() == "n1"));
            let all_sane = meters.bmc.values().all(|(at, watts)| *at <= arrived && (0.0..=1e5).contains(&watts.value()));
            proptest::prop_assert!(all_sane);
        }
    }
}
