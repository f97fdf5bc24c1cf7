//! Which empty node goes to sleep, one of each policy at a time: it is never urgent, and whatever is decided must show
//! before the next is.

mod failover;
mod proof;
mod trial;
mod wake_test;

use crate::energy::break_even;
pub use failover::{FailoverProof, Stranded};
pub use proof::SuspendProof;
pub use trial::Need;

use super::draft::{Draft, Place};
use super::{AwakeBecause, Gate};
use crate::model::{
    Blocker, ClassName, NodeName, Plan, Policy, PolicyName, PowerRecord, PowerState, Purpose, Role, Span, Step,
    SuspendReason, SuspendStep, Timestamp,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use trial::Trial;

/// A node whose last sleep was short, or whose agent refused, waits so many times longer before the next.
const WARY: u32 = 4;
/// Wakes that a VM or pod waited for are remembered for this time …
const MEMORY: Span = Span::from_secs(600);
/// … and each so many of them keep one more dedicated node spare.
const WAKES_PER_SPARE: usize = 2;
/// So many nodes of a policy, and as many that are to be tested first, take turns, a second each, in being tried: where
/// the cluster can't spare the first, it may spare the next.
const IN_TURN: usize = 3;
/// What fails together is judged VM by VM: for each so many VMs of a cluster another second passes between two tries,
/// so that the time they take is the same share of each second in large clusters as in small ones.
const VMS_PER_SECOND: usize = 5_000;
const AN_HOUR: Span = Span::from_secs(3600);

/// How many dedicated nodes a policy keeps awake and empty now: its own number (Reactive Cloud §5.3), and more while
/// nodes have had to be woken often.
pub(super) fn spares(draft: &Draft<'_>, policy: &Policy) -> usize {
    let base = count(policy.spare_dedicated);
    let most = policy.sleep.most_spare.map_or(base.saturating_mul(2), count).max(base);
    let awaited = draft.snapshot.power_history.awaited_within(draft.now, MEMORY, |node| rules(draft, policy, node));
    base.saturating_add(awaited / WAKES_PER_SPARE).min(most)
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn rules(draft: &Draft<'_>, policy: &Policy, node: &NodeName) -> bool {
    draft.place(node).and_then(|place| place.policy).is_some_and(|ruler| ruler.name == policy.name)
}

/// A node that nothing keeps awake by itself, or only that it never showed that it wakes. Their order is that in which
/// they go to sleep.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Able {
    /// Tests come first: they are short, and nodes that are trusted can sleep.
    rests: bool,
    /// Of nodes to be tested, those that never were, then those with the oldest proof.
    proved: Option<Timestamp>,
    /// Dedicated nodes first: they are there for load that comes and goes.
    role: Reverse<Role>,
    /// Then whoever has been empty for longest.
    since: Timestamp,
    number: usize,
}

/// What a policy has, counted once for all its nodes.
#[derive(Default)]
struct Tally<'a> {
    /// Nodes that could sleep, in the order in which they do.
    able: Vec<Able>,
    /// Nodes that are being tested.
    tested: wake_test::UnderTest<'a>,
    /// Usable nodes that stay so.
    awake: usize,
    /// Dedicated ones of these with no VM on them or on its way.
    spare: usize,
    /// Nodes that sleep, or are on their way there or back.
    asleep: BTreeMap<&'a ClassName, usize>,
    /// Suspends begun within the hour.
    begun: usize,
    /// Spare nodes that there are to be.
    wanted_spares: usize,
}

impl<'a> Tally<'a> {
    fn of(draft: &Draft<'a>, policy: &Policy) -> Self {
        let mut tally = Self::default();
        for role in [Role::Shared, Role::Dedicated] {
            for &number in draft.numbers_of(&policy.name, role) {
                let place = &draft.places[number];
                let leaves = draft.going_to_sleep.contains(&number);
                if let Some(class) = place.class.filter(|_| leaves || place.node.power != PowerState::Awake) {
                    *tally.asleep.entry(&class.name).or_default() += 1;
                }
                tally.tested.note(draft, policy, number);
                if leaves || !place.node.is_usable() {
                    continue;
                }
                tally.awake += 1;
                tally.spare += usize::from(is_spare(place));
                if place.blockers.iter().all(|blocker| *blocker == Blocker::NoWakeTest) {
                    let since = draft.snapshot.powers.get(&place.node.name).and_then(|record| record.empty_since);
                    let since = since.unwrap_or(draft.now);
                    let test = place.class.is_some_and(|class| wake_test::is_due(place.node, class, draft.now));
                    let proved = place.node.wake_tested.filter(|_| test);
                    tally.able.push(Able { rests: !test, proved, role: Reverse(role), since, number });
                }
            }
        }
        tally.able.sort();
        if !tally.able.is_empty() {
            let history = &draft.snapshot.power_history;
            tally.begun = history.suspends_within(draft.now, AN_HOUR, |node| rules(draft, policy, node));
            tally.wanted_spares = spares(draft, policy);
        }
        tally
    }
}

fn is_spare(place: &Place<'_>) -> bool {
    place.role() == Some(Role::Dedicated) && place.guests == 0
}

/// Plans suspends, and notes for every node that could sleep why it does not.
pub(super) fn suspend(draft: &mut Draft<'_>) {
    let busy: BTreeSet<PolicyName> = draft.plan.steps.iter().filter_map(Plan::policy_of).cloned().collect();
    let second = usize::try_from(draft.now.second()).unwrap_or_default();
    let every = 1 + draft.snapshot.vms.len() / VMS_PER_SECOND;
    let (try_now, turn) = (second.is_multiple_of(every), second / every);
    let mut chosen: Vec<Chosen<'_>> = Vec::new();
    for policy in draft.policies.policies.values() {
        let tally = Tally::of(draft, policy);
        let mut may: Vec<Chosen<'_>> = Vec::new();
        for &Able { number, .. } in &tally.able {
            let because = match may_sleep(draft, policy, &tally, number) {
                Ok(_) if busy.contains(&policy.name) => AwakeBecause::BusyPass,
                Ok(_) if !try_now => AwakeBecause::NotTried,
                Ok(reason) if may.iter().filter(|other| other.reason == reason).count() == IN_TURN => {
                    AwakeBecause::NotTried
                }
                Ok(reason) => {
                    may.push(Chosen { policy, number, reason });
                    continue;
                }
                Err(because) => because,
            };
            draft.places[number].awake_because = Some(because);
        }
        let Some(first) = turn.checked_rem(may.len()).map(|turn| may[turn]) else { continue };
        for other in may.into_iter().filter(|other| other.number != first.number) {
            let first = draft.places[first.number].node.name.clone();
            draft.places[other.number].awake_because = Some(AwakeBecause::NotFirst { first });
        }
        chosen.push(first);
    }
    if !chosen.is_empty() {
        try_out(draft, &chosen);
    }
}

/// A node that is suspended if the cluster as a whole can spare it.
#[derive(Clone, Copy)]
struct Chosen<'a> {
    policy: &'a Policy,
    number: usize,
    reason: SuspendReason,
}

/// Plans those of the chosen nodes that the cluster can spare, each on top of those before it.
fn try_out<'a>(draft: &mut Draft<'a>, chosen: &[Chosen<'a>]) {
    let mut trial = Trial::new(draft);
    for &Chosen { policy, number, reason } in chosen {
        match trial.suspend(draft, policy, number) {
            Ok(proof) => {
                let node = draft.places[number].node.name.clone();
                draft.report.proofs.insert(node.clone(), proof);
                draft.plan.steps.push(Step::Suspend(SuspendStep { policy: policy.name.clone(), node, reason }));
                draft.going_to_sleep.insert(number);
            }
            Err(need) => draft.places[number].awake_because = Some(AwakeBecause::Needed { need }),
        }
    }
}

fn may_sleep(
    draft: &Draft<'_>,
    policy: &Policy,
    tally: &Tally<'_>,
    number: usize,
) -> Result<SuspendReason, AwakeBecause> {
    let place = &draft.places[number];
    let name = &place.node.name;
    match draft.gates.get(&policy.name) {
        None | Some(Gate::HourSpent { .. }) => {}
        Some(gate) => return Err(AwakeBecause::Gated { gate: gate.clone() }),
    }
    let Some(class) = place.class else { return Err(AwakeBecause::NoWakeDriver) };
    let Some(pays) = break_even(class.power, class.sleep.pace) else { return Err(AwakeBecause::SavesNothing) };
    let record = draft.snapshot.powers.get(name);
    if let Some(silence) = record.and_then(PowerRecord::no_agent) {
        return Err(AwakeBecause::NoAgent { silence });
    }
    if let Some(detail) = record.and_then(|record| record.agent.obstacles.first()) {
        return Err(AwakeBecause::Obstacle { detail: detail.clone() });
    }
    let reason = wake_test::reason_to_sleep(draft, policy, &tally.tested, number)?;
    // Long enough, and since long enough.
    let Some(since) = record.and_then(|record| record.empty_since) else { return Err(AwakeBecause::JustEmptied) };
    let short = |slept: Span| slept < policy.sleep.least_asleep.max(pays);
    // A test is short by nature.
    let tested = |record: &&PowerRecord| record.purpose.as_ref().is_some_and(Purpose::is_wake_test);
    let slept = record.filter(|record| !tested(record)).and_then(|record| record.last_sleep);
    let wary = slept.is_some_and(short);
    let refusal = record.and_then(|record| record.agent.refusal.as_ref());
    let patience = if wary || refusal.is_some() { WARY } else { 1 };
    let wait = policy.sleep.after.max(pays).saturating_mul(patience);
    let woke = record.filter(|record| record.noted && record.last_sleep.is_some()).and_then(|record| record.since);
    let until = (since + wait).max(woke.map_or(since, |woke| woke + policy.sleep.least_awake));
    if draft.now < until {
        return Err(match refusal {
            Some(why) => AwakeBecause::Refused { why: why.clone(), until },
            None => AwakeBecause::Waits { until, wary },
        });
    }
    // Not too many.
    let asleep = tally.asleep.get(&class.name).copied().unwrap_or(0);
    if class.sleep.max_nodes_asleep.is_some_and(|most| asleep >= count(most)) {
        return Err(AwakeBecause::MaxAsleep { asleep });
    }
    if let Some(budget) = policy.sleep.suspends_per_hour.filter(|&most| tally.begun >= count(most)) {
        return Err(AwakeBecause::HourSpent { budget });
    }
    // Enough stays.
    if tally.awake <= count(policy.min_awake) {
        return Err(AwakeBecause::LeastAwake { least: policy.min_awake });
    }
    if is_spare(place) && tally.spare <= tally.wanted_spares {
        return Err(AwakeBecause::Spare { wanted: tally.wanted_spares });
    }
    Ok(reason)
}
