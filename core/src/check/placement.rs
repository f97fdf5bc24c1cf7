//! Rules 1 and 5: the target takes the VM, by the scheduler's word and by its class's.

use super::{Findings, Move, Rule, State};
use crate::{
    fit::{Candidate, Moment},
    model::{Cores, PowerState, Role},
};

pub(super) fn judge(state: &State<'_>, planned: &Move<'_>, found: &mut Findings) {
    let Move { vm, policy, source, target, target_class, .. } = planned;
    let mut refuse =
        |why: String| found.add(Rule::Placement, format!("VM {} does not fit {}: {why}", vm.key, target.name));
    if let Some(unsupported) = &vm.unsupported {
        refuse(format!("its constraint {} is not understood", unsupported.field));
    }
    let moment = if target.power == PowerState::Awake { Moment::Now } else { Moment::OnceAwake };
    let probe = state.occupancy.probe(Candidate::target_of(vm));
    if let Err(misfit) = probe.quota() {
        refuse(misfit.to_string());
    }
    if let Err(misfit) = probe.fits(&target.name, moment) {
        refuse(misfit.to_string());
    }
    if source.name == target.name {
        refuse("it is the source".into());
    }
    // A woken node is a target once it is usable, in a later plan.
    let usable = target.is_usable();
    if !usable {
        refuse(format!("the node is not usable ({:?}, ready: {})", target.power, target.ready));
    }
    if state.suspended.contains_key(&target.name) {
        refuse("the node is suspended by this plan".into());
    }
    if let Some(what) = &target.maintenance {
        refuse(format!("the node is under maintenance: {what}"));
    }
    for key in &policy.stay_within {
        if source.labels.get(key) != target.labels.get(key) {
            refuse(format!("it would leave its {key}"));
        }
    }
    let Some(on) = state.occupancy.on(&target.name) else { return };
    if let Some(most) = target_class.max_vms.filter(|&most| on.vms >= most) {
        refuse(format!("class {} allows {most} VMs", target_class.name));
    }
    let memory = on.vm_memory + vm.target.requests.memory;
    // Without a capacity of its own the class follows the allocatable, which the scheduler's answer covers.
    if target_class.capacity.memory.is_some() && memory > target_class.memory_of(target) {
        refuse(format!("class {} has no memory left for it", target_class.name));
    }
}

/// Rule 5: a core for each vCPU on dedicated nodes.
pub(super) fn dedicated_cores(state: &State<'_>, planned: &Move<'_>, found: &mut Findings) {
    let Move { vm, target, target_class, .. } = planned;
    let Some(on) = state.occupancy.on(&target.name).filter(|_| target_class.role == Role::Dedicated) else { return };
    let (vcpus, cores) = (on.vcpus.saturating_add(u64::from(vm.vcpus)), target_class.cores_of(target));
    if vcpus > cores && vm.vcpus > 0 {
        let detail = format!("{} would own {vcpus} vCPUs with VM {}, it has {cores} cores", target.name, vm.key);
        found.add(Rule::DedicatedCores, detail);
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
        found.add(Rule::Knowledge, format!("the load that {} would carry is not known", target.name));
        return;
    };
    let on_the_way: Cores = coming.map(|coming| load.brought_by(coming, state.now, thresholds.idle_window)).sum();
    let predicted = (carried + on_the_way + own).percent_of(target_class.cpu_of(target));
    // Sums of floats in another order differ in their last digits.
    if predicted.value() > thresholds.admission.value() * (1.0 + 1e-9) {
        let detail = format!("{} would be at {predicted}, {} is the margin", target.name, thresholds.admission);
        found.add(Rule::Placement, detail);
    }
}
