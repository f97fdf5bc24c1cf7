//! Rule 2: which VMs may be moved at all, and how soon again.

use super::{Cause, Findings, Immovable, Move, State};
use crate::model::{MoveReason, Vm};

pub(super) fn judge(state: &State<'_>, planned: &Move<'_>, found: &mut Findings) {
    let Move { step, vm, policy, .. } = planned;
    let mut refuse = |why| found.add(Cause::Immovable { vm: vm.key.clone(), why });
    if !vm.running {
        refuse(Immovable::NotRunning);
    }
    if vm.node.as_ref() != Some(&step.source) {
        refuse(Immovable::Elsewhere { node: step.source.clone() });
    }
    for why in obstacles(vm) {
        refuse(why);
    }
    if state.in_flight.iter().any(|moving| *moving.vm == vm.key) {
        refuse(Immovable::Moving);
    }
    if let Some(ended) = settled_since(vm)
        && state.now.since(ended) < policy.thresholds.settle
    {
        refuse(Immovable::Settling { ago: state.now.since(ended), settle: policy.thresholds.settle });
    }
    let history = state.snapshot.history.of(&vm.uid);
    if let Some(history) = history.filter(|known| known.back_off_until().is_some_and(|until| until > state.now)) {
        refuse(Immovable::BackingOff { failures: history.failures });
    }
    let today = history.map_or(0, |history| history.within_a_day(state.now));
    let today = u32::try_from(today).unwrap_or(u32::MAX);
    let allowed = policy.budgets.moves_per_vm_per_day;
    if today >= allowed {
        refuse(Immovable::DaySpent { today, allowed });
    } else if matches!(step.reason, MoveReason::Idle { .. }) && today.saturating_add(1) >= allowed {
        refuse(Immovable::NoRelief { today, allowed });
    }
}

/// What people or KubeVirt say against moving the VM.
fn obstacles(vm: &Vm) -> Vec<Immovable> {
    let mut why = Vec::new();
    if let Some(reason) = &vm.not_migratable {
        why.push(Immovable::NotMigratable { reason: reason.to_string() });
    }
    if let Some(activity) = vm.activity {
        why.push(Immovable::Busy { activity });
    }
    if vm.marks.never_consolidate {
        why.push(Immovable::OptedOut);
    }
    if vm.marks.prefer_no_eviction {
        why.push(Immovable::PrefersNoEviction);
    }
    if vm.host_device {
        why.push(Immovable::HostDevice);
    }
    why
}

/// When the last migration that moved it ended. One that failed moved nothing; back-off deals with it.
fn settled_since(vm: &Vm) -> Option<crate::model::Timestamp> {
    vm.last_migration.as_ref().filter(|last| !last.failed)?.ended
}
