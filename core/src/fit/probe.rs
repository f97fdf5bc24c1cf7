//! One pod's question, prepared once and asked of many nodes: PodTopologySpread and InterPodAffinity need to know
//! where other pods are before they can judge a node.

use super::{Candidate, Misfit, Moment, NodeUse, Occupancy, cpu, filters, occupancy::Placed};
use crate::model::{Labels, Name, Node, NodeName, PodAffinityTerm, SpreadConstraint};
use std::collections::{BTreeMap, BTreeSet};

/// A place that pods can be in together: a node label's key and value.
type Place<'a> = (&'a str, &'a str);

/// What one spread constraint found in the cluster.
struct Spread<'a> {
    constraint: &'a SpreadConstraint,
    /// Matching pods by the topology key's value, over the nodes that the pod could go to.
    counts: BTreeMap<&'a str, u64>,
    /// What the emptiest place holds.
    least: u64,
    /// Whether the pod itself counts.
    counts_itself: bool,
}

/// What constraints on other pods found in the cluster; nothing for most pods.
#[derive(Default)]
struct Others<'a> {
    spread: Vec<Spread<'a>>,
    /// For each affinity term the places where pods are that meet all terms.
    partners: Vec<(&'a PodAffinityTerm, BTreeSet<&'a str>)>,
    /// No pod anywhere meets the terms, but the pod meets them itself: it is the first of its group and may go
    /// anywhere.
    first_of_group: bool,
    avoided: BTreeSet<Place<'a>>,
    avoided_keys: BTreeSet<&'a str>,
    avoids_it: BTreeSet<Place<'a>>,
    avoids_it_keys: BTreeSet<&'a str>,
}

/// A pod's question to nodes. It borrows the [`Occupancy`], so it can't outlive a change of it.
pub struct Probe<'o, 'a> {
    occupancy: &'o Occupancy<'a>,
    candidate: Candidate<'a>,
    others: Option<Box<Others<'a>>>,
}

fn selects(term: &PodAffinityTerm, namespace: &Name, labels: &Labels) -> bool {
    (term.all_namespaces || term.namespaces.contains(namespace)) && term.selector.matches(labels)
}

/// The pods that a term may speak of: [`selects`] has the last word.
fn matching<'a>(occupancy: &Occupancy<'a>, term: &PodAffinityTerm) -> Vec<Placed<'a>> {
    match &term.namespaces[..] {
        [namespace] if !term.all_namespaces => occupancy.matching(&term.selector, Some(namespace)),
        _ => occupancy.matching(&term.selector, None),
    }
}

impl<'o, 'a> Probe<'o, 'a> {
    pub(super) fn new(occupancy: &'o Occupancy<'a>, candidate: Candidate<'a>) -> Self {
        let pod = candidate.scheduling;
        let mut others = Others::default();
        for (there, term) in occupancy.keeping_away(candidate.labels) {
            if selects(term, candidate.namespace, candidate.labels) {
                let labels = &occupancy.use_of(there.node).node().labels;
                if let Some(value) = labels.get(&term.topology_key) {
                    others.avoids_it.insert((&term.topology_key, value));
                    others.avoids_it_keys.insert(&term.topology_key);
                }
            }
        }
        others.find_avoided(occupancy, pod.anti_affinity.as_slice());
        others.find_partners(occupancy, &candidate);
        others.find_spread(occupancy, &candidate);
        let idle = others.spread.is_empty()
            && others.partners.is_empty()
            && others.avoided.is_empty()
            && others.avoids_it.is_empty();
        Self { occupancy, candidate, others: (!idle).then(|| Box::new(others)) }
    }

    /// Whether other pods' places matter to this one, beyond the room that they take.
    #[must_use]
    pub fn minds_others(&self) -> bool {
        self.others.is_some()
    }

    /// Whether the namespace's quotas let the pod in, wherever it goes.
    ///
    /// # Errors
    /// The first quota that does not.
    pub fn quota(&self) -> Result<(), Misfit> {
        self.occupancy.quota_allows(&self.candidate)
    }

    /// Whether the pod could run on this node, quotas aside.
    ///
    /// # Errors
    /// The first reason why it could not, in the scheduler's order.
    pub fn fits(&self, node: &NodeName, moment: Moment) -> Result<(), Misfit> {
        let on = self.occupancy.on(node).ok_or(Misfit::NoSuchNode)?;
        self.fits_on(on, moment)
    }

    /// Like [`Self::fits`], for who has the node's use at hand.
    ///
    /// # Errors
    /// The first reason why it could not, in the scheduler's order.
    pub fn fits_on(&self, on: &NodeUse<'_>, moment: Moment) -> Result<(), Misfit> {
        let (pod, node) = (self.candidate.scheduling, on.node());
        if self.candidate.leaves == Some(&node.name) {
            return Err(Misfit::SourceNode);
        }
        if self.candidate.leaves.is_some() && self.candidate.vm.is_some() {
            self.occupancy.can_be_named(node)?;
        }
        filters::taints(pod, node, moment)?;
        filters::node_affinity(pod, node, moment)?;
        cpu::same(pod, node)?;
        filters::ports(pod, on)?;
        filters::resources(pod, on)?;
        filters::attach_limits(pod, on)?;
        filters::volumes(pod, node)?;
        match &self.others {
            Some(others) => others.judge(node),
            None => Ok(()),
        }
    }
}

impl<'a> Others<'a> {
    fn find_avoided(&mut self, occupancy: &Occupancy<'a>, terms: &'a [PodAffinityTerm]) {
        for term in terms {
            self.avoided_keys.insert(&term.topology_key);
            for there in matching(occupancy, term) {
                if !selects(term, there.namespace, there.labels) {
                    continue;
                }
                if let Some(value) = occupancy.use_of(there.node).node().labels.get(&term.topology_key) {
                    self.avoided.insert((&term.topology_key, value));
                }
            }
        }
    }

    fn find_partners(&mut self, occupancy: &Occupancy<'a>, candidate: &Candidate<'a>) {
        let terms = candidate.scheduling.affinity.as_slice();
        let Some(first) = terms.first() else { return };
        let meets_all = |namespace, labels| terms.iter().all(|term| selects(term, namespace, labels));
        let mut places = vec![BTreeSet::new(); terms.len()];
        let pods = matching(occupancy, first);
        for there in pods.into_iter().filter(|there| meets_all(there.namespace, there.labels)) {
            let labels = &occupancy.use_of(there.node).node().labels;
            for (term, places) in terms.iter().zip(&mut places) {
                if let Some(value) = labels.get(&term.topology_key) {
                    places.insert(value.as_str());
                }
            }
        }
        self.first_of_group = places.iter().all(BTreeSet::is_empty) && meets_all(candidate.namespace, candidate.labels);
        self.partners = terms.iter().zip(places).collect();
    }

    fn find_spread(&mut self, occupancy: &Occupancy<'a>, candidate: &Candidate<'a>) {
        let pod = candidate.scheduling;
        if pod.spread.is_empty() {
            return;
        }
        let has_all_keys =
            |node: &Node| pod.spread.iter().all(|constraint| node.labels.contains_key(&constraint.topology_key));
        // Defaults: nodeAffinityPolicy Honor, nodeTaintsPolicy Ignore.
        let eligible = |node: &Node| has_all_keys(node) && filters::node_affinity(pod, node, Moment::Now).is_ok();
        let eligible: Vec<&'a Node> = occupancy.nodes().map(NodeUse::node).filter(|node| eligible(node)).collect();
        let eligible_names: BTreeSet<&NodeName> = eligible.iter().map(|node| &node.name).collect();
        for constraint in &pod.spread {
            let key = &constraint.topology_key;
            let mut counts: BTreeMap<&'a str, u64> =
                eligible.iter().filter_map(|node| node.labels.get(key)).map(|value| (value.as_str(), 0)).collect();
            for there in occupancy.matching(&constraint.selector, Some(candidate.namespace)) {
                let node = occupancy.use_of(there.node).node();
                let counted =
                    !there.terminating && there.namespace == candidate.namespace && eligible_names.contains(&node.name);
                if let Some(count) = node.labels.get(key).and_then(|value| counts.get_mut(value.as_str()))
                    && counted
                {
                    *count += 1;
                }
            }
            let enough_places = constraint
                .min_domains
                .is_none_or(|wanted| counts.len() >= usize::try_from(wanted).unwrap_or(usize::MAX));
            let least = if enough_places { counts.values().min().copied().unwrap_or(0) } else { 0 };
            let counts_itself = constraint.selector.matches(candidate.labels);
            self.spread.push(Spread { constraint, counts, least, counts_itself });
        }
    }

    fn judge(&self, node: &Node) -> Result<(), Misfit> {
        self.judge_spread(node)?;
        self.judge_affinity(node)?;
        let place = |keys: &BTreeSet<&'a str>, places: &BTreeSet<Place<'a>>| {
            keys.iter().find_map(|&key| {
                let value = node.labels.get(key)?;
                places.contains(&(key, value.as_str())).then(|| (key.to_owned(), value.clone()))
            })
        };
        if let Some((topology_key, value)) = place(&self.avoided_keys, &self.avoided) {
            return Err(Misfit::AntiAffinity { topology_key, value });
        }
        match place(&self.avoids_it_keys, &self.avoids_it) {
            Some((topology_key, value)) => Err(Misfit::OthersAntiAffinity { topology_key, value }),
            None => Ok(()),
        }
    }

    fn judge_spread(&self, node: &Node) -> Result<(), Misfit> {
        for Spread { constraint, counts, least, counts_itself } in &self.spread {
            let topology_key = &constraint.topology_key;
            let Some(value) = node.labels.get(topology_key) else {
                return Err(Misfit::SpreadKeyMissing { topology_key: topology_key.clone() });
            };
            let there = counts.get(value.as_str()).copied().unwrap_or(0);
            let skew = (there + u64::from(*counts_itself)).saturating_sub(*least);
            if skew > u64::from(constraint.max_skew) {
                let (topology_key, value) = (topology_key.clone(), value.clone());
                return Err(Misfit::Spread { topology_key, value, skew, max_skew: constraint.max_skew });
            }
        }
        Ok(())
    }

    fn judge_affinity(&self, node: &Node) -> Result<(), Misfit> {
        for (term, places) in &self.partners {
            let near = match node.labels.get(&term.topology_key) {
                Some(value) => self.first_of_group || places.contains(value.as_str()),
                None => false,
            };
            if !near {
                return Err(Misfit::Affinity { topology_key: term.topology_key.clone() });
            }
        }
        Ok(())
    }
}
