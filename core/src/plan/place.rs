//! Where a VM could go.

use super::coming::Coming;
use super::draft::{Draft, Place};
use super::joint_load;
use super::shelf::{Shelf, Wish};
use super::{NoPlace, StayReason};
use crate::fit::{Candidate, Misfit, Moment};
use crate::model::{Cores, Node, NodeName, Policy, Role, Span, Timestamp, Vm};
use std::cell::OnceCell;

/// So many nodes are named when there is no room: enough to see why, not a list of the cluster.
const NAMED: usize = 5;

/// The agent of a node that has just come back speaks again within this time.
const SPEAKS_AGAIN: Span = Span::from_secs(10);

/// A place for a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Here, now.
    Awake(NodeName),
    /// Here, once it is awake.
    Asleep(NodeName),
}

/// A dedicated node with as many empty cores as the VM has vCPUs: among awake ones in the policy's order, the fewest
/// empty cores first (Reactive Cloud §3.3.2), then a sleeping one.
///
/// # Errors
/// Why no node does.
pub(super) fn dedicated<'a>(draft: &mut Draft<'a>, policy: &'a Policy, vm: &'a Vm) -> Result<Found, StayReason> {
    find(draft, policy, vm, Role::Dedicated, Cores::ZERO, Vec::new())
}

/// A shared node whose load stays below the admission threshold with the VM on it, and would have all along with what
/// the VM used `minutes` by minute; the fullest such first, so that few shared nodes are needed; then a sleeping one.
///
/// # Errors
/// Why no node does.
pub(super) fn shared<'a>(
    draft: &mut Draft<'a>,
    policy: &'a Policy,
    vm: &'a Vm,
    load: Cores,
    minutes: Vec<f64>,
) -> Result<Found, StayReason> {
    find(draft, policy, vm, Role::Shared, load, minutes)
}

fn find<'a>(
    draft: &mut Draft<'a>,
    policy: &'a Policy,
    vm: &'a Vm,
    role: Role,
    load: Cores,
    minutes: Vec<f64>,
) -> Result<Found, StayReason> {
    let Some(shelf) = draft.shelves.get_mut(&policy.name).map(|shelves| shelves.of_mut(role)) else {
        return Err(StayReason::NoRoom { nodes: Vec::new() });
    };
    let home = |key: &'a String| {
        let home = draft.occupancy.whereabouts().nodes.get(vm.node.as_ref()?)?;
        draft.places[home].node.labels.get(key).map(String::as_str)
    };
    let home = policy.stay_within.iter().map(home).collect();
    let wish = Wish { vm, role, load, minutes, home };
    // Where other pods are is found out only when a node is worth asking.
    let scheduler = OnceCell::new();
    let moves = draft.snapshot.history.of(&vm.uid).filter(|moves| !moves.refused_by.is_empty());
    let takes = |number: usize| {
        let place = &draft.places[number];
        worth_asking(policy, &wish, place, draft.now)?;
        let refuses = moves.and_then(|moves| moves.refused_until(&place.node.name));
        if let Some(until) = refuses.filter(|until| draft.now < *until) {
            return Err(NoPlace::RefusedLately { until });
        }
        let no_fit = |misfit| NoPlace::Misfit { misfit };
        let probe = scheduler.get_or_init(|| draft.occupancy.probe(Candidate::target_of(vm)));
        probe.quota().map_err(no_fit)?;
        probe.fits_on(draft.occupancy.use_of(number), moment(place)).map_err(no_fit)
    };
    let refusal = |&number: &usize| Some((draft.places[number].node.name.clone(), takes(number).err()?));
    let refusals = |shelf: &Shelf<'_>| shelf.by_name.iter().filter_map(refusal).take(NAMED).collect();
    if shelf.has_refused(&wish) {
        debug_assert!(shelf.by_name.iter().all(|&number| takes(number).is_err()), "{} fits after all", vm.key);
        return Err(StayReason::NoRoom { nodes: refusals(shelf) });
    }
    shelf.arrange(policy, role, &draft.places, &draft.changed);
    let is_just_back = |node: &Node| {
        let since = draft.snapshot.powers.get(&node.name).filter(|record| record.noted).and_then(|record| record.since);
        since.is_some_and(|since| draft.now.since(since) < SPEAKS_AGAIN)
    };
    let mut just_back = None;
    for number in shelf.in_order(policy, draft.seed, vm, &draft.places) {
        let node = &draft.places[number].node;
        match takes(number) {
            Ok(()) if node.is_usable() => return Ok(Found::Awake(node.name.clone())),
            Ok(()) => {
                let waits = |node| Err(StayReason::WaitsForWake { node });
                return just_back.map_or(Ok(Found::Asleep(node.name.clone())), waits);
            }
            // No other is woken while one that is back has said nothing yet: it may be the one that was woken for this.
            Err(NoPlace::LoadUnknown) if just_back.is_none() && is_just_back(node) => {
                just_back = Some(node.name.clone());
            }
            // A quota is the same on every node.
            Err(NoPlace::Misfit { misfit: Misfit::Quota { .. } | Misfit::QuotaNeeds { .. } }) => break,
            Err(_) => {}
        }
    }
    let nodes = refusals(shelf);
    // What refused this VM alone says nothing about others.
    if moves.is_none() && scheduler.get().is_none_or(|probe| !probe.minds_others() && probe.quota().is_ok()) {
        shelf.refuse(wish);
    }
    Err(StayReason::NoRoom { nodes })
}

fn moment(place: &Place<'_>) -> Moment {
    if place.node.is_usable() { Moment::Now } else { Moment::OnceAwake }
}

/// What is cheap to know and rules out most nodes.
fn worth_asking(policy: &Policy, wish: &Wish<'_>, place: &Place<'_>, now: Timestamp) -> Result<(), NoPlace> {
    if place.coming == Coming::No || place.node.maintenance.is_some() {
        return Err(NoPlace::NotUsable);
    }
    let Some(class) = place.class else { return Err(NoPlace::NotUsable) };
    if class.max_vms.is_some_and(|most| place.guests >= most) {
        return Err(NoPlace::MaxVms);
    }
    let memory = place.guest_memory.saturating_add(wish.vm.target.requests.memory.0);
    if class.capacity.memory.is_some() && memory > class.memory_of(place.node).0 {
        return Err(NoPlace::ClassMemory);
    }
    for (key, home) in policy.stay_within.iter().zip(&wish.home) {
        if *home != place.node.labels.get(key).map(String::as_str) {
            return Err(NoPlace::StayWithin { key: key.clone() });
        }
    }
    match wish.role {
        Role::Dedicated => has_cores(wish, place),
        Role::Shared => admits(policy, wish, place, now),
    }
}

fn has_cores(wish: &Wish<'_>, place: &Place<'_>) -> Result<(), NoPlace> {
    if place.node.is_usable() && !place.is_measured() {
        return Err(NoPlace::LoadUnknown);
    }
    let (empty, wanted) = (place.empty_cores(), u64::from(wish.vm.vcpus));
    if empty < wanted { Err(NoPlace::Cores { empty, wanted }) } else { Ok(()) }
}

fn admits(policy: &Policy, wish: &Wish<'_>, place: &Place<'_>, now: Timestamp) -> Result<(), NoPlace> {
    if place.moving >= policy.budgets.concurrent_per_shared_node {
        return Err(NoPlace::Busy);
    }
    if !place.node.is_usable() {
        return Ok(());
    }
    let Some(load) = place.load.full() else { return Err(NoPlace::LoadUnknown) };
    let predicted = (load + place.arriving + wish.load).percent_of(place.capacity());
    let admission = policy.thresholds.admission;
    if predicted >= admission {
        return Err(NoPlace::Load { predicted, admission });
    }
    joint_load::admits(policy, &wish.minutes, place, load, now)
}
