//! From series to what nodes and VMs use: how often they were scraped, and what is believed.

use super::{
    PrometheusProblem,
    answer::{Series, differing, names},
    query::{Query, Unit},
};
use crate::observe::load::{
    inventory::Inventory,
    judge::{self, Figures, Refusal, TOLERANCE},
    meters::WattsQuestion,
    store::{Reading, Source, Subject},
};
use miyako_core::model::{Bytes, Cores, NodeName, Span, Timestamp, Watts};
use std::collections::{BTreeMap, BTreeSet};

/// What a metric tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// Nodes.
    Nodes,
    /// VMs.
    Vms,
}

impl About {
    /// Its name in metrics and logs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Vms => "vms",
        }
    }

    /// Who exposes its metrics.
    pub(super) const fn target(self) -> &'static str {
        match self {
            Self::Nodes => "the kubelets' cAdvisor",
            Self::Vms => "virt-handler",
        }
    }
}

/// What was learnt from one metric.
#[derive(Debug, Default)]
pub(super) struct Learnt<T> {
    /// By node or VM.
    pub(super) of: BTreeMap<Subject, T>,
    /// What is wrong.
    pub(super) problems: Vec<PrometheusProblem>,
}

/// The scrape interval: the median gap between samples, in whole seconds and at least one.
pub(super) fn scrape_interval<'a>(series: impl Iterator<Item = &'a Series>) -> Option<Span> {
    let mut gaps: Vec<Span> = series
        .flat_map(|series| series.samples.windows(2))
        .filter_map(|pair| Some(pair.get(1)?.0.since(pair.first()?.0)))
        .collect();
    let middle = gaps.len() / 2;
    let (_, median, _) = (!gaps.is_empty()).then(|| gaps.select_nth_unstable(middle))?;
    Some(Span::from_secs((*median + Span::from_millis(500)).as_secs().max(1)))
}

/// What each subject used between scrapes, from a counter of CPU seconds.
pub(super) fn cpu_readings(
    learnt: &Learnt<Series>,
    memory: &BTreeMap<Subject, Bytes>,
    query: &Query,
    interval: Span,
    inventory: &Inventory,
    arrived: Timestamp,
) -> (Vec<Reading>, Vec<PrometheusProblem>) {
    let mut readings = Vec::new();
    let mut refused = None;
    let mut newest = None;
    for (subject, series) in &learnt.of {
        let capacity = capacity(subject, inventory);
        // Not even an idle node uses no CPU at all: its exporter is gone, and an expression repeats what it said last.
        let by_steps = query.unit() == Unit::CpuSeconds && !query.is_as_scraped();
        if by_steps && matches!(subject, Subject::Node(_)) && stands_still(series) {
            refused.get_or_insert(Refusal::StandsStill);
            continue;
        }
        for pair in series.samples.windows(2) {
            let [(before, counted_before), (at, counted)] = *pair else { continue };
            newest = newest.max(Some(at));
            let cpu = match query.unit() {
                Unit::CpuSeconds => used(counted_before, counted, at.since(before), capacity),
                Unit::Cores => judge::cpu("the CPU in use", counted, capacity),
            };
            match cpu.and_then(|cpu| not_ahead(at, arrived).map(|()| cpu)) {
                Ok(cpu) => readings.push(Reading {
                    of: subject.clone(),
                    at,
                    arrived,
                    covers: Some(at.since(before)),
                    figures: Figures { cpu, memory: memory.get(subject).copied(), ..Figures::default() },
                    source: Source::Prometheus { interval },
                }),
                Err(refusal) => {
                    refused.get_or_insert(refusal);
                }
            }
        }
    }
    let mut problems = Vec::new();
    let source = Source::Prometheus { interval };
    if let Some(age) = newest.map(|newest| arrived.since(newest)).filter(|age| *age > source.stale_after()) {
        problems.push(PrometheusProblem::Stale { query: query.to_string(), age });
    }
    problems.extend(refused.map(|refusal| PrometheusProblem::Unbelievable { query: query.to_string(), refusal }));
    (readings, problems)
}

/// A counter that says the same at each of several steps.
fn stands_still(series: &Series) -> bool {
    const SCRAPES: usize = 4;
    let [first, rest @ ..] = series.samples.as_slice() else { return false };
    rest.len() + 1 >= SCRAPES && rest.iter().all(|(_, value)| value.to_bits() == first.1.to_bits())
}

fn capacity(subject: &Subject, inventory: &Inventory) -> Option<Cores> {
    let node = match subject {
        Subject::Node(node) => node,
        Subject::Vm(vm) => inventory.vms.get(vm)?.node.as_ref()?,
    };
    inventory.nodes.get(node).copied()
}

/// CPU in use between two values of a counter. A counter that fell began anew in between (Prometheus' own rule).
fn used(before: f64, now: f64, between: Span, capacity: Option<Cores>) -> Result<Cores, Refusal> {
    let field = "the CPU counter's increase";
    if !before.is_finite() {
        return Err(Refusal::NotFinite { field });
    }
    let grown = if now < before { now } else { now - before };
    judge::cpu(field, grown / between.as_secs_f64().max(1e-3), capacity)
}

/// The watts that an answer gives to each node, and the first thing that is wrong with it. A node with two series has none:
/// nobody knows which is meant.
pub(super) fn watts(
    series: &[Series],
    question: &WattsQuestion,
    inventory: &Inventory,
) -> (Vec<(NodeName, Watts)>, Option<PrometheusProblem>) {
    let mut found: BTreeMap<NodeName, Watts> = BTreeMap::new();
    let mut of: BTreeMap<NodeName, &Series> = BTreeMap::new();
    let mut ambiguous = BTreeSet::new();
    let mut problem = None;
    let query = || question.query.clone();
    for one in series {
        let Some(node) = one.labels.get(&question.node_label) else {
            problem.get_or_insert_with(|| PrometheusProblem::MissingLabel {
                query: query(),
                label: question.node_label.clone(),
                has: names(&one.labels),
                means: "Node",
                flag: "power.meter.prometheus.nodeLabel of the NodePowerClass",
            });
            continue;
        };
        let node = NodeName::new(node);
        let Some((_, value)) = one.samples.last().filter(|_| inventory.nodes.contains_key(&node)) else { continue };
        if let Some(other) = of.insert(node.clone(), one) {
            found.remove(&node);
            ambiguous.insert(node.clone());
            problem.get_or_insert_with(|| PrometheusProblem::Ambiguous {
                query: query(),
                of: format!("node {node}"),
                series: differing(&other.labels, &one.labels),
                others: 0,
                advice: "write one with one series for each node, such as sum by (node) (…) (power.meter.prometheus.query)",
            });
        }
        if ambiguous.contains(&node) {
            continue;
        }
        match judge::watts("the watts of a node", *value) {
            Ok(watts) => {
                found.insert(node, watts);
            }
            Err(refusal) => {
                problem.get_or_insert_with(|| PrometheusProblem::Unbelievable { query: query(), refusal });
            }
        }
    }
    if found.is_empty() && ambiguous.is_empty() && problem.is_none() && !inventory.nodes.is_empty() {
        problem = Some(PrometheusProblem::NoSeries { query: query(), target: "whatever measures the nodes' power" });
    }
    (found.into_iter().collect(), problem)
}

fn not_ahead(at: Timestamp, arrived: Timestamp) -> Result<(), Refusal> {
    let ahead = at.since(arrived);
    if ahead <= TOLERANCE {
        return Ok(());
    }
    Err(Refusal::FromTheFuture { by_millis: u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX) })
}

/// Memory in use of each subject. What can't be true is left out: nothing is decided by it.
pub(super) fn memory(learnt: Learnt<Series>) -> BTreeMap<Subject, Bytes> {
    const MOST: f64 = (1_u64 << 50) as f64;
    learnt
        .of
        .into_iter()
        .filter_map(|(subject, series)| {
            let (_, bytes) = *series.samples.last()?;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within the bounds just checked
            (0.0..=MOST).contains(&bytes).then_some((subject, Bytes(bytes as u64)))
        })
        .collect()
}
