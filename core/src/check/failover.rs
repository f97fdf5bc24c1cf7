//! Rule 4: after a suspend, the VMs of any few nodes that fail together still fit on the awake rest.
//!
//! One failure is judged exactly up to the packing: each node's VMs are placed first-fit by decreasing memory on the
//! rest. For several failures within one place the nodes with the most memory of VMs are taken as the worst case.

use super::{Findings, Rule, State};
use crate::{
    fit::{Candidate, Moment},
    model::{Bytes, Node, NodeName, Policy, PolicyName, Vm},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// Judges every policy that the plan takes nodes from.
pub(super) fn judge(state: &mut State<'_>, found: &mut Findings) {
    let touched: BTreeSet<PolicyName> = state
        .suspended
        .iter()
        .filter_map(|name| state.policies.class_of(state.snapshot.nodes.get(*name)?).ok().flatten())
        .filter_map(|class| Some(state.policies.ruling(&class.name)?.name.clone()))
        .collect();
    for name in touched {
        if let Some(policy) = state.policies.policies.get(&name).filter(|policy| policy.keep_awake_failures > 0) {
            judge_policy(state, policy, found);
        }
    }
}

fn judge_policy<'a>(state: &mut State<'a>, policy: &Policy, found: &mut Findings) {
    let ruled: Vec<&'a Node> = state.nodes_of(policy).into_iter().map(|(node, _)| node).collect();
    let mut vms: BTreeMap<&NodeName, Vec<&'a Vm>> = BTreeMap::new();
    for vm in state.snapshot.vms.values() {
        vms.entry(match &vm.node {
            Some(node) => node,
            None => continue,
        })
        .or_default()
        .push(vm);
    }
    for failed in failures(policy, &ruled, &vms) {
        let lost: Vec<&'a Vm> = failed.iter().filter_map(|name| vms.get(name)).flatten().copied().collect();
        let rest = |without_suspended: bool| -> Vec<&'a NodeName> {
            let stays = |node: &&&'a Node| {
                node.is_usable()
                    && !failed.contains(&&node.name)
                    && !(without_suspended && state.suspended.contains(&node.name))
            };
            ruled.iter().filter(stays).map(|node| &node.name).collect()
        };
        let (after, before) = (rest(true), rest(false));
        let stranded = stranded(state, &lost, after);
        // What would not have fitted before is not this plan's fault.
        if stranded > 0 && stranded > self::stranded(state, &lost, before) {
            let names: Vec<_> = failed.iter().map(|name| name.as_str()).collect();
            let detail = format!("if {} failed, {stranded} VMs would fit nowhere awake", names.join(" and "));
            found.add(Rule::Reserve, detail);
        }
    }
}

/// The sets of nodes whose failure is looked at.
fn failures<'a>(policy: &Policy, ruled: &[&'a Node], vms: &BTreeMap<&NodeName, Vec<&Vm>>) -> Vec<Vec<&'a NodeName>> {
    let hosting = ruled.iter().filter(|node| vms.contains_key(&node.name));
    if policy.keep_awake_failures == 1 {
        return hosting.map(|node| vec![&node.name]).collect();
    }
    let mut places: BTreeMap<Option<&str>, Vec<&'a NodeName>> = BTreeMap::new();
    for node in hosting {
        let place = node.labels.get(&policy.keep_awake_per).map(String::as_str);
        places.entry(place).or_default().push(&node.name);
    }
    let memory =
        |name: &NodeName| -> Bytes { vms.get(name).into_iter().flatten().map(|vm| vm.target.requests.memory).sum() };
    let most = usize::try_from(policy.keep_awake_failures).unwrap_or(usize::MAX);
    places
        .into_values()
        .map(|mut nodes| {
            nodes.sort_by_key(|name| (Reverse(memory(name)), *name));
            nodes.truncate(most);
            nodes
        })
        .collect()
}

/// How many of the lost VMs find no place, first-fit by decreasing memory, the emptiest nodes first.
fn stranded<'a>(state: &mut State<'a>, lost: &[&'a Vm], mut rest: Vec<&'a NodeName>) -> usize {
    let occupancy = &mut state.occupancy;
    let free = |name: &NodeName| {
        occupancy.on(name).map_or(Bytes::default(), |on| on.node().allocatable.memory.saturating_sub(on.memory))
    };
    rest.sort_by_cached_key(|name| (Reverse(free(name)), *name));
    let mut lost: Vec<_> = lost.to_vec();
    lost.sort_by_key(|vm| (Reverse(vm.target.requests.memory), &vm.key));
    let before = occupancy.mark();
    let mut stranded = 0;
    for vm in lost {
        let candidate = Candidate::restart_of(vm);
        let probe = occupancy.probe(candidate);
        match rest.iter().find(|name| probe.fits(name, Moment::Now).is_ok()) {
            Some(name) => {
                occupancy.place(candidate, name);
            }
            None => stranded += 1,
        }
    }
    occupancy.roll_back(before);
    stranded
}
