//! Rule 4: after a suspend, the VMs of any few nodes that fail together still fit on the awake rest.
//!
//! One failure is judged exactly up to the packing: each node's VMs are placed first-fit by decreasing memory on the
//! rest, on the emptiest nodes first. For several failures within one place the nodes with the most memory of VMs are taken as the worst case.

use super::{Findings, Rule, State};
use crate::{
    fit::{Candidate, Moment, Occupancy},
    model::{Bytes, Node, NodeName, Policy, PolicyName, Vm},
};
use std::{cmp::Reverse, collections::BTreeMap};

/// So many nodes with memory enough are asked to take a VM. When all of them refuse, the question is open, and an open
/// question is answered by not suspending: asking ten thousand nodes for each VM takes longer than the answer is worth.
const MOST_ASKED: usize = 200;

/// A node that could take VMs of a node that fails.
struct Refuge<'a> {
    name: &'a NodeName,
    free: Bytes,
    suspended: bool,
}

/// Judges every policy that the plan takes nodes from.
pub(super) fn judge(state: &mut State<'_>, found: &mut Findings) {
    // The last step that takes a node from a policy makes up what is too much.
    let mut touched: BTreeMap<PolicyName, usize> = BTreeMap::new();
    for (name, step) in &state.suspended {
        let class = state.snapshot.nodes.get(*name).and_then(|node| state.policies.class_of(node).ok().flatten());
        if let Some(ruler) = class.and_then(|class| state.policies.ruling(&class.name)) {
            let last = touched.entry(ruler.name.clone()).or_default();
            *last = (*last).max(*step);
        }
    }
    for (name, step) in touched {
        if let Some(policy) = state.policies.policies.get(&name).filter(|policy| policy.keep_awake_failures > 0)
            && let Err(detail) = survey(state, policy)
        {
            found.step = Some(step);
            found.add(Rule::Reserve, detail);
        }
    }
}

/// That the VMs of nodes that fail together still fit on what stays awake.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailoverProof {
    /// So many failures, or sets of them within one place, were tried.
    pub tried: usize,
    /// The nodes whose failure takes the most VMs with it.
    pub worst: Vec<NodeName>,
    /// The VMs of those nodes.
    pub vms: usize,
    /// Usable nodes that stay, those that fail included.
    pub awake: usize,
    /// The most VMs that one failure leaves without a place whether or not this plan is carried out.
    pub homeless: usize,
}

/// Tries every failure that the policy names.
///
/// # Errors
/// With the first one that would strand VMs because of this plan, in words.
pub(super) fn survey<'a>(state: &mut State<'a>, policy: &Policy) -> Result<FailoverProof, String> {
    let ruled: Vec<&'a Node> = state.nodes_of(policy).iter().map(|(node, _)| *node).collect();
    let refuges = refuges(state, &ruled);
    let mut vms: BTreeMap<&NodeName, Vec<&'a Vm>> = BTreeMap::new();
    for vm in state.snapshot.vms.values() {
        vms.entry(match &vm.node {
            Some(node) => node,
            None => continue,
        })
        .or_default()
        .push(vm);
    }
    let awake = refuges.iter().filter(|refuge| !refuge.suspended).count();
    let mut proof = FailoverProof { awake, ..FailoverProof::default() };
    for failed in failures(policy, &ruled, &vms) {
        let mut lost: Vec<&'a Vm> = failed.iter().filter_map(|name| vms.get(name)).flatten().copied().collect();
        lost.sort_by_key(|vm| (Reverse(vm.target.requests.memory), &vm.key));
        proof.tried += 1;
        if lost.len() > proof.vms {
            (proof.vms, proof.worst) = (lost.len(), failed.iter().map(|&name| name.clone()).collect());
        }
        let survives = |refuge: &&Refuge<'_>| !failed.contains(&refuge.name);
        let after =
            place(&mut state.occupancy, &lost, || refuges.iter().filter(survives).filter(|refuge| !refuge.suspended));
        if after.stranded == 0 {
            continue;
        }
        // What would not have fitted before is not this plan's fault.
        let before = place(&mut state.occupancy, &lost, || refuges.iter().filter(survives));
        if after.open || after.stranded > before.stranded {
            let names: Vec<_> = failed.iter().map(|name| name.as_str()).collect();
            let (names, stranded) = (names.join(" and "), after.stranded);
            return Err(if after.open {
                format!("if {names} failed, {stranded} VMs would not fit on the {MOST_ASKED} emptiest nodes awake")
            } else {
                format!("if {names} failed, {stranded} VMs would fit nowhere awake")
            });
        }
        proof.homeless = proof.homeless.max(before.stranded);
    }
    Ok(proof)
}

/// The usable nodes, the emptiest first.
fn refuges<'a>(state: &State<'a>, ruled: &[&'a Node]) -> Vec<Refuge<'a>> {
    let free = |name: &NodeName| {
        let on = state.occupancy.on(name);
        on.map_or(Bytes::default(), |on| on.node().allocatable.memory.saturating_sub(on.memory))
    };
    let usable = ruled.iter().filter(|node| node.is_usable()).map(|node| &node.name);
    let mut refuges: Vec<_> =
        usable.map(|name| Refuge { name, free: free(name), suspended: state.suspended.contains_key(name) }).collect();
    refuges.sort_by_key(|refuge| (Reverse(refuge.free), refuge.name));
    refuges
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

/// What came of placing VMs.
struct Placed {
    /// Those that found no place.
    stranded: usize,
    /// For one of these not all nodes were asked.
    open: bool,
}

/// Places the lost VMs, the largest first, first-fit on the rest in its order, and takes them away again.
fn place<'a, 'r, R: Iterator<Item = &'r Refuge<'a>>>(
    occupancy: &mut Occupancy<'a>,
    lost: &[&'a Vm],
    rest: impl Fn() -> R,
) -> Placed
where
    'a: 'r,
{
    let before = occupancy.mark();
    let mut placed = Placed { stranded: 0, open: false };
    for vm in lost {
        let candidate = Candidate::restart_of(vm);
        let memory = candidate.scheduling.requests.memory;
        let probe = occupancy.probe(candidate);
        let mut large = rest().take_while(|refuge| refuge.free >= memory);
        let refuge = large.by_ref().take(MOST_ASKED).find(|refuge| probe.fits(refuge.name, Moment::Now).is_ok());
        match refuge {
            Some(refuge) => {
                occupancy.place(candidate, refuge.name);
            }
            None => {
                placed.stranded += 1;
                placed.open |= large.next().is_some();
            }
        }
    }
    occupancy.roll_back(before);
    placed
}
