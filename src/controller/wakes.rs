//! What each part of a wake took, as this replica saw it: from the order to wake until the node was usable.
//!
//! Everything is timed by one clock, the operator's, when a pass first sees it: a node's own clock may be a second off
//! after a sleep, and times in objects are whole seconds. A pass a second makes the parts exact to a second.

use miyako_core::model::{
    ClassName, Desired, Node, NodeName, PowerRecord, PowerState, Snapshot, Span, Timestamp, WakerOutcome,
};
use miyako_core::plan::Report;
use std::collections::BTreeMap;

/// The part of a wake in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Until a driver said that the machine is on, or that its request went out.
    Bmc,
    /// From there until its agent said that it is back.
    Resume,
    /// From there until the node was Ready.
    Kubelet,
    /// From there until KubeVirt called it schedulable.
    KubeVirt,
    /// From there until it counted as usable (`readyWhen`).
    Usable,
    /// From the order until it counted as usable.
    Whole,
}

impl Part {
    /// The value of the metric's label.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bmc => "BMC",
            Self::Resume => "Resume",
            Self::Kubelet => "Kubelet",
            Self::KubeVirt => "KubeVirt",
            Self::Usable => "Usable",
            Self::Whole => "Whole",
        }
    }
}

/// A wake is seen within this time after its order was given; an older order is that of another wake.
const SEEN_WITHIN: Span = Span::from_secs(10);

/// A wake that goes on.
#[derive(Debug)]
struct Lap {
    ordered: Timestamp,
    /// The agent's word of its sleep before.
    resumed_before: Option<Timestamp>,
    /// When each part was over.
    over: BTreeMap<Part, Timestamp>,
}

/// Watches nodes wake.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    /// Nodes with their last phase, and the wake if it is one.
    nodes: BTreeMap<NodeName, (PowerState, Option<Lap>)>,
}

/// What a part of a wake of a node of this class took.
pub(super) type Took = (Option<ClassName>, Part, Span);

impl Wakes {
    /// How many nodes are watched.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Looks at all nodes, and says of those that have just become usable what each part took. A wake whose beginning this
    /// replica did not see is not told.
    pub(super) fn look(&mut self, report: &Report, snapshot: &Snapshot, now: Timestamp) -> Vec<Took> {
        self.nodes.retain(|name, _| snapshot.powers.contains_key(name));
        let mut took = Vec::new();
        for (name, record) in &snapshot.powers {
            let before = self.nodes.remove(name);
            let (phase_before, lap) = before.map_or((None, None), |(phase, lap)| (Some(phase), lap));
            let lap = match (record.phase, phase_before) {
                (PowerState::Waking, Some(PowerState::Waking)) => lap,
                (PowerState::Waking, Some(_)) => Some(Lap::begun(record, now)),
                (PowerState::Awake, Some(PowerState::Waking)) => {
                    if let Some(mut lap) = lap {
                        lap.look(record, snapshot.nodes.get(name), now);
                        let class = report.nodes.get(name).and_then(|node| node.class.clone());
                        took.extend(lap.parts(now).map(|(part, span)| (class.clone(), part, span)));
                    }
                    None
                }
                _ => None,
            };
            let lap = lap.map(|mut lap| {
                lap.look(record, snapshot.nodes.get(name), now);
                lap
            });
            self.nodes.insert(name.clone(), (record.phase, lap));
        }
        took
    }
}

impl Lap {
    fn begun(record: &PowerRecord, now: Timestamp) -> Self {
        let order = record.order.as_ref().filter(|order| order.desired == Desired::Awake);
        let issued =
            order.map(|order| order.issued).filter(|issued| *issued <= now && now.since(*issued) <= SEEN_WITHIN);
        Self { ordered: issued.unwrap_or(now), resumed_before: record.agent.resumed, over: BTreeMap::new() }
    }

    /// Notes what is over.
    fn look(&mut self, record: &PowerRecord, node: Option<&Node>, now: Timestamp) {
        let answered = record.waker_word().and_then(|word| word.outcome);
        if matches!(answered, Some(WakerOutcome::Awake | WakerOutcome::Sent)) {
            self.over.entry(Part::Bmc).or_insert(now);
        }
        if record.agent.resumed.is_some() && record.agent.resumed != self.resumed_before {
            self.over.entry(Part::Resume).or_insert(now);
        }
        // A node that slept for a moment only is still called Ready.
        let back = node.filter(|node| self.over.contains_key(&Part::Resume) && node.ready);
        let Some(node) = back else { return };
        self.over.entry(Part::Kubelet).or_insert(now);
        if node.labels.get(miyako_api::names::kubevirt::SCHEDULABLE).is_some_and(|word| word == "true") {
            self.over.entry(Part::KubeVirt).or_insert(now);
        }
    }

    /// What each part took, now that the node is usable. What nobody told (there is no waker, no KubeVirt) is none: its
    /// time is the next part's.
    fn parts(&self, now: Timestamp) -> impl Iterator<Item = (Part, Span)> {
        let mut from = self.ordered;
        let over = self.over.iter().map(|(part, at)| (*part, *at)).chain([(Part::Usable, now)]);
        let parts: Vec<_> = over
            .map(|(part, at)| {
                let took = at.since(from);
                from = from.max(at);
                (part, took)
            })
            .chain([(Part::Whole, now.since(self.ordered))])
            .collect();
        parts.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_core::model::{Order, WakerWord};
    use miyako_core::model::{Resources, SleepMethod};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_secs(1_000 + second)
    }

    /// What a change of the world is made with.
    type Change = fn(&mut PowerRecord, &mut Node);

    fn word(outcome: Option<WakerOutcome>) -> Option<WakerWord> {
        Some(WakerWord { generation: 1, by: "w".into(), at: at(0), outcome, message: String::new() })
    }

    /// A node that sleeps, and what happens to it second by second.
    fn told(changes: &[(i64, Change)]) -> Vec<(&'static str, u64)> {
        let mut node = Node::new("n", Resources::default());
        node.ready = false;
        node.labels.insert("kubevirt.io/schedulable".into(), "false".into());
        let order = Order {
            desired: Desired::Awake,
            method: SleepMethod::S3,
            generation: 1,
            issued: at(1),
            expires: at(60),
            reason: String::new(),
        };
        let mut record = PowerRecord { phase: PowerState::Suspended, order: Some(order), ..PowerRecord::default() };
        record.agent.resumed = Some(at(-500));
        let (mut wakes, mut told, last) = (Wakes::default(), Vec::new(), changes.iter().map(|(at, _)| *at).max());
        for second in 0..=last.unwrap_or_default() {
            for (_, change) in changes.iter().filter(|(at, _)| *at == second) {
                change(&mut record, &mut node);
            }
            let mut snapshot = Snapshot::default();
            snapshot.nodes.insert(node.name.clone(), node.clone());
            snapshot.powers.insert(node.name.clone(), record.clone());
            told.extend(wakes.look(&Report::default(), &snapshot, at(second)));
        }
        told.into_iter().map(|(_, part, span)| (part.name(), span.as_secs())).collect()
    }

    const ORDERED: Change = |record, _| record.phase = PowerState::Waking;
    const ANSWERED: Change = |record, _| record.waker = word(Some(WakerOutcome::Awake));
    const RESUMED: Change = |record, _| record.agent.resumed = Some(at(5));
    const READY: Change = |_, node| node.ready = true;
    const SCHEDULABLE: Change = |_, node| drop(node.labels.insert("kubevirt.io/schedulable".into(), "true".into()));
    const USABLE: Change = |record, _| record.phase = PowerState::Awake;

    #[test]
    fn each_part_is_told_when_the_node_is_usable() {
        let wake = [(1, ORDERED), (3, ANSWERED), (4, RESUMED), (7, READY), (9, SCHEDULABLE), (10, USABLE)];
        let parts = [("BMC", 2), ("Resume", 1), ("Kubelet", 3), ("KubeVirt", 2), ("Usable", 1), ("Whole", 9)];
        assert_eq!(told(&wake), parts);
    }

    #[test]
    fn what_nobody_tells_is_the_next_parts_and_what_comes_early_takes_nothing() {
        let by_card = [(1, ORDERED), (4, RESUMED), (5, READY), (6, USABLE)];
        assert_eq!(told(&by_card), [("Resume", 3), ("Kubelet", 1), ("Usable", 1), ("Whole", 5)]);
        let agent_first = [(1, ORDERED), (2, RESUMED), (5, ANSWERED), (6, READY), (6, SCHEDULABLE), (6, USABLE)];
        let parts = [("BMC", 4), ("Resume", 0), ("Kubelet", 1), ("KubeVirt", 0), ("Usable", 0), ("Whole", 5)];
        assert_eq!(told(&agent_first), parts);
    }

    #[test]
    fn a_wake_that_fails_or_whose_beginning_was_not_seen_is_not_told() {
        let failed: Change = |record, _| record.phase = PowerState::Quarantined;
        assert_eq!(told(&[(1, ORDERED), (5, failed), (9, USABLE)]), []);
        assert_eq!(told(&[(0, ORDERED), (5, RESUMED), (9, USABLE)]), [], "it was on its way when this replica began");
    }
}
