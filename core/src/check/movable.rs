//! Rule 2: which VMs may be moved at all, and how soon again.

use super::{Findings, Move, Rule, State};
use crate::model::{MoveReason, Vm};

pub(super) fn judge(state: &State<'_>, planned: &Move<'_>, found: &mut Findings) {
    let Move { step, vm, policy, .. } = planned;
    let mut refuse = |why: String| found.add(Rule::Movable, format!("VM {} {why}", vm.key));
    if !vm.running {
        refuse("does not run".into());
    }
    if vm.node.as_ref() != Some(&step.source) {
        refuse(format!("is not on {}", step.source));
    }
    for why in obstacles(vm) {
        refuse(why);
    }
    if state.in_flight.iter().any(|moving| *moving.vm == vm.key) {
        refuse("is being moved already".into());
    }
    if let Some(ended) = settled_since(vm)
        && state.now.since(ended) < policy.thresholds.settle
    {
        refuse(format!("was moved {:?} ago and settles for {:?}", state.now.since(ended), policy.thresholds.settle));
    }
    let history = state.snapshot.history.of(&vm.uid);
    if let Some(history) = history.filter(|known| known.back_off_until().is_some_and(|until| until > state.now)) {
        refuse(format!("is left alone after {} failures", history.failures));
    }
    let today = history.map_or(0, |history| history.within_a_day(state.now));
    let today = u32::try_from(today).unwrap_or(u32::MAX);
    let allowed = policy.budgets.moves_per_vm_per_day;
    if today >= allowed {
        refuse(format!("was moved {today} times within a day, {allowed} are allowed"));
    } else if matches!(step.reason, MoveReason::Idle { .. }) && today.saturating_add(1) >= allowed {
        refuse(format!("was moved {today} times within a day of {allowed}: its return would leave no relief"));
    }
}

/// What people or KubeVirt say against moving the VM.
fn obstacles(vm: &Vm) -> Vec<String> {
    let mut why = Vec::new();
    if let Some(reason) = &vm.not_migratable {
        why.push(format!("is not migratable: {reason}"));
    }
    if let Some(activity) = vm.activity {
        why.push(format!("is busy: {activity:?}"));
    }
    if vm.marks.never_consolidate {
        why.push("opted out by miyako.dev/consolidate".into());
    }
    if vm.marks.prefer_no_eviction {
        why.push("opted out by descheduler.alpha.kubernetes.io/prefer-no-eviction".into());
    }
    if vm.host_device {
        why.push("holds a host device".into());
    }
    why
}

/// When the last migration that moved it ended. One that failed moved nothing; back-off deals with it.
fn settled_since(vm: &Vm) -> Option<crate::model::Timestamp> {
    vm.last_migration.as_ref().filter(|last| !last.failed)?.ended
}
