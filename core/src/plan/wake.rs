//! Wakes that no single VM asks for: pending pods, spare nodes, the least number of awake nodes, a hold, and nodes that
//! have slept for long.

use super::coming::Coming;
use super::draft::{Draft, Place};
use super::{Gate, suspend};
use crate::fit::{Candidate, Moment};
use crate::model::{ClassName, NodeName, Pod, Policy, Role, Span, Timestamp, WakeReason};
use std::collections::BTreeMap;

/// So many wakes are planned in one pass: a plan has at most 64 steps.
const AT_ONCE: usize = 32;

/// A node that is back for less than this may be one that the scheduler has not looked at since: a pod that it could take
/// is not unschedulable for long.
const SCHEDULER_LOOKS: Span = Span::from_secs(30);

/// A pod that did not go to a node that was woken for it is kept away by something that we do not see, such as a
/// provisioner without room there. Another node is woken for it after this time, the third after twice the time …
const NEXT_AFTER: Span = Span::from_secs(60);
/// … and any further one after this time at most.
const NEXT_AT_LAST: Span = Span::from_secs(30 * 60);

/// Wakes what must be awake whatever the load is.
pub(super) fn wake(draft: &mut Draft<'_>) {
    if draft.places.iter().all(|place| !place.coming.is_coming()) {
        return;
    }
    for_pending_pods(draft);
    for policy in draft.policies.policies.values() {
        match draft.gates.get(&policy.name) {
            Some(Gate::Off | Gate::Invalid { .. }) => {}
            Some(Gate::Held { .. }) => {
                for node in sleepers(draft, policy, None).into_iter().take(AT_ONCE) {
                    draft.wake(policy, &node, WakeReason::Hold);
                }
            }
            _ => {
                keep_reserve(draft, policy);
                refresh(draft, policy);
            }
        }
    }
}

/// Rule 9: a pod that only a sleeping node could take wakes that node. Pods are placed one after the other, so that
/// several get the room they need, and one that is on its way is waited for. A DaemonSet's pod is there for its node,
/// and not the node for it: it comes once its node is awake for others.
fn for_pending_pods<'a>(draft: &mut Draft<'a>) {
    let unbound = draft.occupancy.whereabouts().unbound.clone();
    for pod in unbound.into_iter().filter(|pod| pod.unschedulable && !pod.terminating && !pod.serves_its_node()) {
        let probe = draft.occupancy.probe(Candidate::pod(pod));
        let is_back = |place: &&Place<'a>| {
            let record = draft.snapshot.powers.get(&place.node.name);
            let since = record.filter(|record| record.last_sleep.is_some()).and_then(|record| record.since);
            place.node.is_usable() && since.is_some_and(|since| draft.now.since(since) < SCHEDULER_LOOKS)
        };
        let takes = |place: &&Place<'a>| is_back(place) && probe.fits(&place.node.name, Moment::Now).is_ok();
        if let Some(place) = draft.places.iter().find(takes) {
            draft.occupancy.place(Candidate::pod(pod), &place.node.name);
            continue;
        }
        let fits = |place: &&Place<'a>| {
            place.coming.is_coming()
                && place.policy.is_some()
                && probe.fits(&place.node.name, Moment::OnceAwake).is_ok()
        };
        // Those that it did not go to come last, of these the one tried longest ago first.
        let tried = |place: &&Place<'a>| {
            let sleeps = matches!(place.coming, Coming::Asleep(_));
            let last = draft.snapshot.power_history.in_vain_for(&pod.uid).rfind(|wake| wake.node == place.node.name);
            last.filter(|_| sleeps).map(|wake| wake.at)
        };
        let rank = |place: &&Place<'a>| (tried(place), place.coming);
        let Some(place) = draft.places.iter().filter(fits).min_by_key(rank) else { continue };
        let (coming, node, policy) = (place.coming, &place.node.name, place.policy);
        draft.occupancy.place(Candidate::pod(pod), node);
        if let Some(policy) = policy.filter(|_| coming != Coming::OnItsWay && may_wake_another(draft, pod)) {
            draft.wake(policy, node, WakeReason::PendingPod { pod: pod.key.clone(), uid: pod.uid.clone() });
        }
    }
}

/// Whether one more node may be woken for this pod, after those to which it did not go.
fn may_wake_another(draft: &Draft<'_>, pod: &Pod) -> bool {
    let wakes = draft.snapshot.power_history.in_vain_for(&pod.uid);
    let (count, last) = wakes.fold((0_u32, None), |(count, _), wake| (count + 1, Some(wake.at)));
    let wait = NEXT_AFTER.saturating_mul(1 << count.saturating_sub(1).min(10)).min(NEXT_AT_LAST);
    last.is_none_or(|last| draft.now.since(last) >= wait)
}

/// Rule 4: spare dedicated nodes (Reactive Cloud §5.3) and the least number of awake nodes.
fn keep_reserve(draft: &mut Draft<'_>, policy: &Policy) {
    let spare = |place: &&Place<'_>| place.node.is_usable() && place.guests == 0;
    let spares = draft.nodes_of(&policy.name, Role::Dedicated).filter(spare).count();
    let coming = |place: &&Place<'_>| place.coming == Coming::OnItsWay;
    let on_their_way = draft.nodes_of(&policy.name, Role::Dedicated).filter(coming).count();
    let missing = suspend::spares(draft, policy).saturating_sub(spares + on_their_way);
    for node in sleepers(draft, policy, Some(Role::Dedicated)).into_iter().take(missing) {
        draft.wake(policy, &node, WakeReason::Reserve);
    }
    let there = |place: &&Place<'_>| place.coming <= Coming::OnItsWay;
    let awake = ruled(draft, policy, None).filter(there).count();
    let missing = usize::try_from(policy.min_awake).unwrap_or(usize::MAX).saturating_sub(awake);
    for node in sleepers(draft, policy, None).into_iter().take(missing) {
        draft.wake(policy, &node, WakeReason::Reserve);
    }
}

/// Wakes a node that has slept for as long as its class lets it, one of each class at a time.
fn refresh(draft: &mut Draft<'_>, policy: &Policy) {
    let mut due: BTreeMap<&ClassName, Option<(Timestamp, &NodeName)>> = BTreeMap::new();
    for place in ruled(draft, policy, None) {
        let Some(class) = place.class else { continue };
        if place.coming == Coming::OnItsWay {
            due.insert(&class.name, None);
            continue;
        }
        let since = draft.snapshot.powers.get(&place.node.name).and_then(|record| record.asleep_since);
        let Some(since) = since.filter(|_| place.node.can_wake()) else { continue };
        let until = since + longest(class.sleep.max_asleep, &place.node.name);
        let first = due.entry(&class.name).or_insert(Some((until, &place.node.name)));
        if let Some(first) = first {
            *first = (*first).min((until, &place.node.name));
        }
    }
    for (until, node) in due.into_values().flatten() {
        if draft.now >= until {
            draft.wake(policy, node, WakeReason::MaxAsleep);
        }
    }
}

/// How long this node sleeps at most: up to a tenth less than its class says, so that nodes that fell asleep together
/// don't wake together. The same node always gets the same.
fn longest(most: Span, node: &NodeName) -> Span {
    let dice = node.as_str().bytes().fold(0_u64, |dice, byte| dice.wrapping_mul(31).wrapping_add(u64::from(byte)));
    Span::from_secs(most.as_secs() - most.as_secs() * (dice % 100) / 1000)
}

fn sleepers(draft: &Draft<'_>, policy: &Policy, role: Option<Role>) -> Vec<NodeName> {
    let sleepers = ruled(draft, policy, role).filter(|place| place.node.can_wake());
    let mut soonest: Vec<_> = sleepers.map(|place| (place.coming, place.node.name.clone())).collect();
    soonest.sort_unstable();
    soonest.into_iter().map(|(_, name)| name).collect()
}

/// The nodes of a policy in one role or in both.
fn ruled<'d, 'a>(draft: &'d Draft<'a>, policy: &Policy, role: Option<Role>) -> impl Iterator<Item = &'d Place<'a>> {
    let roles = [Role::Shared, Role::Dedicated].into_iter().filter(move |each| role.is_none_or(|role| role == *each));
    roles.flat_map(|role| draft.nodes_of(&policy.name, role))
}
