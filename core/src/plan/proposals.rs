//! Plans that were written before and are not over: they speak for their VMs, unless their reason has gone.

use super::draft::{Draft, Guest};
use super::renew::renew;
use super::{Gate, ProposalVerdict, SuspendBlockers, place, ruled};
use crate::model::{
    Blocker, MoveReason, PlanPhase, PlanRecord, Policy, PolicyMode, PowerState, RecordedStep, StepOutcome,
    SuspendReason, Vm, VmKey,
};

/// A proposal outlives small swings of the load: its reason has gone only when the load is this much (in points of a
/// percent) on the other side of the threshold. Otherwise noise would write a new object every second.
const SWING: f64 = 10.0;

/// Judges every plan that is not over, and reserves what the good ones will take.
pub(super) fn review(draft: &mut Draft<'_>) {
    let snapshot = draft.snapshot;
    for record in snapshot.plans.values().filter(|record| !record.phase.is_final()) {
        let verdict = match record.phase {
            PlanPhase::Proposed => judge(draft, record),
            _ => going_on(draft, record),
        };
        // What has begun is followed to its end whatever becomes of the rest.
        if verdict == ProposalVerdict::Stands || record.phase == PlanPhase::Running {
            draft.note_plan(record);
        }
        draft.report.proposals.insert(record.name.clone(), verdict);
    }
}

/// Whether steps of a plan that has begun may still begin.
fn going_on(draft: &Draft<'_>, record: &PlanRecord) -> ProposalVerdict {
    let late = record.steps.iter().any(|step| step.outcome() == StepOutcome::Waiting);
    let policy = draft.policies.policies.get(&record.policy).filter(|_| late);
    match policy.and_then(|policy| mode_changed(policy, record)) {
        Some(message) => ProposalVerdict::Obsolete { message: message.to_owned() },
        None => ProposalVerdict::Stands,
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
    if let Some(message) = mode_changed(policy, record) {
        return obsolete(message);
    }
    for step in &record.steps {
        if let Err(message) = still_wanted(draft, policy, record, step) {
            return obsolete(&message);
        }
    }
    ProposalVerdict::Stands
}

/// What the policy's mode says now of a plan that was decided in another mode. A plan that waits for people must not hold
/// VMs and nodes against those that wait for nobody; one that waits for nobody must not begin where people are asked.
fn mode_changed(policy: &Policy, record: &PlanRecord) -> Option<&'static str> {
    match policy.mode {
        PolicyMode::Automatic if !record.is_cleared() => {
            Some("its policy acts by itself by now (mode Automatic): what is still wanted is planned anew")
        }
        PolicyMode::Recommend if !record.needs_approval && !record.is_due() => {
            Some("its policy asks before it acts by now (mode Recommend), and nobody approved it")
        }
        _ => None,
    }
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
            ruled::node(draft, policy, &node.name)?;
            let asleep = !matches!(node.power, PowerState::Awake | PowerState::Quarantined);
            return if asleep { Ok(()) } else { Err(format!("{} is not asleep", node.name)) };
        }
        RecordedStep::Suspend { node, reason, .. } => {
            let node = snapshot.nodes.get(node).ok_or("the node to suspend is gone")?;
            ruled::sleeper(draft, policy, &node.name)?;
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
    ruled::step(draft, policy, step)?;
    // Other thresholds than those it was decided by are taken at their word.
    let swing = if record.decided < policy.changed { 0.0 } else { SWING };
    let renewed = renew(*reason, found, source, record.decided, policy, (snapshot, draft.policies, now))?;
    match renewed.reason {
        MoveReason::Overload { node_load, threshold }
            if renewed.is_known && node_load.value() < threshold.value() - swing =>
        {
            Err(format!("{source} is at {node_load} and no longer overloaded"))
        }
        MoveReason::Idle { vm_load, threshold, .. }
            if renewed.is_known && vm_load.value() >= threshold.value() + swing =>
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
