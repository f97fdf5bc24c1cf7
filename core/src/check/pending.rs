//! Rule 9: a pending pod gets the node it needs, so wakes are nearly always right and suspends sometimes wrong.

use super::{Findings, Rule, State};
use crate::{
    fit::{Candidate, Moment},
    model::PowerState,
    plan::WakeStep,
};

/// A wake is always allowed, unless the node is known not to wake.
pub(super) fn wake(state: &State<'_>, step: &WakeStep, found: &mut Findings) {
    match state.snapshot.nodes.get(&step.node).map(|node| node.power) {
        None => found.add(Rule::Pending, format!("node {} is not in the cluster", step.node)),
        Some(PowerState::Quarantined) => {
            found.add(Rule::Pending, format!("node {} is quarantined: it failed to wake", step.node));
        }
        Some(_) => {}
    }
}

/// No pod waits for the room that a suspended node had.
pub(super) fn judge(state: &State<'_>, found: &mut Findings) {
    for pod in state.occupancy.whereabouts().unbound.iter().filter(|pod| pod.is_active()) {
        let probe = state.occupancy.probe(Candidate::pod(pod));
        let fits = |on_suspended: bool| {
            state.occupancy.nodes().any(|on| {
                let node = on.node();
                state.suspended.contains(&node.name) == on_suspended
                    && (on_suspended || node.ready)
                    && probe.fits_on(on, if on_suspended { Moment::OnceAwake } else { Moment::Now }).is_ok()
            })
        };
        if fits(true) && !fits(false) {
            found.add(Rule::Pending, format!("pod {} waits for a node that this plan suspends", pod.key));
        }
    }
}
