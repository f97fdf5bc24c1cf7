//! Rules 4 and 6, as far as they count migrations: per cluster, policy, hour and node.

use super::{Cause, Findings, Move, State, state::InFlight};
use crate::model::{NodeName, Role, Span};

const HOUR: Span = Span::from_secs(3600);

fn count<'s>(moves: &[InFlight<'s>], which: impl Fn(&InFlight<'s>) -> bool) -> u32 {
    u32::try_from(moves.iter().filter(|moving| which(moving)).count()).unwrap_or(u32::MAX)
}

pub(super) fn judge(state: &State<'_>, planned: &Move<'_>, found: &mut Findings) {
    budgets(state, planned, found);
    let per_node = planned.policy.budgets.concurrent_per_shared_node;
    for (node, class) in [(planned.source, planned.source_class), (planned.target, planned.target_class)] {
        let touching = count(&state.in_flight, |moving| touches(moving, &node.name));
        if class.role == Role::Shared && touching >= per_node {
            let (node, migrations) = (node.name.clone(), touching);
            found.add(Cause::NodeLimit { node, migrations, allowed: per_node });
        }
    }
    let outbound = count(&state.in_flight, |moving| moving.source == Some(&planned.source.name));
    let allowed = state.snapshot.kubevirt.outbound_per_node;
    if outbound >= allowed {
        found.add(Cause::OutboundLimit { node: planned.source.name.clone(), outbound, allowed });
    }
}

fn touches(moving: &InFlight<'_>, node: &NodeName) -> bool {
    moving.source == Some(node) || moving.target == Some(node)
}

fn budgets(state: &State<'_>, planned: &Move<'_>, found: &mut Findings) {
    let budgets = &planned.policy.budgets;
    let kubevirt = &state.snapshot.kubevirt;
    if state.snapshot.evacuations_waiting > 0 {
        let waiting = state.snapshot.evacuations_waiting;
        found.add(Cause::EvacuationsWait { waiting });
    }
    // At most max(1, limit − reserve) of KubeVirt's slots are ours (`docs/design/0001-kubevirt-facts.md`).
    let ours = count(&state.in_flight, |moving| moving.ours);
    let slots = kubevirt.parallel_per_cluster.saturating_sub(budgets.reserved_migrations).max(1);
    if ours >= slots {
        found.add(Cause::NoSlot { ours, slots });
    }
    let policy = &planned.policy.name;
    let of_policy = count(&state.in_flight, |moving| moving.policy == Some(policy));
    if let Some(allowed) = budgets.concurrent.filter(|&allowed| of_policy >= allowed) {
        found.add(Cause::PolicyLimit { policy: policy.clone(), migrations: of_policy, allowed });
    }
    if let Some(allowed) = budgets.moves_per_hour {
        let planned_here = state.begun.iter().filter(|step| step.policy == *policy).count();
        let begun = state.snapshot.history.begun_within(state.now, HOUR) + planned_here;
        if u32::try_from(begun).unwrap_or(u32::MAX) >= allowed {
            found.add(Cause::HourSpent { begun, allowed });
        }
    }
}
