//! Plans that were written before and are not over: they speak for their VMs, unless their reason has gone.

use super::draft::{Draft, Guest};
use super::renew::renew;
use super::{Gate, MoveReason, ProposalVerdict, place};
use crate::check::{Blocker, SuspendBlockers};
use crate::model::{PlanPhase, PlanRecord, Policy, PowerState, RecordedStep, StepOutcome, SuspendReason, Vm, VmKey};

/// A proposal outlives small swings of the load: its reason has gone only when the load is this much (in points of a
/// percent) on the other side of the threshold. Otherwise noise would write a new object every second.
const SWING: f64 = 10.0;

/// Judges every plan that is not over, and reserves what the good ones will take.
pub(super) fn review(draft: &mut Draft<'_>) {
    let snapshot = draft.snapshot;
    for record in snapshot.plans.values().filter(|record| !record.phase.is_final()) {
        let verdict = match record.phase {
            PlanPhase::Proposed => judge(draft, record),
            _ => ProposalVerdict::Stands,
        };
        if verdict == ProposalVerdict::Stands {
            draft.note_plan(record);
        }
        draft.report.proposals.insert(record.name.clone(), verdict);
    }
}

fn judge(draft: &mut Draft<'_>, record: &PlanRecord) -> ProposalVerdict {
    let obsolete = |message: &str| ProposalVerdict::Obsolete { message: message.to_owned() };
    let Some(policy) = draft.policies.policies.get(&record.policy) else {
        return obsolete("its policy is gone");
    };
    if matches!(draft.gates.get(&policy.name), Some(Gate::Off | Gate::Invalid { .. })) {
        return obsolete("its policy no longer plans anything");
    }
    for step in &record.steps {
        if let Err(message) = still_wanted(draft, policy, record, step) {
            return obsolete(&message);
        }
    }
    ProposalVerdict::Stands
}

fn still_wanted<'a>(
    draft: &mut Draft<'a>,
    policy: &'a Policy,
    record: &PlanRecord,
    step: &RecordedStep,
) -> Result<(), String> {
    let (snapshot, now) = (draft.snapshot, draft.now);
    let (vm, uid, source, migration, reason) = match step {
        RecordedStep::Wake { node, .. } => {
            let node = snapshot.nodes.get(node).ok_or("the node to wake is gone")?;
            let asleep = !matches!(node.power, PowerState::Awake | PowerState::Quarantined);
            return if asleep { Ok(()) } else { Err(format!("{} is not asleep", node.name)) };
        }
        RecordedStep::Suspend { node, reason, .. } => {
            let node = snapshot.nodes.get(node).ok_or("the node to suspend is gone")?;
            let test = *reason == SuspendReason::WakeTest;
            if test && node.wake_tested.is_some_and(|tested| tested >= record.decided) {
                return Err(format!("{} has shown meanwhile that it wakes", node.name));
            }
            let blockers = SuspendBlockers::new(draft.occupancy.whereabouts(), draft.policies);
            let counts = |blocker: &Blocker| !(test && *blocker == Blocker::NoWakeTest);
            let blocker = blockers.of(node).into_iter().find(counts);
            return blocker.map_or(Ok(()), |blocker| Err(format!("{} can't sleep any more: {blocker}", node.name)));
        }
        RecordedStep::Migrate { vm, uid, source, migration, reason, outcome: StepOutcome::Waiting, .. } => {
            (vm, uid, source, migration, reason)
        }
        RecordedStep::Migrate { .. } | RecordedStep::Unreadable { .. } => return Ok(()),
    };
    if snapshot.migrations.contains_key(migration) {
        return Ok(());
    }
    let found = snapshot.vm(vm, uid).ok_or_else(|| format!("{vm} is gone"))?;
    if found.node.as_ref() != Some(source) {
        return Err(format!("{vm} is no longer on {source}"));
    }
    let renewed = renew(reason, found, source, record.decided, policy, (snapshot, draft.policies, now))?;
    match renewed.reason {
        MoveReason::Overload { node_load, threshold }
            if renewed.is_known && node_load.value() < threshold.value() - SWING =>
        {
            Err(format!("{source} is at {node_load} and no longer overloaded"))
        }
        MoveReason::Idle { vm_load, threshold, .. }
            if renewed.is_known && vm_load.value() >= threshold.value() + SWING =>
        {
            Err(format!("{vm} uses {vm_load} of its vCPUs and is no longer idle"))
        }
        // What a person approved, they approved for this VM.
        MoveReason::Overload { .. } if !record.is_cleared() => match busier(draft, policy, found) {
            Some(other) => Err(format!("{other} uses more CPU on {source} by now")),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// A VM on the same node that would be moved instead: it uses clearly more CPU, so that small swings don't make people
/// approve one plan after the other, and has a place to go.
fn busier<'a>(draft: &mut Draft<'a>, policy: &'a Policy, vm: &Vm) -> Option<&'a VmKey> {
    let place = draft.place(vm.node.as_ref()?)?;
    let (window, capacity) = (policy.thresholds.overload_window, place.capacity());
    let load = |guest: &Guest<'_>| draft.vm_load(guest, window).full().map(|cores| cores.percent_of(capacity).value());
    let own = place.vms.iter().find(|guest| guest.key == vm.key).and_then(load)?;
    let may_go = |guest: &&Guest<'_>| {
        !draft.is_spoken_for(&guest.key)
            && guest.obstacle(policy, draft.now).is_none()
            && load(guest).is_some_and(|load| load >= own + SWING)
    };
    let busier: Vec<Guest<'a>> = place.vms.iter().filter(may_go).copied().collect();
    busier.into_iter().find(|guest| place::dedicated(draft, policy, guest.vm).is_ok()).map(|guest| &guest.vm.key)
}
