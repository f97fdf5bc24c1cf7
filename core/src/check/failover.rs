//! Rule 4: after the suspends, the VMs of any few nodes that fail together still fit on what stays awake.
//!
//! The lost VMs, the largest first, each take the first node that has room, the emptiest first. A policy that asks for
//! several failures fears them within one place (its `keepAwake.per`), and there those that lose the most memory.

use super::{Cause, Findings, State};
use crate::{
    fit::{Candidate, Moment},
    model::{Bytes, Node, NodeName, Policy, PolicyName, Vm},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// At most so many nodes with memory enough are asked to take a VM. If all of them refuse, that counts as no room: an
/// answer must not take longer than a pass.
const MOST_ASKED: usize = 200;

/// Judges every policy that this plan takes nodes from.
pub(super) fn judge(state: &mut State<'_>, found: &mut Findings) {
    // The last step that takes a node from a policy makes up what is too much.
    let mut touched: BTreeMap<&PolicyName, usize> = BTreeMap::new();
    for (name, step) in &state.suspended {
        let class = state.snapshot.nodes.get(*name).and_then(|node| state.policies.class_of(node).ok().flatten());
        if let Some(policy) = class.and_then(|class| state.policies.ruling(&class.name)) {
            let last = touched.entry(&policy.name).or_default();
            *last = (*last).max(*step);
        }
    }
    for (policy, step) in touched {
        let policy = &state.policies.policies[policy];
        if let Some(cause) = lost_for_good(state, policy) {
            found.step = Some(step);
            found.add(cause);
        }
    }
}

/// A failure whose VMs would find less room than before this plan.
fn lost_for_good(state: &mut State<'_>, policy: &Policy) -> Option<Cause> {
    let mut hosted: BTreeMap<&NodeName, Vec<&Vm>> = BTreeMap::new();
    for vm in state.snapshot.vms.values() {
        if let Some(node) = &vm.node {
            hosted.entry(node).or_default().push(vm);
        }
    }
    let mut rest: Vec<(Bytes, &Node)> = Vec::new();
    for (node, _) in state.nodes_of(policy).iter().filter(|(node, _)| node.is_usable()) {
        let used = state.occupancy.on(&node.name).map_or(Bytes::default(), |on| on.memory);
        rest.push((node.allocatable.memory.saturating_sub(used), node));
    }
    rest.sort_by_key(|(free, node)| (Reverse(*free), &node.name));
    for failed in failures(state, policy, &hosted) {
        let mut lost: Vec<&Vm> = failed.iter().filter_map(|name| hosted.get(name)).flatten().copied().collect();
        lost.sort_by_key(|vm| (Reverse(vm.target.requests.memory), &vm.key));
        let stands = |node: &Node| !failed.contains(&&node.name);
        let asleep: BTreeSet<&NodeName> = state.suspended.keys().copied().collect();
        let after = homeless(state, &lost, &rest, |node| stands(node) && !asleep.contains(&node.name));
        // What found no room before is not this plan's fault.
        if after > 0 && after > homeless(state, &lost, &rest, stands) {
            return Some(Cause::Failover { failed: failed.into_iter().cloned().collect(), vms: after });
        }
    }
    None
}

/// The sets of nodes that fail together.
fn failures<'a>(state: &State<'a>, policy: &Policy, hosted: &BTreeMap<&NodeName, Vec<&Vm>>) -> Vec<Vec<&'a NodeName>> {
    let most = usize::try_from(policy.keep_awake_failures).unwrap_or(usize::MAX);
    let hosts = state.nodes_of(policy).iter().map(|(node, _)| *node).filter(|node| hosted.contains_key(&node.name));
    match most {
        0 => Vec::new(),
        1 => hosts.map(|node| vec![&node.name]).collect(),
        _ => {
            let loses = |name: &NodeName| -> Bytes { hosted[name].iter().map(|vm| vm.target.requests.memory).sum() };
            let mut places: BTreeMap<Option<&String>, Vec<&NodeName>> = BTreeMap::new();
            for node in hosts {
                places.entry(node.labels.get(&policy.keep_awake_per)).or_default().push(&node.name);
            }
            for nodes in places.values_mut() {
                nodes.sort_by_key(|name| (Reverse(loses(name)), *name));
                nodes.truncate(most);
            }
            places.into_values().collect()
        }
    }
}

/// How many of these VMs find no room on those of these nodes that stay.
fn homeless<'a>(
    state: &mut State<'a>,
    lost: &[&'a Vm],
    rest: &[(Bytes, &Node)],
    stays: impl Fn(&Node) -> bool,
) -> usize {
    let before = state.occupancy.mark();
    let mut homeless = 0;
    for vm in lost {
        let candidate = Candidate::restart_of(vm);
        let probe = state.occupancy.probe(candidate);
        let roomy = rest.iter().take_while(|(free, _)| *free >= vm.target.requests.memory);
        let roomy = roomy.filter(|(_, node)| stays(node)).take(MOST_ASKED);
        let home = roomy.map(|(_, node)| &node.name).find(|name| probe.fits(name, Moment::Now).is_ok());
        match home {
            Some(name) => {
                state.occupancy.place(candidate, name);
            }
            None => homeless += 1,
        }
    }
    state.occupancy.roll_back(before);
    homeless
}
