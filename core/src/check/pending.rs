//! Rule 9: a pending pod gets the node it needs, so wakes are nearly always right and suspends sometimes wrong.

use super::{Cause, Findings, State};
use crate::{
    fit::{Candidate, Moment},
    model::{Node, NodeName, Pod, PowerState, WakeStep},
};

/// A wake is always allowed, unless the node is known not to wake.
pub(super) fn wake(state: &State<'_>, step: &WakeStep, found: &mut Findings) {
    match state.snapshot.nodes.get(&step.node).map(|node| node.power) {
        None => found.add(Cause::NothingToWake { node: step.node.clone() }),
        Some(PowerState::Quarantined) => {
            found.add(Cause::Quarantined { node: step.node.clone() });
        }
        Some(_) => {}
    }
}

/// No pod waits for the room that a suspended node had. A DaemonSet's pod has nothing to do on a node that sleeps.
pub(super) fn judge(state: &State<'_>, found: &mut Findings) {
    let waits = |pod: &&&Pod| pod.is_active() && !pod.serves_its_node();
    for pod in state.occupancy.whereabouts().unbound.iter().filter(waits) {
        let probe = state.occupancy.probe(Candidate::pod(pod));
        let takes_away = |(name, _): &(&&NodeName, &usize)| probe.fits(name, Moment::OnceAwake).is_ok();
        let taken_away = state.suspended.iter().find(takes_away);
        let stays = |node: &Node| node.ready && !state.suspended.contains_key(&node.name);
        let elsewhere = || state.occupancy.nodes().any(|on| stays(on.node()) && probe.fits_on(on, Moment::Now).is_ok());
        if let Some((_, step)) = taken_away.filter(|_| !elsewhere()) {
            found.step = Some(*step);
            found.add(Cause::PodWaits { pod: pod.key.clone() });
        }
    }
}
