//! Rule 4 as the planner keeps it: after a suspend, the VMs of any few nodes that fail together still fit on the rest.
//!
//! One failure is judged exactly up to the packing: each node's VMs are placed first-fit by decreasing memory on the
//! rest, on the emptiest nodes first. For several failures within one place the nodes with the most memory of VMs are
//! taken as the worst case.

use super::trial::Trial;
use crate::{
    fit::{Candidate, Moment, Occupancy},
    model::{Bytes, Node, NodeName, Policy, Vm},
};
use serde::Serialize;
use std::{cmp::Reverse, collections::BTreeMap, fmt};

/// So many nodes with memory enough are asked to take a VM. When all of them refuse, the question is open, and an open
/// question is answered by not suspending: asking ten thousand nodes for each VM takes longer than the answer is worth.
const MOST_ASKED: usize = 200;

/// A node that could take VMs of a node that fails.
struct Refuge<'a> {
    name: &'a NodeName,
    free: Bytes,
    suspended: bool,
}

/// That the VMs of nodes that fail together still fit on what stays awake.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
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

/// A failure that would strand VMs because of a suspend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stranded {
    /// The nodes that fail together.
    pub failed: Vec<NodeName>,
    /// So many of their VMs would not fit on what stays awake.
    pub vms: usize,
    /// Not all nodes were asked, only so many of the emptiest.
    pub asked: Option<usize>,
}

impl fmt::Display for Stranded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.failed.iter().map(NodeName::as_str).collect();
        let (names, vms) = (names.join(" and "), self.vms);
        match self.asked {
            Some(asked) => write!(f, "if {names} failed, {vms} VMs would not fit on the {asked} emptiest nodes awake"),
            None => write!(f, "if {names} failed, {vms} VMs would fit nowhere awake"),
        }
    }
}

/// Tries every failure that the policy names.
///
/// # Errors
/// With the first one that would strand VMs because of the nodes that the trial suspends.
pub(super) fn survey<'a>(
    trial: &mut Trial<'a>,
    policy: &Policy,
    ruled: &[&'a Node],
) -> Result<FailoverProof, Stranded> {
    let refuges = refuges(trial, ruled);
    let mut vms: BTreeMap<&NodeName, Vec<&'a Vm>> = BTreeMap::new();
    for vm in trial.snapshot.vms.values() {
        vms.entry(match &vm.node {
            Some(node) => node,
            None => continue,
        })
        .or_default()
        .push(vm);
    }
    let awake = refuges.iter().filter(|refuge| !refuge.suspended).count();
    let mut proof = FailoverProof { awake, ..FailoverProof::default() };
    for failed in failures(policy, ruled, &vms) {
        let mut lost: Vec<&'a Vm> = failed.iter().filter_map(|name| vms.get(name)).flatten().copied().collect();
        lost.sort_by_key(|vm| (Reverse(vm.target.requests.memory), &vm.key));
        proof.tried += 1;
        if lost.len() > proof.vms {
            (proof.vms, proof.worst) = (lost.len(), failed.iter().map(|&name| name.clone()).collect());
        }
        let survives = |refuge: &&Refuge<'_>| !failed.contains(&refuge.name);
        let after =
            place(&mut trial.occupancy, &lost, || refuges.iter().filter(survives).filter(|refuge| !refuge.suspended));
        if after.stranded == 0 {
            continue;
        }
        // What would not have fitted before is not this plan's fault.
        let before = place(&mut trial.occupancy, &lost, || refuges.iter().filter(survives));
        if after.open || after.stranded > before.stranded {
            let failed = failed.into_iter().cloned().collect();
            return Err(Stranded { failed, vms: after.stranded, asked: after.open.then_some(MOST_ASKED) });
        }
        proof.homeless = proof.homeless.max(before.stranded);
    }
    Ok(proof)
}

/// The usable nodes, the emptiest first.
fn refuges<'a>(trial: &Trial<'a>, ruled: &[&'a Node]) -> Vec<Refuge<'a>> {
    let free = |name: &NodeName| {
        let on = trial.occupancy.on(name);
        on.map_or(Bytes::default(), |on| on.node().allocatable.memory.saturating_sub(on.memory))
    };
    let usable = ruled.iter().filter(|node| node.is_usable()).map(|node| &node.name);
    let mut refuges: Vec<_> =
        usable.map(|name| Refuge { name, free: free(name), suspended: trial.asleep.contains(name) }).collect();
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
