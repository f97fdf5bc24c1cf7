//! What keeps a whole policy from starting moves.

use super::Gate;
use crate::model::{Policy, PolicyMode, Snapshot};

/// The first thing that keeps a policy from starting moves now, the most lasting first, if so many were begun within
/// the last hour.
pub(super) fn of(policy: &Policy, snapshot: &Snapshot, begun: usize) -> Option<Gate> {
    if policy.mode == PolicyMode::Off {
        return Some(Gate::Off);
    }
    if let Some(message) = &policy.invalid {
        return Some(Gate::Invalid { message: message.clone() });
    }
    if let Some(problem) = &snapshot.kubevirt.problem {
        return Some(Gate::KubeVirt { problem: problem.clone() });
    }
    if let Some(message) = policy.rival.as_ref().filter(|_| policy.mode == PolicyMode::Automatic) {
        return Some(Gate::Rival { message: message.clone() });
    }
    if let Some(by) = snapshot.switches.held.as_ref().or(policy.held.as_ref()) {
        return Some(Gate::Held { by: by.clone() });
    }
    if let Some(by) = &snapshot.switches.paused {
        return Some(Gate::Paused { by: by.clone() });
    }
    if !policy.in_schedule {
        return Some(Gate::OutsideSchedule { opens: policy.schedule_changes });
    }
    if let Some(message) = &snapshot.incomplete {
        return Some(Gate::Incomplete { message: message.clone() });
    }
    if snapshot.kubevirt.rolling_out {
        return Some(Gate::RollingOut);
    }
    if snapshot.evacuations_waiting > 0 {
        return Some(Gate::EvacuationsWaiting { vms: snapshot.evacuations_waiting });
    }
    let budget = policy.budgets.moves_per_hour?;
    (begun >= usize::try_from(budget).unwrap_or(usize::MAX)).then_some(Gate::HourSpent { budget })
}
