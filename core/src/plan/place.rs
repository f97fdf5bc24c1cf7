//! Where a VM could go.

use super::draft::{Draft, Place};
use super::{NoPlace, StayReason};
use crate::fit::{Candidate, Moment, Probe};
use crate::model::{Cores, DestinationOrder, NodeName, Policy, Role, Vm};
use std::cmp::Ordering;

/// So many nodes are named when there is no room: enough to see why, not a list of the cluster.
const NAMED: usize = 5;

/// A place for a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Here, now.
    Awake(NodeName),
    /// Here, once it is awake.
    Asleep(NodeName),
}

/// Collects why nodes do not do.
#[derive(Default)]
struct Refusals(Vec<(NodeName, NoPlace)>);

impl Refusals {
    fn note(&mut self, place: &Place<'_>, why: NoPlace) {
        if self.0.len() < NAMED {
            self.0.push((place.node.name.clone(), why));
        }
    }
}

/// A dedicated node with as many empty cores as the VM has vCPUs: among awake ones in the policy's order, the fewest
/// empty cores first (Reactive Cloud §3.3.2), then a sleeping one.
///
/// # Errors
/// Why no node does.
pub(super) fn dedicated(draft: &Draft<'_>, policy: &Policy, vm: &Vm) -> Result<Found, StayReason> {
    let cores = |place: &Place<'_>| {
        if place.node.is_usable() && !place.is_measured() {
            return Err(NoPlace::LoadUnknown);
        }
        let (empty, wanted) = (place.empty_cores(), u64::from(vm.vcpus));
        if empty < wanted { Err(NoPlace::Cores { empty, wanted }) } else { Ok(()) }
    };
    let order = |a: &Place<'_>, b: &Place<'_>| match policy.order {
        DestinationOrder::MostDense => a.empty_cores().cmp(&b.empty_cores()),
        DestinationOrder::LeastDense => b.empty_cores().cmp(&a.empty_cores()),
        DestinationOrder::Random => shuffled(draft.seed, vm, a).cmp(&shuffled(draft.seed, vm, b)),
    };
    find(draft, policy, vm, Role::Dedicated, cores, order)
}

/// A shared node whose load stays below the admission threshold with the VM on it, the fullest such first, so that
/// few shared nodes are needed; then a sleeping one.
///
/// # Errors
/// Why no node does.
pub(super) fn shared(draft: &Draft<'_>, policy: &Policy, vm: &Vm, cores: Cores) -> Result<Found, StayReason> {
    let admits = |place: &Place<'_>| {
        if place.moving >= policy.budgets.concurrent_per_shared_node {
            return Err(NoPlace::Busy);
        }
        if !place.node.is_usable() {
            return Ok(());
        }
        let Some(load) = place.load.full() else { return Err(NoPlace::LoadUnknown) };
        let predicted = (load + place.arriving + cores).percent_of(place.capacity());
        let admission = policy.thresholds.admission;
        if predicted < admission { Ok(()) } else { Err(NoPlace::Load { predicted, admission }) }
    };
    let load = |place: &Place<'_>| place.load.full().unwrap_or(Cores::ZERO).percent_of(place.capacity()).value();
    let order = |a: &Place<'_>, b: &Place<'_>| match policy.order {
        DestinationOrder::MostDense => load(b).total_cmp(&load(a)),
        DestinationOrder::LeastDense => load(a).total_cmp(&load(b)),
        DestinationOrder::Random => shuffled(draft.seed, vm, a).cmp(&shuffled(draft.seed, vm, b)),
    };
    find(draft, policy, vm, Role::Shared, admits, order)
}

fn find<'a>(
    draft: &Draft<'a>,
    policy: &Policy,
    vm: &Vm,
    role: Role,
    takes: impl Fn(&Place<'a>) -> Result<(), NoPlace>,
    order: impl Fn(&Place<'a>, &Place<'a>) -> Ordering,
) -> Result<Found, StayReason> {
    let mut refusals = Refusals::default();
    let mut open: Vec<&Place<'a>> = Vec::new();
    for place in draft.nodes_of(&policy.name, role) {
        match worth_asking(draft, policy, vm, place).and_then(|()| takes(place)) {
            Ok(()) => open.push(place),
            Err(why) => refusals.note(place, why),
        }
    }
    if open.is_empty() {
        return Err(StayReason::NoRoom { nodes: refusals.0 });
    }
    // Awake ones first; of equals the first by name, because the sort keeps the order of the names.
    open.sort_by(|a, b| b.node.is_usable().cmp(&a.node.is_usable()).then_with(|| order(a, b)));
    let Some(vm) = draft.snapshot.vms.get(&vm.key) else { return Err(StayReason::NoNode) };
    let probe = draft.occupancy.probe(Candidate::target_of(vm));
    if let Err(misfit) = probe.quota() {
        refusals.0.insert(0, (open[0].node.name.clone(), NoPlace::Misfit { misfit }));
        return Err(StayReason::NoRoom { nodes: refusals.0 });
    }
    for place in open {
        match ask_scheduler(&probe, place) {
            Ok(found) => return Ok(found),
            Err(why) => refusals.note(place, why),
        }
    }
    Err(StayReason::NoRoom { nodes: refusals.0 })
}

/// What is cheap to know and rules out most nodes.
fn worth_asking(draft: &Draft<'_>, policy: &Policy, vm: &Vm, place: &Place<'_>) -> Result<(), NoPlace> {
    if !place.node.is_usable() && !place.node.can_wake() || place.node.maintenance.is_some() {
        return Err(NoPlace::NotUsable);
    }
    let Some(class) = place.class else { return Err(NoPlace::NotUsable) };
    if class.max_vms.is_some_and(|most| place.guests >= most) {
        return Err(NoPlace::MaxVms);
    }
    let memory = place.guest_memory.saturating_add(vm.target.requests.memory.0);
    if class.capacity.memory.is_some() && memory > class.memory_of(place.node).0 {
        return Err(NoPlace::ClassMemory);
    }
    let here = vm.node.as_ref().and_then(|node| draft.snapshot.nodes.get(node));
    for key in &policy.stay_within {
        if here.and_then(|node| node.labels.get(key)) != place.node.labels.get(key) {
            return Err(NoPlace::StayWithin { key: key.clone() });
        }
    }
    Ok(())
}

fn ask_scheduler(probe: &Probe<'_, '_>, place: &Place<'_>) -> Result<Found, NoPlace> {
    let usable = place.node.is_usable();
    let moment = if usable { Moment::Now } else { Moment::OnceAwake };
    probe.fits(&place.node.name, moment).map_err(|misfit| NoPlace::Misfit { misfit })?;
    let name = place.node.name.clone();
    Ok(if usable { Found::Awake(name) } else { Found::Asleep(name) })
}

/// A number that looks random and depends on the seed, the VM and the node alone (FNV-1a, then a finalizer), so that
/// adding a node does not change the order of the others.
fn shuffled(seed: u64, vm: &Vm, place: &Place<'_>) -> u64 {
    let bytes = vm.uid.as_str().bytes().chain([0]).chain(place.node.name.as_str().bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ (hash >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
