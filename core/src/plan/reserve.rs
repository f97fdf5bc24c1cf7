//! Wakes that no single VM asks for: pending pods, spare nodes, the least number of awake nodes, a hold.

use super::draft::{Draft, Place};
use super::{Gate, WakeReason};
use crate::fit::{Candidate, Moment};
use crate::model::{NodeName, Policy, Role};

/// Wakes what must be awake whatever the load is.
pub(super) fn wake(draft: &mut Draft<'_>) {
    if draft.places.iter().all(|place| !place.node.can_wake()) {
        return;
    }
    for_pending_pods(draft);
    for policy in draft.policies.policies.values() {
        match draft.gates.get(&policy.name) {
            Some(Gate::Off | Gate::Invalid { .. }) => {}
            Some(Gate::Held { .. }) => {
                for node in sleepers(draft, policy, None) {
                    draft.wake(policy, &node, WakeReason::Hold);
                }
            }
            _ => keep_reserve(draft, policy),
        }
    }
}

/// Rule 9: a pod that only a sleeping node could take wakes that node.
fn for_pending_pods(draft: &mut Draft<'_>) {
    let unbound = draft.occupancy.whereabouts().unbound.iter();
    let waiting = unbound.filter(|pod| pod.unschedulable && !pod.terminating);
    let mut wanted: Vec<(NodeName, WakeReason)> = Vec::new();
    for pod in waiting {
        let probe = draft.occupancy.probe(Candidate::pod(pod));
        let fits = |place: &&Place<'_>| {
            place.node.can_wake() && place.policy.is_some() && probe.fits(&place.node.name, Moment::OnceAwake).is_ok()
        };
        if let Some(place) = draft.places.iter().find(fits) {
            wanted.push((place.node.name.clone(), WakeReason::PendingPod { pod: pod.key.to_string() }));
        }
    }
    for (node, reason) in wanted {
        if let Some(policy) = draft.place(&node).and_then(|place| place.policy) {
            draft.wake(policy, &node, reason);
        }
    }
}

/// Rule 4: spare dedicated nodes (Reactive Cloud §5.3) and the least number of awake nodes.
fn keep_reserve(draft: &mut Draft<'_>, policy: &Policy) {
    let spare = |place: &&Place<'_>| place.node.is_usable() && place.guests == 0;
    let spares = draft.nodes_of(&policy.name, Role::Dedicated).filter(spare).count();
    let wanted = usize::try_from(policy.spare_dedicated).unwrap_or(usize::MAX);
    let missing = wanted.saturating_sub(spares);
    for node in sleepers(draft, policy, Some(Role::Dedicated)).into_iter().take(missing) {
        draft.wake(policy, &node, WakeReason::Reserve);
    }
    let awake = ruled(draft, policy, None).filter(|place| place.node.is_usable()).count();
    let missing = usize::try_from(policy.min_awake).unwrap_or(usize::MAX).saturating_sub(awake);
    for node in sleepers(draft, policy, None).into_iter().take(missing) {
        draft.wake(policy, &node, WakeReason::Reserve);
    }
}

fn sleepers(draft: &Draft<'_>, policy: &Policy, role: Option<Role>) -> Vec<NodeName> {
    let sleepers = ruled(draft, policy, role).filter(|place| place.node.can_wake());
    let mut names: Vec<_> = sleepers.map(|place| place.node.name.clone()).collect();
    names.sort_unstable();
    names
}

/// The nodes of a policy in one role or in both.
fn ruled<'d, 'a>(draft: &'d Draft<'a>, policy: &Policy, role: Option<Role>) -> impl Iterator<Item = &'d Place<'a>> {
    let roles = [Role::Shared, Role::Dedicated].into_iter().filter(move |each| role.is_none_or(|role| role == *each));
    roles.flat_map(|role| draft.nodes_of(&policy.name, role))
}
