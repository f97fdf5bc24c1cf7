//! Rule 5 over time: a shared node takes a VM back only if it had room for it all along, not only in a quiet moment.

use super::{Cause, Findings, Move, State};
use crate::model::{Cores, MoveReason, Policy, Role, Timestamp, Vm};

/// So many of a hundred minutes must have been below the margin.
const PERCENT: usize = 95;

pub(super) fn judge(state: &State<'_>, planned: &Move<'_>, found: &mut Findings) {
    let Move { step, vm, policy, target, target_class, .. } = planned;
    let minutes = usize::try_from(policy.thresholds.admission_minutes()).unwrap_or(0);
    let returns = matches!(step.reason, MoveReason::Idle { .. }) && target_class.role == Role::Shared;
    if minutes == 0 || !returns {
        return;
    }
    let (load, window) = (&state.snapshot.load, policy.thresholds.admission_window);
    if load.vms.get(&vm.key).and_then(|known| known.average(state.now, window).full()).is_none() {
        found.add(Cause::ShortlyKnown { vm: vm.key.clone() });
        return;
    }
    let arriving = state.in_flight.iter().filter(|moving| moving.target == Some(&target.name));
    let arriving = arriving.filter_map(|moving| state.snapshot.vms.get(moving.vm));
    let number = state.occupancy.whereabouts().nodes.get(&target.name);
    let guests = state.occupancy.whereabouts().guests();
    let here: Vec<&Vm> = guests.filter(|(home, _)| Some(*home) == number).map(|(_, guest)| guest).collect();
    let there = arriving.filter(|coming| coming.node.as_ref() != Some(&target.name));
    let mut sums = vec![others(state, policy, planned, &here); minutes];
    for guest in here.iter().copied().chain(there).chain([*vm]) {
        for (sum, used) in sums.iter_mut().zip(used_by(guest, state, minutes)) {
            *sum += used;
        }
    }
    sums.sort_by(f64::total_cmp);
    let busy = sums[(sums.len() * PERCENT).div_ceil(100) - 1];
    let share = Cores::new(busy).unwrap_or_default().percent_of(target_class.cpu_of(target));
    // Sums of floats in another order differ in their last digits.
    if share.value() > policy.thresholds.admission.value() * (1.0 + 1e-9) {
        let margin = policy.thresholds.admission;
        found.add(Cause::WasOverMargin { node: target.name.clone(), load: share, minutes, margin });
    }
}

/// What runs on the target besides its VMs.
fn others(state: &State<'_>, policy: &Policy, planned: &Move<'_>, here: &[&Vm]) -> f64 {
    let (load, window) = (&state.snapshot.load, policy.thresholds.overload_window);
    let all = load.nodes.get(&planned.target.name).and_then(|known| known.average(state.now, window).full());
    let of_vm = |vm: &&Vm| load.vms.get(&vm.key).and_then(|known| known.average(state.now, window).full());
    let vms: Cores = here.iter().filter_map(of_vm).sum();
    (all.unwrap_or_default().value() - vms.value()).max(0.0)
}

/// What a VM used minute by minute; what is not known counts as the most that is.
fn used_by(vm: &Vm, state: &State<'_>, minutes: usize) -> Vec<f64> {
    let now: Timestamp = state.now;
    let history = state.snapshot.load.vms.get(&vm.key);
    let count = i64::try_from(minutes).unwrap_or(0);
    let known: Vec<_> =
        history.map(|history| history.minutes(now, count).collect()).unwrap_or_else(|| vec![None; minutes]);
    let most = known.iter().flatten().copied().max_by(f64::total_cmp);
    let latest = history.and_then(|history| history.latest()).map(Cores::value);
    let unknown = most.or(latest).unwrap_or(f64::from(vm.vcpus));
    known.into_iter().map(|used: Option<f64>| used.unwrap_or(unknown)).collect()
}
