//! Which empty node goes to sleep, one of each policy at a time: it is never urgent, and whatever is decided must show
//! before the next is.

use super::draft::{Draft, Place};
use super::{AwakeBecause, Gate, Plan, Step, SuspendStep};
use crate::check::{self, Rule};
use crate::model::{NodeName, Policy, PowerState, Role, Span, Timestamp};
use crate::power::break_even;

/// A node whose last sleep was short, or whose agent refused, waits so many times longer before the next.
const WARY: u32 = 4;
/// Wakes that a VM or pod waited for are remembered for this time …
const MEMORY: Span = Span::from_secs(600);
/// … and each so many of them keep one more dedicated node spare.
const WAKES_PER_SPARE: usize = 2;
/// So many nodes are tried on the safety rules in one pass.
const TRIED: usize = 3;
const AN_HOUR: Span = Span::from_secs(3600);

/// How many dedicated nodes a policy keeps awake and empty now: its own number (Reactive Cloud §5.3), and more while
/// nodes have had to be woken often.
pub(super) fn spares(draft: &Draft<'_>, policy: &Policy) -> usize {
    let number = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let base = number(policy.spare_dedicated);
    let most = policy.sleep.most_spare.map_or(base.saturating_mul(2), number).max(base);
    let awaited = draft.snapshot.power_history.awaited_within(draft.now, MEMORY, |node| rules(draft, policy, node));
    base.saturating_add(awaited / WAKES_PER_SPARE).min(most)
}

fn rules(draft: &Draft<'_>, policy: &Policy, node: &NodeName) -> bool {
    draft.place(node).is_some_and(|place| is_ruled(policy, place))
}

fn is_ruled(policy: &Policy, place: &Place<'_>) -> bool {
    place.policy.is_some_and(|ruler| ruler.name == policy.name)
}

/// Plans suspends, and notes for every node that could sleep why it does not.
pub(super) fn suspend(draft: &mut Draft<'_>) {
    for policy in draft.policies.policies.values() {
        let mut able: Vec<(Role, Timestamp, usize)> = Vec::new();
        for (number, place) in draft.places.iter().enumerate().filter(|(_, place)| is_ruled(policy, place)) {
            let could = place.node.is_usable() && place.blockers.is_empty();
            if could && !draft.going_to_sleep.contains(&number) {
                let since = draft.snapshot.powers.get(&place.node.name).and_then(|record| record.empty_since);
                able.push((place.role().unwrap_or(Role::Shared), since.unwrap_or(draft.now), number));
            }
        }
        // Dedicated nodes first: they are there for load that comes and goes; then whoever has been empty for longest.
        able.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
        let mut tried = 0;
        let mut chosen: Option<NodeName> = None;
        for (_, _, number) in able {
            let because = match &chosen {
                Some(first) => Err(AwakeBecause::NotFirst { first: first.clone() }),
                None => may_sleep(draft, policy, number, &mut tried),
            };
            let place = &mut draft.places[number];
            match because {
                Ok(()) => {
                    let node = place.node.name.clone();
                    let step = SuspendStep { policy: policy.name.clone(), node: node.clone() };
                    draft.plan.steps.push(Step::Suspend(step));
                    draft.going_to_sleep.insert(number);
                    chosen = Some(node);
                }
                Err(because) => place.awake_because = Some(because),
            }
        }
    }
}

fn may_sleep(draft: &Draft<'_>, policy: &Policy, number: usize, tried: &mut usize) -> Result<(), AwakeBecause> {
    let place = &draft.places[number];
    let (name, role) = (&place.node.name, place.role());
    match draft.gates.get(&policy.name) {
        None | Some(Gate::HourSpent { .. }) => {}
        Some(gate) => return Err(AwakeBecause::Gated { gate: gate.clone() }),
    }
    let Some(class) = place.class else { return Err(AwakeBecause::NoWakeDriver) };
    if !class.sleep.can_be_woken {
        return Err(AwakeBecause::NoWakeDriver);
    }
    let Some(pays) = break_even(class.power, class.sleep.pace) else { return Err(AwakeBecause::SavesNothing) };
    let record = draft.snapshot.powers.get(name);
    if let Some(detail) = record.and_then(|record| record.agent.obstacles.first()) {
        return Err(AwakeBecause::Obstacle { detail: detail.clone() });
    }
    // Long enough, and since long enough.
    let Some(since) = record.and_then(|record| record.empty_since) else { return Err(AwakeBecause::JustEmptied) };
    let short = |slept: Span| slept < policy.sleep.least_asleep.max(pays);
    let wary = record.and_then(|record| record.last_sleep).is_some_and(short);
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
    let of_class = |other: &Place<'_>| other.class.is_some_and(|other| other.name == class.name);
    let away = |(number, other): &(usize, &Place<'_>)| {
        of_class(other) && (other.node.power != PowerState::Awake || draft.going_to_sleep.contains(number))
    };
    let sleepers = draft.places.iter().enumerate().filter(away).count();
    if class.sleep.max_asleep.is_some_and(|most| sleepers >= usize::try_from(most).unwrap_or(usize::MAX)) {
        return Err(AwakeBecause::MaxAsleep { asleep: sleepers });
    }
    let history = &draft.snapshot.power_history;
    let begun = history.suspends_within(draft.now, AN_HOUR, |node| rules(draft, policy, node));
    if let Some(budget) =
        policy.sleep.suspends_per_hour.filter(|most| begun >= usize::try_from(*most).unwrap_or(usize::MAX))
    {
        return Err(AwakeBecause::HourSpent { budget });
    }
    // Enough stays.
    let stays = |(other, place): &(usize, &Place<'_>)| {
        is_ruled(policy, place) && place.node.is_usable() && *other != number && !draft.going_to_sleep.contains(other)
    };
    let awake = draft.places.iter().enumerate().filter(stays).count();
    if awake < usize::try_from(policy.min_awake).unwrap_or(usize::MAX) {
        return Err(AwakeBecause::LeastAwake { least: policy.min_awake });
    }
    let wanted = spares(draft, policy);
    let spare = |(_, place): &(usize, &Place<'_>)| place.role() == Some(Role::Dedicated) && place.guests == 0;
    let empty = draft.places.iter().enumerate().filter(stays).filter(spare).count();
    if role == Some(Role::Dedicated) && empty < wanted {
        return Err(AwakeBecause::Spare { wanted });
    }
    if draft.plan.steps.iter().any(|step| Plan::policy_of(step) == Some(&policy.name)) {
        return Err(AwakeBecause::BusyPass);
    }
    // The rules themselves: what fails together, what is pending, what is stale.
    *tried += 1;
    if *tried > TRIED {
        return Err(AwakeBecause::NotTried);
    }
    let mut trial = draft.plan.clone();
    trial.steps.push(Step::Suspend(SuspendStep { policy: policy.name.clone(), node: name.clone() }));
    let last = trial.steps.len() - 1;
    let violations = check::check(draft.snapshot, draft.policies, &trial, draft.now);
    let own = violations.into_iter().find(|violation| violation.step.is_none_or(|step| step == last));
    match own {
        None => Ok(()),
        Some(violation) if violation.rule == Rule::Reserve => Err(AwakeBecause::Failover { detail: violation.detail }),
        Some(violation) => Err(AwakeBecause::Rule { detail: violation.to_string() }),
    }
}
