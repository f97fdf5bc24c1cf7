//! Overloading detection: when a shared node's average reaches the threshold, its most CPU-consuming VM goes to a
//! dedicated node (Reactive Cloud §3.3.2; Energy §III-C, distribution phase).

use super::draft::{Draft, Guest};
use super::{NodeVerdict, StayReason, place};
use crate::model::{Cores, MoveReason, Percent, Policy, Role, Span, Timestamp, Vm, VmActivity, VmKey, WindowAverage};

/// A VM below this share of its vCPUs relieves its node of nothing worth a move.
const LEAST_RELIEF: f64 = 1.0;

/// While the busiest VM is only held up for a moment (it settles, backs off or migrates), one that uses less than this
/// share of what it uses does not go in its place: it would take a dedicated node and relieve its own of little.
const WORTH_OVERTAKING: f64 = 0.5;

/// What holds a VM up for longer than this makes nobody else wait: its node would be overloaded all that time.
const A_MOMENT: Span = Span::from_secs(60);

/// Relieves every overloaded shared node of one VM, and notes why all other VMs on shared nodes stay.
pub(super) fn relieve<'a>(draft: &mut Draft<'a>) {
    for number in 0..draft.places.len() {
        let place = &draft.places[number];
        if let Some(policy) = place.policy.filter(|_| place.role() == Some(Role::Shared)) {
            draft.places[number].verdict = judge(draft, number, policy);
        }
    }
}

fn judge<'a>(draft: &mut Draft<'a>, number: usize, policy: &'a Policy) -> NodeVerdict {
    let vms = std::mem::take(&mut draft.places[number].vms);
    let selected = draft.keep_selected(vms, policy);
    let place = &draft.places[number];
    let (verdict, reason) = match place.load {
        _ if !place.node.is_usable() => (NodeVerdict::NotUsable, StayReason::NodeNotUsable),
        WindowAverage::Full(average) => {
            let load = average.percent_of(place.capacity());
            // What was done about it must show in the average before more is done.
            let window = policy.thresholds.overload_window;
            if load < policy.thresholds.overload {
                (NodeVerdict::Calm { load }, StayReason::NodeCalm)
            } else if place.changed.is_some_and(|changed| draft.now.since(changed) < window) {
                (NodeVerdict::Settling { load }, StayReason::NodeSettling)
            } else if place.moving >= policy.budgets.concurrent_per_shared_node {
                (NodeVerdict::Relieving { load }, StayReason::NodeSettling)
            } else {
                return pop_out(draft, policy, &selected, load);
            }
        }
        load => (NodeVerdict::LoadUnknown, StayReason::LoadUnknown { load }),
    };
    all_stay(draft, &selected, policy, &reason);
    verdict
}

/// Notes for each VM why it stays: what keeps it from moving at all, else `reason`.
fn all_stay(draft: &mut Draft<'_>, vms: &[Guest<'_>], policy: &Policy, reason: &StayReason) {
    for vm in vms {
        if !draft.note_spoken_for(vm, policy) {
            let why = vm.obstacle(policy, draft.now);
            draft.stays(vm, Some(&policy.name), why.unwrap_or_else(|| reason.clone()));
        }
    }
}

/// Moves the busiest VM that can be moved.
fn pop_out<'a>(draft: &mut Draft<'a>, policy: &'a Policy, vms: &[Guest<'a>], load: Percent) -> NodeVerdict {
    let mut candidates: Vec<(Cores, &Guest<'a>)> = Vec::new();
    let mut held_up: Option<(Cores, &VmKey)> = None;
    for vm in vms {
        if draft.note_spoken_for(vm, policy) {
            continue;
        }
        if let Some(reason) = vm.obstacle(policy, draft.now) {
            let window = policy.thresholds.overload_window;
            let load = draft.vm_load(vm, window).full().filter(|_| is_momentary(&reason, draft.now));
            if let Some(load) = load.filter(|load| held_up.is_none_or(|(most, _)| *load > most)) {
                held_up = Some((load, &vm.vm.key));
            }
            draft.stays(vm, Some(&policy.name), reason);
            continue;
        }
        match draft.vm_load(vm, policy.thresholds.overload_window) {
            WindowAverage::Full(cores) => candidates.push((cores, vm)),
            load => draft.stays(vm, Some(&policy.name), StayReason::LoadUnknown { load }),
        }
    }
    candidates.sort_by(|(a, vm), (b, other)| b.value().total_cmp(&a.value()).then_with(|| vm.key.cmp(&other.key)));
    let mut moved: Option<VmKey> = None;
    let mut waits = false;
    for (cores, vm) in candidates {
        let not_worth_it = held_up.filter(|(most, _)| cores.value() < WORTH_OVERTAKING * most.value());
        let reason = if let Some(first) = &moved {
            StayReason::NotFirst { first: first.clone() }
        } else if let Some((_, first)) = not_worth_it {
            waits = true;
            StayReason::NotFirst { first: first.clone() }
        } else if waits {
            StayReason::NodeSettling
        } else if let Some(gate) = draft.gates.get(&policy.name) {
            StayReason::Gated { gate: gate.clone() }
        } else {
            match try_to_move(draft, policy, *vm, cores, load) {
                Ok(()) => {
                    moved = Some(vm.key.clone());
                    continue;
                }
                Err(reason) => {
                    // Nobody overtakes a VM that only waits: the node would lose more VMs than it must.
                    waits = matches!(
                        reason,
                        StayReason::WaitsForWake { .. } | StayReason::WaitsForSlot | StayReason::WaitsForNode { .. }
                    );
                    reason
                }
            }
        };
        draft.stays(vm, Some(&policy.name), reason);
    }
    match moved {
        Some(vm) => NodeVerdict::Relieved { load, vm },
        None if waits => NodeVerdict::Relieving { load },
        None => NodeVerdict::Stuck { load },
    }
}

/// Whether what keeps a VM from moving is over in a moment.
fn is_momentary(obstacle: &StayReason, now: Timestamp) -> bool {
    match obstacle {
        StayReason::Settling { until } | StayReason::BackingOff { until, .. } => until.since(now) <= A_MOMENT,
        StayReason::Busy { activity } => {
            matches!(activity, VmActivity::Migrating | VmActivity::OldLauncherLeaving | VmActivity::Stopping)
        }
        _ => false,
    }
}

fn try_to_move<'a>(
    draft: &mut Draft<'a>,
    policy: &'a Policy,
    vm: Guest<'a>,
    cores: Cores,
    node_load: Percent,
) -> Result<(), StayReason> {
    let vcpus = Cores::new(f64::from(vm.vcpus)).unwrap_or(Cores::ZERO);
    if cores.percent_of(vcpus).value() < LEAST_RELIEF {
        return Err(StayReason::NoRelief);
    }
    draft.may_leave(vm.vm)?;
    let found = place::dedicated(draft, policy, vm.vm)?;
    draft.go(policy, vm, found, MoveReason::Overload { node_load, threshold: policy.thresholds.overload })
}

impl<'a> Draft<'a> {
    /// Whether KubeVirt would let one more VM leave this one's node now.
    ///
    /// # Errors
    /// The node that is busy, or that there is none.
    pub(super) fn may_leave(&self, vm: &Vm) -> Result<(), StayReason> {
        let source = vm.node.as_ref().ok_or(StayReason::NoNode)?;
        let most = self.snapshot.kubevirt.outbound_per_node;
        if self.place(source).is_some_and(|place| place.leaving >= most) {
            return Err(StayReason::WaitsForNode { node: source.clone() });
        }
        Ok(())
    }

    /// The VMs that the policy's selectors take; the others are noted as left out.
    pub(super) fn keep_selected(&mut self, vms: Vec<Guest<'a>>, policy: &Policy) -> Vec<Guest<'a>> {
        if policy.vms == crate::model::VmSelector::default() {
            return vms;
        }
        let none = crate::model::Labels::new();
        let (kept, left): (Vec<_>, Vec<_>) = vms.into_iter().partition(|vm| {
            let namespace = self.snapshot.namespaces.get(&vm.key.namespace).map_or(&none, |found| &found.labels);
            policy.vms.matches(&vm.labels, namespace)
        });
        for vm in left {
            self.stays(&vm, None, StayReason::NotSelected);
        }
        kept
    }
}
