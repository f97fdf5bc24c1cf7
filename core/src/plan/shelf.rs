//! The nodes that a policy rules in one role, in the order in which they are tried, and whom they all refused.

use super::coming::Coming;
use super::draft::Place;
use crate::model::{Cores, DestinationOrder, Policy, Role, Scheduling, Vm};
use std::collections::{BTreeMap, BTreeSet, btree_set};
use std::vec;

/// So many refusals are remembered: clusters have few kinds of VMs, and each refusal is compared with.
const REMEMBERED: usize = 32;

/// A VM that looks for a node.
#[derive(Clone)]
pub(super) struct Wish<'a> {
    pub(super) vm: &'a Vm,
    /// For what it looks.
    pub(super) role: Role,
    /// The load that it brings along; on dedicated nodes its vCPUs count instead.
    pub(super) load: Cores,
    /// What it used in each minute of the admission window; empty if that is not asked.
    pub(super) minutes: Vec<f64>,
    /// The values of the topology keys that it may not leave.
    pub(super) home: Vec<Option<&'a str>>,
}

/// A node's place in a policy's order.
type Rank = (Coming, u64);

/// The nodes that a policy rules in one role, by their numbers.
#[derive(Default)]
pub(super) struct Shelf<'a> {
    /// In the order of their names.
    pub(super) by_name: Vec<usize>,
    /// In the order in which they are tried; of equals the first by name.
    in_order: BTreeSet<(Rank, usize)>,
    ranks: BTreeMap<usize, Rank>,
    /// How many changes of the places that order knows of; none before it is first asked for.
    arranged: Option<usize>,
    refused: Vec<Wish<'a>>,
}

/// The nodes that a policy rules, by their role.
#[derive(Default)]
pub(super) struct Shelves<'a> {
    shared: Shelf<'a>,
    dedicated: Shelf<'a>,
}

impl<'a> Shelves<'a> {
    /// Those of one role.
    pub(super) fn of(&self, role: Role) -> &Shelf<'a> {
        match role {
            Role::Shared => &self.shared,
            Role::Dedicated => &self.dedicated,
        }
    }

    /// Those of one role, to change them.
    pub(super) fn of_mut(&mut self, role: Role) -> &mut Shelf<'a> {
        match role {
            Role::Shared => &mut self.shared,
            Role::Dedicated => &mut self.dedicated,
        }
    }
}

impl<'a> Shelf<'a> {
    /// Adds a node whose name comes after all others.
    pub(super) fn add(&mut self, number: usize) {
        self.by_name.push(number);
    }

    /// Brings the nodes into the order in which the policy wants them tried. `changed` are the numbers of all places
    /// that changed since the decision began, in the order in which they did: only those move, because a decision
    /// that sorted thousands of nodes anew after each of its moves would do little else.
    pub(super) fn arrange(&mut self, policy: &Policy, role: Role, places: &[Place<'_>], changed: &[usize]) {
        if policy.order == DestinationOrder::Random {
            return;
        }
        let rank = |number: usize| rank(policy.order, role, &places[number]);
        match self.arranged.replace(changed.len()) {
            None => {
                self.ranks = self.by_name.iter().map(|&number| (number, rank(number))).collect();
                self.in_order = self.ranks.iter().map(|(&number, &rank)| (rank, number)).collect();
            }
            Some(known) => {
                for &number in &changed[known..] {
                    let Some(before) = self.ranks.get_mut(&number) else { continue };
                    self.in_order.remove(&(*before, number));
                    *before = rank(number);
                    self.in_order.insert((*before, number));
                }
            }
        }
    }

    /// The nodes in the order in which they are tried for this VM.
    pub(super) fn in_order(&self, policy: &Policy, seed: u64, vm: &Vm, places: &[Place<'_>]) -> InOrder<'_> {
        if policy.order != DestinationOrder::Random {
            return InOrder::Ranked(self.in_order.iter());
        }
        let mut in_order = self.by_name.clone();
        in_order.sort_by_cached_key(|&number| shuffled(seed, vm, &places[number]));
        InOrder::Shuffled(in_order.into_iter())
    }

    /// Whether all nodes refused a VM before that asked for no more than this one. What was planned since took room
    /// and gave none back, so they would refuse this one as well.
    pub(super) fn has_refused(&self, wish: &Wish<'_>) -> bool {
        self.refused.iter().any(|refused| wish.asks_no_less_than(refused))
    }

    /// Notes that all nodes refused a VM, whatever other pods are there.
    pub(super) fn refuse(&mut self, wish: Wish<'a>) {
        self.refused.retain(|refused| !refused.asks_no_less_than(&wish));
        if self.refused.len() == REMEMBERED {
            self.refused.remove(0);
        }
        self.refused.push(wish);
    }
}

impl Wish<'_> {
    fn asks_no_less_than(&self, other: &Wish<'_>) -> bool {
        self.load >= other.load
            && self.minutes.iter().zip(&other.minutes).all(|(own, others)| own >= others)
            && (self.role == Role::Shared || self.vm.vcpus >= other.vm.vcpus)
            && self.home == other.home
            && asks_no_less(&self.vm.target, &other.vm.target)
    }
}

/// Whether a pod asks for as much as another or more, under constraints that leave it no other nodes: what the other's
/// constraints keep away, its own do as well.
fn asks_no_less(pod: &Scheduling, other: &Scheduling) -> bool {
    fn all_in<T: PartialEq>(few: &[T], many: &[T]) -> bool {
        few.iter().all(|one| many.contains(one))
    }
    // Quotas alone look at limits, and they are asked each time.
    let Scheduling {
        requests,
        limits: _,
        node_selector,
        node_affinity,
        tolerations,
        affinity,
        anti_affinity,
        spread,
        host_ports,
        volume_topology,
        csi_volumes,
        same_cpu,
    } = other;
    std::ptr::eq(pod, other)
        || pod.requests.cover(requests)
            && node_selector.iter().all(|(key, value)| pod.node_selector.get(key) == Some(value))
            && (node_affinity.is_none() || *node_affinity == pod.node_affinity)
            && all_in(&pod.tolerations, tolerations)
            && all_in(affinity, &pod.affinity)
            && all_in(anti_affinity, &pod.anti_affinity)
            && all_in(spread, &pod.spread)
            && all_in(host_ports, &pod.host_ports)
            && all_in(volume_topology, &pod.volume_topology)
            && (same_cpu.is_none() || *same_cpu == pod.same_cpu)
            && csi_volumes.iter().all(|(driver, count)| pod.csi_volumes.get(driver).is_some_and(|own| own >= count))
}

/// Nodes in the order in which they are tried.
pub(super) enum InOrder<'s> {
    Ranked(btree_set::Iter<'s, (Rank, usize)>),
    Shuffled(vec::IntoIter<usize>),
}

impl Iterator for InOrder<'_> {
    type Item = usize;
    fn next(&mut self) -> Option<usize> {
        match self {
            Self::Ranked(nodes) => nodes.next().map(|&(_, number)| number),
            Self::Shuffled(nodes) => nodes.next(),
        }
    }
}

/// The place of a node in a policy's order: awake ones first, then those that come soonest; on dedicated nodes the fewest empty cores that
/// suffice (Reactive Cloud §3.3.2), on shared ones the highest load, so that few shared nodes are needed.
fn rank(order: DestinationOrder, role: Role, place: &Place<'_>) -> Rank {
    // Of numbers that are not negative the bits are in the order of the numbers.
    let load = || place.load.full().unwrap_or(Cores::ZERO).percent_of(place.capacity()).value().to_bits();
    let room = if role == Role::Dedicated { place.empty_cores() } else { !load() };
    (place.coming, if order == DestinationOrder::LeastDense { !room } else { room })
}

/// A number that looks random and depends on the seed, the VM and the node alone (FNV-1a, then a finalizer), so that
/// adding a node does not change the order of the others.
fn shuffled(seed: u64, vm: &Vm, place: &Place<'_>) -> Rank {
    let bytes = vm.uid.as_str().bytes().chain([0]).chain(place.node.name.as_str().bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (place.coming, (hash ^ (hash >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
