//! What every ruled node draws and has drawn, pass by pass. Every replica counts, so that whoever leads next goes on
//! without a gap; what NodePowers record is where one that has just started begins. Only a replica that saw a sleep from
//! its beginning settles it by the agent's proof: another one can't tell what of it was counted already.
//!
//! Figures ride along with whatever is written to a NodePower anyway. Beside that each is written once an hour, spread
//! over the hour, and only under policies that act and have saved something: a policy that never sleeps costs nothing.

use super::Operator;
use super::deadline::Deadline;
use crate::act::{ActError, Class, EnergyNote};
use crate::observe::load::{Metered, WattsQuestion};
use miyako_core::energy::{Account, Draw, LONGEST_GAP, Look, Unsettled, draw};
use miyako_core::model::{
    ClassName, Meter, NodeName, Policies, PolicyMode, PolicyName, PowerRecord, PowerState, RecordedEnergy, Snapshot,
    Span, Timestamp, Uid, Watts,
};
use miyako_core::plan::Report;
use std::collections::{BTreeMap, BTreeSet};

/// Figures that nothing else takes along are written this seldom.
const EVERY: Span = Span::from_secs(3600);
/// So many are written in one pass: a thousand nodes are done within minutes.
const AT_ONCE: usize = 4;

/// A ruled node's energy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NodeEnergy {
    /// Its class.
    pub(super) class: ClassName,
    /// The policy that rules it.
    pub(super) policy: PolicyName,
    /// What it draws now.
    pub(super) draw: Draw,
    /// What it would draw now, if it slept whenever nothing keeps it awake.
    pub(super) if_empty_slept: Watts,
    /// What it has drawn since its NodePower exists, or, without one, since this replica began.
    pub(super) account: Account,
    /// What this pass added.
    pub(super) added: Account,
    /// Its place in the power sequence.
    state: PowerState,
    /// What is not settled yet of the sleep that it is in, goes to or comes from, if all of that was seen.
    unsettled: Option<Unsettled>,
    /// The NodePower that the account belongs to.
    power: Option<Uid>,
    /// What it records.
    recorded: Option<RecordedEnergy>,
    /// Since when it does.
    written: Timestamp,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    nodes: BTreeMap<NodeName, NodeEnergy>,
    /// Those that the last pass no longer found, or found in another class or under another policy.
    gone: Vec<(NodeName, NodeEnergy)>,
    last: Option<Timestamp>,
}

impl Ledger {
    /// The ruled nodes.
    pub(super) fn nodes(&self) -> &BTreeMap<NodeName, NodeEnergy> {
        &self.nodes
    }

    /// Those that the last pass no longer found, or found in another class or under another policy, as they were.
    pub(super) fn gone(&self) -> &[(NodeName, NodeEnergy)] {
        &self.gone
    }

    /// How many accounts are kept.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() + self.gone.len()
    }

    /// The sum over some of them.
    pub(super) fn sum(&self, wanted: impl Fn(&NodeEnergy) -> bool) -> Account {
        self.nodes.values().filter(|node| wanted(node)).map(|node| node.account).sum()
    }

    /// Takes in one pass: what each node draws now is what it drew since the last one.
    pub(super) fn note(
        &mut self,
        report: &Report,
        (snapshot, policies): (&Snapshot, &Policies),
        metered: &Metered,
        now: Timestamp,
    ) {
        let span = now.since(self.last.replace(now).unwrap_or(now));
        let before = std::mem::take(&mut self.nodes);
        for (index, (name, node)) in report.nodes.iter().enumerate() {
            let (Some(class), Some(policy)) = (&node.class, &node.policy) else { continue };
            let (Some(known), Some(seen)) = (policies.classes.get(class), snapshot.nodes.get(name)) else { continue };
            let load = snapshot.load.nodes.get(name).filter(|load| load.is_fresh(now)).and_then(|load| load.latest());
            let capacity = seen.allocatable.cpu.cores();
            let phase_since = snapshot.powers.get(name).and_then(|record| record.since);
            let measured = measured(&known.meter, name, (seen.power, phase_since), metered);
            let draw = draw(known.power, &Look { power: seen.power, ready: seen.ready, load, capacity, measured });
            let asleep = Watts::new(f64::from(known.power.asleep)).unwrap_or(Watts::ZERO);
            let record = snapshot.powers.get(name);
            let power = record.and_then(|record| record.uid.clone());
            let same = before.get(name).filter(|before| before.power == power || before.power.is_none());
            let recorded = record.and_then(|record| record.energy);
            let written = match same {
                Some(before) if before.recorded == recorded => before.written,
                Some(_) => now,
                // Nobody knows since when; all at once would be a burst.
                None => now - Span::from_secs(EVERY.as_secs() * index as u64 / report.nodes.len() as u64),
            };
            let mut added = Account::default();
            let mut unsettled = begun(same, seen.power).filter(|_| span <= LONGEST_GAP);
            match (&mut unsettled, seen.power) {
                (Some(unsettled), PowerState::Suspending | PowerState::Waking) => unsettled.take_in(&draw, span),
                (Some(unsettled), PowerState::Suspended) => {
                    unsettled.slept(span);
                    added.take_in(&draw, span);
                }
                _ => added.take_in(&draw, span),
            }
            if !sleeps(seen.power)
                && let Some(unsettled) = unsettled.take()
            {
                added += unsettled.settle(known.power, record.and_then(proven));
            }
            let account =
                same.map(|before| before.account).unwrap_or_default().continuing(recorded.unwrap_or_default()) + added;
            let rests = node.can_sleep() && asleep < draw.now;
            let if_empty_slept = if rests { asleep } else { draw.now };
            let (class, policy) = (class.clone(), policy.clone());
            let state = seen.power;
            let energy = NodeEnergy {
                class,
                policy,
                draw,
                if_empty_slept,
                account,
                added,
                state,
                unsettled,
                power,
                recorded,
                written,
            };
            self.nodes.insert(name.clone(), energy);
        }
        let stays = |name: &NodeName, before: &NodeEnergy| {
            let now = self.nodes.get(name);
            now.is_some_and(|now| (&now.class, &now.policy) == (&before.class, &before.policy))
        };
        self.gone = before.into_iter().filter(|(name, before)| !stays(name, before)).collect();
    }

    /// What a NodePower is told.
    pub(super) fn note_of(&self, node: &NodeName) -> Option<EnergyNote> {
        let energy = self.nodes.get(node)?;
        let Draw { now: watts, source, .. } = energy.draw;
        Some(EnergyNote { watts, source, account: energy.account.recorded() })
    }

    /// Not before another hour: it failed.
    fn put_off(&mut self, node: &NodeName, now: Timestamp) {
        if let Some(energy) = self.nodes.get_mut(node) {
            energy.written = now;
        }
    }

    /// Nodes whose figures are to be written for their own sake, those first that wait longest.
    fn due(&self, policies: &Policies, now: Timestamp) -> Vec<NodeName> {
        let acts = |policy: &PolicyName| {
            let mode = policies.policies.get(policy).map(|policy| policy.mode);
            mode == Some(PolicyMode::Automatic) && self.sum(|node| node.policy == *policy).saved().abs() >= 1.0
        };
        let mut asked: BTreeMap<&PolicyName, bool> = BTreeMap::new();
        let mut due: Vec<(Timestamp, &NodeName)> = Vec::new();
        for (name, node) in &self.nodes {
            let waits = node.power.is_some() && now.since(node.written) >= EVERY;
            if waits && *asked.entry(&node.policy).or_insert_with(|| acts(&node.policy)) {
                due.push((node.written, name));
            }
        }
        due.sort();
        due.into_iter().take(AT_ONCE).map(|(_, name)| name.clone()).collect()
    }
}

/// It is asleep, or on its way there or back.
fn sleeps(power: PowerState) -> bool {
    matches!(power, PowerState::Suspending | PowerState::Suspended | PowerState::Waking)
}

/// What is unsettled of a node's sleep: it begins as the node leaves its place among those that are awake.
fn begun(before: Option<&NodeEnergy>, power: PowerState) -> Option<Unsettled> {
    let before = before?;
    let begins = power == PowerState::Suspending && !sleeps(before.state);
    if begins { Some(Unsettled::default()) } else { before.unsettled }
}

/// How long the machine slept by its last order, by its own clocks.
fn proven(record: &PowerRecord) -> Option<Span> {
    let (generation, slept) = record.agent.slept?;
    (Some(generation) == record.suspend_generation).then_some(slept)
}

/// What the node's meter says, if it has one and the figure is fresh.
fn measured(
    meter: &Meter,
    name: &NodeName,
    (power, since): (PowerState, Option<Timestamp>),
    metered: &Metered,
) -> Option<Watts> {
    match meter {
        Meter::Modelled => None,
        // Its last word before it fell asleep says nothing of its sleep.
        Meter::Rapl { .. } if power == PowerState::Suspended => None,
        Meter::Rapl { besides } => Some(*metered.rapl.get(name)? + Watts::new(f64::from(*besides)).ok()?),
        Meter::Prometheus { .. } => metered.asked.get(name).copied(),
        // A minute is long: what was read in another phase is no figure of this one.
        Meter::Bmc => {
            metered.bmc.get(name).filter(|(at, _)| since.is_none_or(|since| *at >= since)).map(|(_, watts)| *watts)
        }
    }
}

/// What Prometheus is asked about watts.
pub(super) fn questions(policies: &Policies) -> Vec<WattsQuestion> {
    let asked = policies.classes.values().filter_map(|class| match &class.meter {
        Meter::Prometheus { query, node_label } => {
            Some(WattsQuestion { query: query.clone(), node_label: node_label.clone() })
        }
        Meter::Modelled | Meter::Rapl { .. } | Meter::Bmc => None,
    });
    asked.collect::<BTreeSet<_>>().into_iter().collect()
}

impl Operator {
    /// Writes the figures that nothing has taken along for long.
    pub(super) async fn write_energy(&mut self, deadline: Deadline, now: Timestamp) {
        let (snapshot, policies) = self.observer.snapshot();
        let due = self.ledger.due(policies, now);
        let due = due.into_iter().filter_map(|node| Some((snapshot.powers.get(&node)?.clone(), node)));
        let due: Vec<_> = due.collect();
        for (record, node) in due {
            let Some(note) = self.ledger.note_of(&node) else { continue };
            if !self.hung.may_write(&node, now) {
                continue;
            }
            if deadline.has_passed() {
                return;
            }
            match deadline.within(self.actor.note_energy(&node, &record, &note)).await {
                Ok(power) => self.observer.expect_written(&power),
                Err(ActError::NotLeading) => return,
                // Somebody was faster: the next pass looks again.
                Err(error) if error.class() == Class::Conflict => {}
                Err(error) => {
                    self.failed(&error);
                    if error.is_unanswered() {
                        self.hung.hung(&node, self.clock.now());
                    }
                    self.ledger.put_off(&node, now);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::convert::{class, policy};
    use miyako_core::model::Node;
    use miyako_core::plan::decide;
    use serde_json::{from_value, json};

    /// Two nodes of the Energy paper's figures under a policy that acts; the second one sleeps.
    fn world() -> (Snapshot, Policies) {
        let (mut snapshot, mut policies) = (Snapshot::default(), Policies::default());
        let spec = from_value(json!({"role": "Dedicated", "nodeSelector": {"matchLabels": {"class": "d"}}}));
        let class = class::convert("d", &spec.expect("a class")).value;
        let spec = from_value(json!({"mode": "Automatic", "nodeClasses": ["d"]})).expect("a policy");
        let policy = policy::resolve("p", &spec).value.policy;
        policies.policies.insert(policy.name.clone(), policy);
        policies.classes.insert(class.name.clone(), class);
        for (name, phase) in [("n1", PowerState::Awake), ("n2", PowerState::Suspended)] {
            let mut node = Node::new(name, miyako_core::model::Resources::default());
            node.labels.insert("class".into(), "d".into());
            (node.ready, node.power) = (phase == PowerState::Awake, phase);
            let record = PowerRecord { uid: Some(Uid::new(name)), phase, noted: true, ..PowerRecord::default() };
            snapshot.powers.insert(node.name.clone(), record);
            snapshot.nodes.insert(node.name.clone(), node);
        }
        (snapshot, policies)
    }

    fn pass(ledger: &mut Ledger, (snapshot, policies): &(Snapshot, Policies), second: u64) {
        let now = Timestamp::from_secs(1_000_000 + i64::try_from(second).unwrap());
        let (_, report) = decide(snapshot, policies, now, 0);
        ledger.note(&report, (snapshot, policies), &Metered::default(), now);
    }

    fn whole(ledger: &Ledger) -> (u64, i64) {
        let RecordedEnergy { used, saved } = ledger.sum(|_| true).recorded();
        (used, saved)
    }

    #[test]
    fn each_second_is_counted_once_and_a_gap_not_at_all() {
        let (world, mut ledger) = (world(), Ledger::default());
        for second in 0..=10 {
            pass(&mut ledger, &world, second);
        }
        assert_eq!(whole(&ledger), (600, 460), "53 W and 7 W for ten seconds; the sleeper would have idled at 53 W");
        pass(&mut ledger, &world, 3600);
        assert_eq!(whole(&ledger), (600, 460));
        let of_class = ledger.sum(|node| node.class.as_str() == "d" && node.policy.as_str() == "p");
        assert_eq!(of_class, ledger.sum(|_| true));
    }

    #[test]
    fn a_sleep_counts_from_when_the_machine_slept_and_not_from_when_its_lease_lapsed() {
        let node = NodeName::new("n2");
        let slept = |proof: Option<(i64, u64)>, seen_from_its_beginning: bool| {
            let (mut world, mut ledger) = (world(), Ledger::default());
            let mut second = 0;
            let mut stay = |world: &mut (Snapshot, Policies), power: PowerState, seconds: u64| {
                world.0.nodes.get_mut(&node).unwrap().power = power;
                for _ in 0..seconds {
                    pass(&mut ledger, world, second);
                    second += 1;
                }
            };
            if seen_from_its_beginning {
                stay(&mut world, PowerState::Awake, 10);
            }
            stay(&mut world, PowerState::Suspending, 53);
            stay(&mut world, PowerState::Suspended, 100);
            stay(&mut world, PowerState::Waking, 10);
            let record = world.0.powers.get_mut(&node).unwrap();
            record.suspend_generation = Some(7);
            record.agent.slept = proof.map(|(generation, seconds)| (generation, Span::from_secs(seconds)));
            stay(&mut world, PowerState::Awake, 10);
            whole(&ledger).1
        };
        let check = |proof, seen, seconds: i64, why: &str| {
            let saved = slept(proof, seen);
            assert!((saved - seconds * 46).abs() <= 1, "{saved} J: {why}");
        };
        check(Some((7, 155)), true, 155, "three seconds down, five up, and asleep in between");
        check(Some((7, 3600)), true, 163, "never more than there was time");
        check(Some((5, 155)), true, 100, "the proof is of an older sleep");
        check(None, true, 100, "there is no proof");
        check(Some((7, 155)), false, 100, "who came late can't tell what was counted");
    }

    #[test]
    fn a_successor_goes_on_from_what_is_recorded_and_never_falls_behind_itself() {
        let (mut world, mut ledger) = (world(), Ledger::default());
        let node = NodeName::new("n2");
        let record = |world: &mut (Snapshot, Policies), used, saved| {
            world.0.powers.get_mut(&node).unwrap().energy = Some(RecordedEnergy { used, saved });
        };
        record(&mut world, 5000, 30_000);
        pass(&mut ledger, &world, 0);
        pass(&mut ledger, &world, 1);
        let account = |ledger: &Ledger| ledger.note_of(&node).unwrap().account;
        assert_eq!(account(&ledger), RecordedEnergy { used: 5007, saved: 30_046 });
        // An older record than one's own count changes nothing, and another NodePower begins anew.
        record(&mut world, 10, 10);
        pass(&mut ledger, &world, 2);
        assert_eq!(account(&ledger), RecordedEnergy { used: 5014, saved: 30_092 });
        world.0.powers.get_mut(&node).unwrap().uid = Some(Uid::new("another"));
        world.0.powers.get_mut(&node).unwrap().energy = None;
        pass(&mut ledger, &world, 3);
        assert_eq!(account(&ledger), RecordedEnergy { used: 7, saved: 46 });
    }

    #[test]
    fn figures_are_written_hourly_and_only_where_sleep_saves_something() {
        let (mut world, mut ledger) = (world(), Ledger::default());
        let due = |ledger: &Ledger, world: &(Snapshot, Policies), second: i64| -> Vec<String> {
            let now = Timestamp::from_secs(1_000_000 + second);
            ledger.due(&world.1, now).iter().map(ToString::to_string).collect()
        };
        pass(&mut ledger, &world, 0);
        pass(&mut ledger, &world, 1);
        assert_eq!(due(&ledger, &world, 1799), [""; 0]);
        assert_eq!(due(&ledger, &world, 1800), ["n2"], "spread over the first hour");
        assert_eq!(due(&ledger, &world, 3600), ["n2", "n1"]);
        // What was written, by whomever, is not due again.
        let written = ledger.note_of(&NodeName::new("n2")).unwrap().account;
        world.0.powers.get_mut(&NodeName::new("n2")).unwrap().energy = Some(written);
        pass(&mut ledger, &world, 50);
        assert_eq!(due(&ledger, &world, 3600), ["n1"]);
        // Nobody ever slept: nobody writes.
        world.0.nodes.values_mut().for_each(|node| node.power = PowerState::Awake);
        let mut ledger = Ledger::default();
        world.0.powers.values_mut().for_each(|record| record.energy = None);
        pass(&mut ledger, &world, 0);
        pass(&mut ledger, &world, 1);
        assert_eq!(due(&ledger, &world, 1_000_000), [""; 0]);
    }

    #[test]
    fn a_meter_is_asked_where_the_class_names_one_and_the_model_where_it_is_silent() {
        let (mut world, node) = (world(), |name: &str| NodeName::new(name));
        let drawn = |world: &(Snapshot, Policies), metered: &Metered| {
            let (mut ledger, now) = (Ledger::default(), Timestamp::from_secs(1_000_000));
            let (_, report) = decide(&world.0, &world.1, now, 0);
            ledger.note(&report, (&world.0, &world.1), metered, now);
            ["n1", "n2"].map(|name| {
                let note = ledger.note_of(&node(name)).unwrap();
                (note.watts.value(), note.source == miyako_core::energy::Source::Measured)
            })
        };
        let both = |watts| ["n1", "n2"].map(|name| (node(name), Watts::new(watts).unwrap())).into();
        let metered = Metered { rapl: both(40.0), asked: both(90.0), ..Metered::default() };
        assert_eq!(drawn(&world, &metered), [(53.0, false), (7.0, false)], "nobody asked for a meter");
        let class = |world: &mut (Snapshot, Policies), meter| {
            world.1.classes.values_mut().for_each(|class| class.meter = Meter::clone(&meter));
        };
        class(&mut world, Meter::Rapl { besides: 25 });
        assert_eq!(drawn(&world, &metered), [(65.0, true), (7.0, false)], "a sleeper counts nothing");
        assert_eq!(drawn(&world, &Metered::default()), [(53.0, false), (7.0, false)]);
        let asks = Meter::Prometheus { query: "watts".into(), node_label: "node".into() };
        class(&mut world, asks);
        assert_eq!(drawn(&world, &metered), [(90.0, true), (90.0, true)], "a meter in front of the machine sees sleep");
        assert_eq!(questions(&world.1).len(), 1);
    }

    #[test]
    fn what_a_bmc_said_before_a_node_fell_asleep_is_no_figure_of_its_sleep() {
        let mut world = world();
        world.1.classes.values_mut().for_each(|class| class.meter = Meter::Bmc);
        let now = Timestamp::from_secs(1_000_000);
        let read = now - Span::from_secs(40);
        let bmc = ["n1", "n2"].map(|name| (NodeName::new(name), (read, Watts::new(61.0).unwrap()))).into();
        let metered = Metered { bmc, ..Metered::default() };
        let drawn = |world: &(Snapshot, Policies), metered: &Metered| {
            let mut ledger = Ledger::default();
            let (_, report) = decide(&world.0, &world.1, now, 0);
            ledger.note(&report, (&world.0, &world.1), metered, now);
            ["n1", "n2"].map(|name| ledger.note_of(&NodeName::new(name)).unwrap().watts.value())
        };
        assert_eq!(drawn(&world, &metered), [61.0, 61.0], "standby counts as it is measured");
        let fell_asleep = |world: &mut (Snapshot, Policies), ago| {
            world.0.powers.get_mut(&NodeName::new("n2")).unwrap().since = Some(now - Span::from_secs(ago));
        };
        fell_asleep(&mut world, 39);
        assert_eq!(drawn(&world, &metered), [61.0, 7.0], "read while it was awake");
        fell_asleep(&mut world, 40);
        assert_eq!(drawn(&world, &metered), [61.0, 61.0]);
    }

    #[test]
    fn a_node_that_leaves_its_policy_is_told_once() {
        let (mut world, mut ledger) = (world(), Ledger::default());
        pass(&mut ledger, &world, 0);
        world.0.nodes.remove(&NodeName::new("n1"));
        pass(&mut ledger, &world, 1);
        assert_eq!(ledger.gone().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["n1"]);
        pass(&mut ledger, &world, 2);
        assert!(ledger.gone().is_empty());
    }
}
