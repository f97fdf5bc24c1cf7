//! Idling detection: a VM that uses little of its dedicated cores goes back to a shared node that has CPU and memory
//! for it, first come, first served (Reactive Cloud §3.3.2; Energy §III-C, consolidation phase).

use super::draft::{Draft, Guest};
use super::joint_load::{self, Tenant};
use super::{StayReason, candidate, place};
use crate::model::{Cores, MoveReason, Percent, Policy, Role, Timestamp, WindowAverage};

/// What a return must leave of a VM's moves of the day: itself, and the relief that follows if its node turns out too full.
const THERE_AND_AWAY: usize = 2;

/// A VM that waits for a place on a shared node: its admission ticket.
struct Ticket<'a> {
    since: Timestamp,
    ended: Option<Timestamp>,
    vm: Guest<'a>,
    policy: &'a Policy,
    cores: Cores,
    load: Percent,
}

/// Brings idle VMs back to shared nodes, and notes why all other VMs on dedicated and unruled nodes stay.
pub(super) fn bring_back(draft: &mut Draft<'_>) {
    let mut tickets = take_tickets(draft);
    tickets.sort_by(|a, b| {
        a.since.cmp(&b.since).then_with(|| a.ended.cmp(&b.ended)).then_with(|| a.vm.key.cmp(&b.vm.key))
    });
    for ticket in tickets {
        let reason = match draft.gates.get(&ticket.policy.name) {
            Some(gate) => StayReason::Gated { gate: gate.clone() },
            None => match admit(draft, &ticket) {
                Ok(()) => continue,
                Err(reason) => reason,
            },
        };
        draft.stays(&ticket.vm, Some(&ticket.policy.name), reason);
    }
}

fn take_tickets<'a>(draft: &mut Draft<'a>) -> Vec<Ticket<'a>> {
    let mut tickets = Vec::new();
    for number in 0..draft.places.len() {
        let place = &mut draft.places[number];
        let (policy, role, usable) = (place.policy, place.role(), place.node.is_usable());
        // Those of shared nodes have been judged.
        let vms = std::mem::take(&mut place.vms);
        let measured = place.is_measured().then_some(()).ok_or(StayReason::LoadUnknown { load: place.load });
        let Some(policy) = policy else {
            for vm in vms {
                draft.stays(&vm, None, StayReason::NodeNotRuled);
            }
            continue;
        };
        if role != Some(Role::Dedicated) {
            continue;
        }
        for vm in draft.keep_selected(vms, policy) {
            if draft.note_spoken_for(&vm, policy) {
                continue;
            }
            match ticket(draft, policy, vm, usable).and_then(|ticket| measured.clone().map(|()| ticket)) {
                Ok(ticket) => tickets.push(ticket),
                Err(reason) => draft.stays(&vm, Some(&policy.name), reason),
            }
        }
    }
    for vm in std::mem::take(&mut draft.homeless) {
        draft.stays(&vm, None, StayReason::NoNode);
    }
    tickets
}

fn ticket<'a>(draft: &Draft<'a>, policy: &'a Policy, vm: Guest<'a>, usable: bool) -> Result<Ticket<'a>, StayReason> {
    if let Some(reason) = vm.obstacle(policy, draft.now) {
        return Err(reason);
    }
    if !usable {
        return Err(StayReason::NodeNotUsable);
    }
    let window = policy.thresholds.idle_window;
    let load = draft.vm_load(&vm, window);
    let WindowAverage::Full(cores) = load else { return Err(StayReason::LoadUnknown { load }) };
    let vcpus = Cores::new(f64::from(vm.vcpus)).unwrap_or(Cores::ZERO);
    let load = cores.percent_of(vcpus);
    if load >= policy.thresholds.idle {
        return Err(StayReason::Active { load });
    }
    let ended = vm.last_migration.as_ref().and_then(|last| last.ended);
    if !candidate::measured_since_move(vm.vm, window, draft.now) {
        return Err(StayReason::Settling { until: ended.unwrap_or(draft.now) + window });
    }
    may_return(draft, policy, &vm)?;
    let since = vm.load.and_then(|load| load.below_since(draft.now, window, policy.thresholds.idle.of(vcpus)));
    let earliest = ended.map(|ended| ended + policy.thresholds.settle);
    let since = since.unwrap_or(draft.now).max(earliest.unwrap_or_default());
    Ok(Ticket { since, ended, vm, policy, cores, load })
}

/// Whether enough is known of an idle VM, and left of its budget, to bring it back.
fn may_return(draft: &Draft<'_>, policy: &Policy, vm: &Guest<'_>) -> Result<(), StayReason> {
    let moves = vm.moves.map_or(0, |moves| moves.within_a_day(draft.now));
    let budget = policy.budgets.moves_per_vm_per_day;
    if moves + THERE_AND_AWAY > usize::try_from(budget).unwrap_or(usize::MAX) {
        return Err(StayReason::ReliefKept { moves, budget });
    }
    if policy.thresholds.admission_minutes() == 0 {
        return Ok(());
    }
    match draft.vm_load(vm, policy.thresholds.admission_window) {
        WindowAverage::Full(_) => Ok(()),
        WindowAverage::Filling { have, want } => Err(StayReason::HistoryShort { have, want }),
        load => Err(StayReason::LoadUnknown { load }),
    }
}

fn admit<'a>(draft: &mut Draft<'a>, ticket: &Ticket<'a>) -> Result<(), StayReason> {
    let Ticket { vm, policy, cores, load, since, .. } = *ticket;
    draft.may_leave(vm.vm)?;
    if !draft.has_slot(policy) {
        return Err(StayReason::WaitsForSlot);
    }
    let tenant = Tenant { vcpus: vm.vcpus, load: vm.load, runs_here: false };
    let minutes = joint_load::minutes_of(&tenant, policy, draft.now);
    let found = place::shared(draft, policy, vm.vm, cores, minutes)?;
    draft.go(policy, vm, found, MoveReason::Idle { vm_load: load, threshold: policy.thresholds.idle, since })
}
