//! Rules 1 and 5: the target takes the VM, by the scheduler's word and by its class's.

use super::{Cause, Findings, Move, NoFit, State};
use crate::{
    fit::{Candidate, Moment},
    model::{Cores, PowerState, Role},
};

pub(super) fn judge(state: &State<'_>, planned: &Move<'_>, found: &mut Findings) {
    let Move { vm, policy, source, target, target_class, .. } = planned;
    let mut refuse = |why| found.add(Cause::NoFit { vm: vm.key.clone(), node: target.name.clone(), why });
    if let Some(unsupported) = &vm.unsupported {
        refuse(NoFit::Unsupported { field: unsupported.field.to_string() });
    }
    let moment = if target.power == PowerState::Awake { Moment::Now } else { Moment::OnceAwake };
    let probe = state.occupancy.probe(Candidate::target_of(vm));
    if let Err(misfit) = probe.quota() {
        refuse(NoFit::Misfit(misfit));
    }
    if let Err(misfit) = probe.fits(&target.name, moment) {
        refuse(NoFit::Misfit(misfit));
    }
    if source.name == target.name {
        refuse(NoFit::IsSource);
    }
    // A woken node is a target once it is usable, in a later plan.
    let usable = target.is_usable();
    if !usable {
        refuse(NoFit::NotUsable { power: target.power, ready: target.ready });
    }
    if state.suspended.contains_key(&target.name) {
        refuse(NoFit::Suspended);
    }
    if let Some(what) = &target.maintenance {
        refuse(NoFit::Maintenance { what: what.clone() });
    }
    for key in &policy.stay_within {
        if source.labels.get(key) != target.labels.get(key) {
            refuse(NoFit::Leaves { key: key.clone() });
        }
    }
    let Some(on) = state.occupancy.on(&target.name) else { return };
    if let Some(most) = target_class.max_vms.filter(|&most| on.vms >= most) {
        refuse(NoFit::MostVms { class: target_class.name.clone(), most });
    }
    let memory = on.vm_memory + vm.target.requests.memory;
    // Without a capacity of its own the class follows the allocatable, which the scheduler's answer covers.
    if target_class.capacity.memory.is_some() && memory > target_class.memory_of(target) {
        refuse(NoFit::NoMemory { class: target_class.name.clone() });
    }
}

/// Rule 5: a core for each vCPU on dedicated nodes.
pub(super) fn dedicated_cores(state: &State<'_>, planned: &Move<'_>, found: &mut Findings) {
    let Move { vm, target, target_class, .. } = planned;
    let Some(on) = state.occupancy.on(&target.name).filter(|_| target_class.role == Role::Dedicated) else { return };
    let (vcpus, cores) = (on.vcpus.saturating_add(u64::from(vm.vcpus)), target_class.cores_of(target));
    if vcpus > cores && vm.vcpus > 0 {
        found.add(Cause::TooFewCores { node: target.name.clone(), vm: vm.key.clone(), vcpus, cores });
    }
}

/// A shared node takes a VM only if its load stays below the margin: what it carries, what is on its way, and the VM.
pub(super) fn admission(state: &State<'_>, planned: &Move<'_>, found: &mut Findings) {
    let Move { vm, policy, target, target_class, .. } = planned;
    if target_class.role != Role::Shared {
        return;
    }
    let (load, thresholds) = (&state.snapshot.load, &policy.thresholds);
    let coming = state.in_flight.iter().filter(|moving| moving.target == Some(&target.name));
    // One that has arrived shows in the node's own load.
    let coming = coming
        .filter_map(|moving| state.snapshot.vms.get(moving.vm))
        .filter(|coming| coming.node.as_ref() != Some(&target.name));
    let carried = match load.nodes.get(&target.name).filter(|_| target.is_usable()) {
        Some(known) => known.average(state.now, thresholds.overload_window).full(),
        // A node that sleeps carries nothing.
        None => Some(Cores::ZERO),
    };
    let own = load.vms.get(&vm.key).and_then(|known| known.average(state.now, thresholds.idle_window).full());
    let Some((carried, own)) = carried.zip(own) else {
        found.add(Cause::LoadUnknown { node: target.name.clone() });
        return;
    };
    let on_the_way: Cores = coming.map(|coming| load.brought_by(coming, state.now, thresholds.idle_window)).sum();
    let predicted = (carried + on_the_way + own).percent_of(target_class.cpu_of(target));
    // Sums of floats in another order differ in their last digits.
    if predicted.value() > thresholds.admission.value() * (1.0 + 1e-9) {
        let margin = thresholds.admission;
        found.add(Cause::OverMargin { node: target.name.clone(), load: predicted, margin });
    }
}
