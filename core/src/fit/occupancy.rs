//! What is where: an index over a snapshot that a planner can extend by the moves it plans.

use super::{
    Candidate, Misfit,
    node_index::NodeIndex,
    probe::Probe,
    quota::{self, PlannedUse},
};
use crate::model::{
    Bytes, Labels, MilliCpu, Name, Node, NodeName, Operator, PodAffinityTerm, PodOwner, Quota, Resources, Scheduling,
    Selector, Snapshot, Uid, Vm,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
};

/// Pods by a label's value. It owns its keys, so that an [`Occupancy`] can be used where a shorter-lived one is asked
/// for.
#[derive(Default)]
struct ByValue(HashMap<String, Vec<usize>>);

impl ByValue {
    fn add(&mut self, value: &str, pod: usize) {
        match self.0.get_mut(value) {
            Some(pods) => pods.push(pod),
            None => {
                self.0.insert(value.to_owned(), vec![pod]);
            }
        }
    }
}

/// What the pods on one node ask for.
#[derive(Debug, Clone)]
pub struct NodeUse<'a> {
    node: &'a Node,
    /// CPU requests.
    pub cpu: MilliCpu,
    /// Memory requests.
    pub memory: Bytes,
    /// Requests of ephemeral storage.
    pub ephemeral_storage: Bytes,
    /// Pods.
    pub pods: u64,
    /// VMs here or on their way from or to here.
    pub vms: u32,
    /// Their vCPUs.
    pub vcpus: u64,
    /// Memory requests of their launchers.
    pub vm_memory: Bytes,
    extended: Vec<(&'a str, u64)>,
    pub(super) ports: Vec<(&'a str, u16)>,
}

impl<'a> NodeUse<'a> {
    fn new(node: &'a Node) -> Self {
        Self {
            node,
            cpu: MilliCpu::default(),
            memory: Bytes::default(),
            ephemeral_storage: Bytes::default(),
            pods: 0,
            vms: 0,
            vcpus: 0,
            vm_memory: Bytes::default(),
            extended: Vec::new(),
            ports: Vec::new(),
        }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// Requests of an extended resource.
    #[must_use]
    pub fn extended(&self, name: &str) -> u64 {
        self.extended.iter().find(|(known, _)| *known == name).map_or(0, |(_, amount)| *amount)
    }

    fn add_pod(&mut self, pod: &'a Scheduling) {
        let Resources { cpu, memory, ephemeral_storage, pods: _, extended } = &pod.requests;
        self.cpu += *cpu;
        self.memory += *memory;
        self.ephemeral_storage += *ephemeral_storage;
        self.pods += 1;
        for (name, amount) in extended {
            match self.extended.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum = sum.saturating_add(*amount),
                None => self.extended.push((name, *amount)),
            }
        }
        self.ports.extend(pod.host_ports.iter().map(|(protocol, port)| (protocol.as_str(), *port)));
    }

    fn add_vm(&mut self, vm: &Vm) {
        self.vms += 1;
        self.vcpus += u64::from(vm.vcpus);
        self.vm_memory += vm.target.requests.memory;
    }
}

/// A pod that is on a node.
#[derive(Debug, Clone)]
pub(super) struct Placed<'a> {
    pub(super) node: usize,
    pub(super) namespace: &'a Name,
    pub(super) labels: &'a Labels,
    pub(super) scheduling: &'a Scheduling,
    pub(super) terminating: bool,
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
    snapshot: &'a Snapshot,
    nodes: Vec<NodeUse<'a>>,
    by_name: NodeIndex<'a>,
    pub(super) placed: Vec<Placed<'a>>,
    /// The pods that carry a label, for those keys that some constraint has asked about.
    by_label: RefCell<BTreeMap<String, ByValue>>,
    /// Required anti-affinity of pods that are there, by a label that they keep away: usually there is one, and then
    /// only pods that carry it need a closer look.
    keep_away: HashMap<(&'a str, &'a str), Vec<(usize, &'a PodAffinityTerm)>>,
    /// Those for which there is no such label.
    keep_away_others: Vec<(usize, &'a PodAffinityTerm)>,
    planned_quota: BTreeMap<&'a Name, PlannedUse>,
    undo: Vec<Undo<'a>>,
}

impl<'a> Occupancy<'a> {
    /// Indexes a snapshot: the pods that are there, and as if they were there already the targets of unfinished
    /// migrations and the launchers of VMs whose pods the cache does not show.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot) -> Self {
        let nodes: Vec<_> = snapshot.nodes.values().map(NodeUse::new).collect();
        let mut this = Self {
            snapshot,
            nodes,
            by_name: NodeIndex::new(snapshot),
            placed: Vec::with_capacity(snapshot.pods.len()),
            by_label: RefCell::default(),
            keep_away: HashMap::new(),
            keep_away_others: Vec::new(),
            planned_quota: BTreeMap::new(),
            undo: Vec::new(),
        };
        let mut launchers = Vec::with_capacity(snapshot.vms.len());
        for pod in snapshot.pods.values().filter(|pod| pod.is_active()) {
            let Some(node) = pod.node.as_ref().and_then(|name| this.index_of(name)) else { continue };
            if let PodOwner::Vm { uid, .. } = &pod.owner {
                launchers.push((node, uid));
            }
            this.insert(Placed {
                node,
                namespace: &pod.key.namespace,
                labels: &pod.labels,
                scheduling: &pod.scheduling,
                terminating: pod.terminating,
            });
        }
        this.add_vms(&launchers);
        this
    }

    /// VMs count on the node they run on and on both ends of their unfinished migrations.
    fn add_vms(&mut self, launchers: &[(usize, &'a Uid)]) {
        let snapshot = self.snapshot;
        let mut guests: Vec<(usize, &'a Vm)> = Vec::with_capacity(snapshot.vms.len());
        let homes = snapshot.vms.values().filter_map(|vm| Some((self.index_of(vm.node.as_ref()?)?, vm)));
        guests.extend(homes);
        let mut moving = BTreeSet::new();
        for migration in snapshot.migrations.values().filter(|migration| migration.is_unfinished()) {
            let Some(vm) = snapshot.vms.get(&migration.vm) else { continue };
            let ends = [&migration.source, &migration.target].into_iter().flatten();
            for end in ends.filter(|&end| vm.node.as_ref() != Some(end)).filter_map(|end| self.index_of(end)) {
                if moving.insert((&vm.key, end)) {
                    guests.push((end, vm));
                }
            }
        }
        let mut missing = vec![0_isize; self.nodes.len()];
        for &(node, _) in launchers {
            missing[node] -= 1;
        }
        for &(node, vm) in &guests {
            self.nodes[node].add_vm(vm);
            missing[node] += 1;
        }
        if missing.iter().any(|&count| count > 0) {
            self.add_launchers(&guests, launchers, &missing);
        }
    }

    /// Adds the launchers that the cache does not show, on nodes that have fewer of them than VMs.
    fn add_launchers(&mut self, guests: &[(usize, &'a Vm)], launchers: &[(usize, &'a Uid)], missing: &[isize]) {
        let is_missing = |node: usize| missing[node] > 0;
        let there: BTreeSet<_> = launchers.iter().filter(|&&(node, _)| is_missing(node)).collect();
        for &(node, vm) in guests.iter().filter(|&&(node, _)| is_missing(node)) {
            if !there.contains(&(node, &vm.uid)) {
                self.insert_candidate(Candidate::restart_of(vm), node);
                self.charge_quota(&vm.key.namespace, &vm.target);
            }
        }
    }

    fn index_of(&self, name: &NodeName) -> Option<usize> {
        self.by_name.get(name)
    }

    fn insert_candidate(&mut self, candidate: Candidate<'a>, node: usize) {
        let Candidate { namespace, labels, scheduling, .. } = candidate;
        self.insert(Placed { node, namespace, labels, scheduling, terminating: false });
    }

    fn insert(&mut self, pod: Placed<'a>) {
        let index = self.placed.len();
        self.nodes[pod.node].add_pod(pod.scheduling);
        for (key, by_value) in self.by_label.get_mut() {
            if let Some(value) = pod.labels.get(key) {
                by_value.add(value, index);
            }
        }
        for term in &pod.scheduling.anti_affinity {
            match narrow(&term.selector) {
                Some((key, values)) => {
                    for value in values {
                        self.keep_away.entry((key, value)).or_default().push((index, term));
                    }
                }
                None => self.keep_away_others.push((index, term)),
            }
        }
        self.placed.push(pod);
    }

    fn charge_quota(&mut self, namespace: &'a Name, scheduling: &'a Scheduling) {
        let quotas = self.quotas(namespace);
        if !quotas.is_empty() {
            self.planned_quota.entry(namespace).or_default().add(quotas, scheduling);
        }
    }

    fn quotas(&self, namespace: &Name) -> &'a [Quota] {
        self.snapshot.namespaces.get(namespace).map_or(&[], |namespace| &namespace.quotas)
    }

    /// What is in use on a node.
    #[must_use]
    pub fn on(&self, node: &NodeName) -> Option<&NodeUse<'a>> {
        self.index_of(node).map(|index| &self.nodes[index])
    }

    /// All nodes with what is in use on them, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeUse<'a>> {
        self.nodes.iter()
    }

    pub(super) fn use_of(&self, index: usize) -> &NodeUse<'a> {
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
        let Some(index) = self.index_of(node) else { return false };
        let Candidate { namespace, scheduling, .. } = candidate;
        self.undo.push(Undo { namespace, scheduling, before: (index, self.nodes[index].clone()) });
        self.insert_candidate(candidate, index);
        self.charge_quota(namespace, scheduling);
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
            let (Some(undo), Some(pod)) = (self.undo.pop(), self.placed.pop()) else { return };
            let gone = self.placed.len();
            for (key, by_value) in self.by_label.get_mut() {
                if let Some(pods) = pod.labels.get(key).and_then(|value| by_value.0.get_mut(value)) {
                    pods.retain(|&index| index != gone);
                }
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

    /// The pods that a selector matches.
    pub(super) fn matching(&self, selector: &Selector) -> Vec<&Placed<'a>> {
        let matching = |pod: &&Placed<'a>| selector.matches(pod.labels);
        let Some((key, values)) = narrow(selector) else { return self.placed.iter().filter(matching).collect() };
        let mut by_label = self.by_label.borrow_mut();
        let by_value = by_label.entry(key.to_owned()).or_insert_with(|| self.pods_with(key));
        values
            .filter_map(|value| by_value.0.get(value))
            .flatten()
            .map(|&pod| &self.placed[pod])
            .filter(matching)
            .collect()
    }

    /// The pods that carry a label, by its value.
    fn pods_with(&self, key: &str) -> ByValue {
        let mut by_value = ByValue::default();
        for (index, pod) in self.placed.iter().enumerate() {
            if let Some(value) = pod.labels.get(key) {
                by_value.add(value, index);
            }
        }
        by_value
    }

    /// The required anti-affinity terms of pods that are there which may keep a pod with these labels away.
    pub(super) fn keeping_away<'s>(
        &'s self,
        labels: &'s Labels,
    ) -> impl Iterator<Item = (&'s Placed<'a>, &'a PodAffinityTerm)> {
        let labels = (!self.keep_away.is_empty()).then_some(labels);
        labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| self.keep_away.get(&(key.as_str(), value.as_str())))
            .flatten()
            .chain(&self.keep_away_others)
            .map(|&(index, term)| (&self.placed[index], term))
    }
}

/// A label that everything the selector matches carries: its key and the values it may have.
fn narrow(selector: &Selector) -> Option<(&str, impl Iterator<Item = &str> + Clone)> {
    let requirement = selector.requirements.iter().find(|requirement| requirement.operator == Operator::In)?;
    Some((requirement.key.as_str(), requirement.values.iter().map(String::as_str)))
}
