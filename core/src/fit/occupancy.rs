//! What is where: an index over a snapshot that a planner can extend by the moves it plans.

use super::{
    Candidate, Misfit, NodeUse,
    by_label::{ByValue, LabelQuestion, narrow},
    probe::Probe,
    quota::{self, PlannedUse},
    whereabouts::{Resident, Whereabouts},
};
use crate::model::{
    ByName, Labels, Name, Node, NodeName, PodAffinityTerm, PodOwner, Quota, Scheduling, Selector, Snapshot, Uid, Vm,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
};

/// A pod that is on a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a> {
    pub(super) node: usize,
    pub(super) namespace: &'a Name,
    pub(super) labels: &'a Labels,
    pub(super) scheduling: &'a Scheduling,
    pub(super) terminating: bool,
}

impl<'a> Placed<'a> {
    fn new(resident: &Resident<'a>) -> Self {
        let Resident { node, pod, scheduling, .. } = *resident;
        Self { node, namespace: &pod.key.namespace, labels: &pod.labels, scheduling, terminating: pod.terminating }
    }
}

/// A state of an [`Occupancy`] to return to.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Mark(usize);

struct Undo<'a> {
    namespace: &'a Name,
    scheduling: &'a Scheduling,
    /// The node's state before.
    before: (usize, NodeUse<'a>),
}

/// Which pods are on which node, and what they leave of it. Built once from a snapshot in time linear in its pods
/// (looked up by hash, never iterated by it), then extended move by move.
pub struct Occupancy<'a> {
    whereabouts: Whereabouts<'a>,
    nodes: Vec<NodeUse<'a>>,
    /// Pods that the snapshot does not show: launchers that must be there, and what was planned.
    added: Vec<Placed<'a>>,
    /// The pods that carry a label, for those questions that some constraint has asked.
    by_label: RefCell<BTreeMap<LabelQuestion, ByValue>>,
    /// Required anti-affinity of pods that are there, by a label that they keep away: usually there is one, and then
    /// only pods that carry it need a closer look.
    keep_away: HashMap<(&'a str, &'a str), Vec<(usize, &'a PodAffinityTerm)>, ByName>,
    /// Those for which there is no such label.
    keep_away_others: Vec<(usize, &'a PodAffinityTerm)>,
    planned_quota: BTreeMap<&'a Name, PlannedUse>,
    /// Host names that several nodes have.
    hostnames_of_two: BTreeSet<&'a str>,
    undo: Vec<Undo<'a>>,
}

/// The host names that several nodes have. As long as each node's is its name there are none.
fn hostnames_of_two(snapshot: &Snapshot) -> BTreeSet<&str> {
    let nodes = || snapshot.nodes.values();
    if nodes().all(|node| node.hostname().is_none_or(|hostname| hostname == node.name.as_str())) {
        return BTreeSet::new();
    }
    let mut hostnames: Vec<_> = nodes().filter_map(|node| node.hostname()).collect();
    hostnames.sort_unstable();
    hostnames.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect()
}

impl<'a> Occupancy<'a> {
    /// Indexes a snapshot: the pods that are there, and as if they were there already the targets of unfinished
    /// migrations and the launchers of VMs whose pods the cache does not show.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot) -> Self {
        let mut this = Self {
            whereabouts: Whereabouts::new(snapshot),
            nodes: snapshot.nodes.values().map(NodeUse::new).collect(),
            added: Vec::new(),
            by_label: RefCell::default(),
            keep_away: HashMap::default(),
            keep_away_others: Vec::new(),
            planned_quota: BTreeMap::new(),
            hostnames_of_two: hostnames_of_two(snapshot),
            undo: Vec::new(),
        };
        // More VMs than launchers on a node: some launchers do not show.
        let mut missing = vec![0_isize; this.nodes.len()];
        for index in 0..this.whereabouts.pods.len() {
            let Resident { node, scheduling, is_launcher, .. } = this.whereabouts.pods[index];
            missing[node] -= isize::from(is_launcher);
            this.count(index, node, scheduling);
        }
        let moving = this.moving();
        for (node, vm) in this.whereabouts.guests().chain(moving.iter().copied()) {
            this.nodes[node].add_vm(vm);
            missing[node] += 1;
        }
        for &(node, vm) in &moving {
            this.nodes[node].attach(&vm.target);
        }
        if missing.iter().any(|&count| count > 0) {
            this.add_launchers(&moving, &missing);
        }
        this
    }

    /// The VMs in unfinished migrations, on those ends where they do not run.
    fn moving(&self) -> Vec<(usize, &'a Vm)> {
        let snapshot = self.whereabouts.snapshot;
        let mut seen = BTreeSet::new();
        let mut moving = Vec::new();
        for migration in snapshot.migrations.values().filter(|migration| migration.is_unfinished()) {
            let Some(vm) = snapshot.vms.get(&migration.vm) else { continue };
            let ends = [&migration.source, &migration.target].into_iter().flatten();
            for end in ends.filter(|&end| vm.node.as_ref() != Some(end)).filter_map(|end| self.number_of(end)) {
                if seen.insert((&vm.key, end)) {
                    moving.push((end, vm));
                }
            }
        }
        moving
    }

    /// Adds the launchers that the cache does not show, on nodes that have fewer of them than VMs.
    fn add_launchers(&mut self, moving: &[(usize, &'a Vm)], missing: &[isize]) {
        let is_missing = |node: usize| missing[node] > 0;
        let launcher = |on: &Resident<'a>| match &on.pod.owner {
            PodOwner::Vm { uid, .. } if is_missing(on.node) => Some((on.node, uid)),
            _ => None,
        };
        let there: BTreeSet<(usize, &Uid)> = self.whereabouts.pods.iter().filter_map(launcher).collect();
        let guests = self.whereabouts.guests().chain(moving.iter().copied());
        let hidden: Vec<_> =
            guests.filter(|&(node, vm)| is_missing(node) && !there.contains(&(node, &vm.uid))).collect();
        for (node, vm) in hidden {
            self.insert_candidate(Candidate::restart_of(vm), node);
            self.charge_quota(&vm.key.namespace, &vm.target);
        }
    }

    /// Where the snapshot's pods and VMs are.
    pub(crate) fn whereabouts(&self) -> &Whereabouts<'a> {
        &self.whereabouts
    }

    fn number_of(&self, name: &NodeName) -> Option<usize> {
        self.whereabouts.nodes.get(name)
    }

    /// A pod by its number: first those of the snapshot, then the added ones.
    fn placed(&self, index: usize) -> Placed<'a> {
        match self.whereabouts.pods.get(index) {
            Some(resident) => Placed::new(resident),
            None => self.added[index - self.whereabouts.pods.len()],
        }
    }

    fn insert_candidate(&mut self, candidate: Candidate<'a>, node: usize) {
        let Candidate { namespace, labels, scheduling, .. } = candidate;
        let pod = Placed { node, namespace, labels, scheduling, terminating: false };
        let index = self.whereabouts.pods.len() + self.added.len();
        self.added.push(pod);
        for (question, by_value) in self.by_label.get_mut() {
            question.add(&pod, index, by_value);
        }
        self.count(index, node, scheduling);
    }

    /// Counts what a pod asks for and whom it keeps away.
    fn count(&mut self, index: usize, node: usize, pod: &'a Scheduling) {
        self.nodes[node].add_pod(pod);
        for term in &pod.anti_affinity {
            match narrow(&term.selector) {
                Some((key, values)) => {
                    for value in values {
                        self.keep_away.entry((key, value)).or_default().push((index, term));
                    }
                }
                None => self.keep_away_others.push((index, term)),
            }
        }
    }

    fn charge_quota(&mut self, namespace: &'a Name, scheduling: &'a Scheduling) {
        let quotas = self.quotas(namespace);
        if !quotas.is_empty() {
            self.planned_quota.entry(namespace).or_default().add(quotas, scheduling);
        }
    }

    fn quotas(&self, namespace: &Name) -> &'a [Quota] {
        self.whereabouts.snapshot.namespaces.get(namespace).map_or(&[], |namespace| &namespace.quotas)
    }

    /// What is in use on a node.
    #[must_use]
    pub fn on(&self, node: &NodeName) -> Option<&NodeUse<'a>> {
        self.number_of(node).map(|index| &self.nodes[index])
    }

    /// All nodes with what is in use on them, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeUse<'a>> {
        self.nodes.iter()
    }

    /// A migration can name this node, and no other by that name.
    pub(super) fn can_be_named(&self, node: &Node) -> Result<(), Misfit> {
        let hostname = node.hostname().ok_or(Misfit::NoHostname)?;
        if self.hostnames_of_two.contains(hostname) {
            return Err(Misfit::HostnameOfTwo { value: hostname.to_owned() });
        }
        Ok(())
    }

    /// What is in use on a node, by its number.
    pub(crate) fn use_of(&self, index: usize) -> &NodeUse<'a> {
        &self.nodes[index]
    }

    /// Prepares to ask about one pod and any number of nodes.
    #[must_use]
    pub fn probe(&self, candidate: Candidate<'a>) -> Probe<'_, 'a> {
        Probe::new(self, candidate)
    }

    /// Whether the namespace's quotas let the pod in.
    pub(super) fn quota_allows(&self, candidate: &Candidate<'_>) -> Result<(), Misfit> {
        let planned = self.planned_quota.get(candidate.namespace);
        quota::allows(self.quotas(candidate.namespace), planned, candidate.scheduling)
    }

    /// Puts a pod on a node, as planned; what else is there stays. `false` if there is no such node.
    pub fn place(&mut self, candidate: Candidate<'a>, node: &NodeName) -> bool {
        let Some(index) = self.number_of(node) else { return false };
        let Candidate { namespace, scheduling, .. } = candidate;
        self.undo.push(Undo { namespace, scheduling, before: (index, self.nodes[index].clone()) });
        self.insert_candidate(candidate, index);
        self.charge_quota(namespace, scheduling);
        self.nodes[index].attach(scheduling);
        if let Some(vm) = candidate.vm {
            self.nodes[index].add_vm(vm);
        }
        true
    }

    /// The state now, to come back to.
    pub fn mark(&self) -> Mark {
        Mark(self.undo.len())
    }

    /// Takes back all that was placed since the mark.
    pub fn roll_back(&mut self, mark: Mark) {
        while self.undo.len() > mark.0 {
            let (Some(undo), Some(pod)) = (self.undo.pop(), self.added.pop()) else { return };
            let gone = self.whereabouts.pods.len() + self.added.len();
            for (question, by_value) in self.by_label.get_mut() {
                question.remove(&pod, gone, by_value);
            }
            for term in &pod.scheduling.anti_affinity {
                for value in narrow(&term.selector).into_iter().flat_map(|(key, values)| values.map(move |v| (key, v)))
                {
                    if let Some(terms) = self.keep_away.get_mut(&value) {
                        terms.retain(|(index, _)| *index != gone);
                    }
                }
            }
            self.keep_away_others.retain(|(index, _)| *index != gone);
            let quotas = self.quotas(undo.namespace);
            if let Some(planned) = self.planned_quota.get_mut(undo.namespace) {
                planned.remove(quotas, undo.scheduling);
            }
            let (index, before) = undo.before;
            self.nodes[index] = before;
        }
    }

    /// The pods that a selector matches, in one namespace or in all.
    pub(super) fn matching(&self, selector: &Selector, namespace: Option<&Name>) -> Vec<Placed<'a>> {
        let matching = |pod: &Placed<'a>| selector.matches(pod.labels);
        let Some((key, values)) = narrow(selector) else {
            return self.numbers_in(namespace).map(|index| self.placed(index)).filter(matching).collect();
        };
        let mut by_label = self.by_label.borrow_mut();
        let question = LabelQuestion { namespace: namespace.cloned(), key: key.to_owned() };
        let by_value = by_label.entry(question).or_insert_with_key(|question| self.answer(question));
        values.flat_map(|value| by_value.with(value)).map(|&index| self.placed(index)).filter(matching).collect()
    }

    /// The numbers of the pods that may be in a namespace: those of the snapshot are in its order, and there each
    /// namespace's pods are next to each other.
    fn numbers_in(&self, namespace: Option<&Name>) -> impl Iterator<Item = usize> + use<'a> {
        let pods = &self.whereabouts.pods;
        let known = match namespace {
            None => 0..pods.len(),
            Some(namespace) => {
                pods.partition_point(|on| on.pod.key.namespace < *namespace)
                    ..pods.partition_point(|on| on.pod.key.namespace <= *namespace)
            }
        };
        known.chain(pods.len()..pods.len() + self.added.len())
    }

    fn answer(&self, question: &LabelQuestion) -> ByValue {
        let mut by_value = ByValue::default();
        for index in self.numbers_in(question.namespace.as_ref()) {
            question.add(&self.placed(index), index, &mut by_value);
        }
        by_value
    }

    /// The required anti-affinity terms of pods that are there which may keep a pod with these labels away.
    pub(super) fn keeping_away<'s>(
        &'s self,
        labels: &'s Labels,
    ) -> impl Iterator<Item = (Placed<'a>, &'a PodAffinityTerm)> + use<'s, 'a> {
        let labels = (!self.keep_away.is_empty()).then_some(labels);
        labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| self.keep_away.get(&(key.as_str(), value.as_str())))
            .flatten()
            .chain(&self.keep_away_others)
            .map(|&(index, term)| (self.placed(index), term))
    }
}
