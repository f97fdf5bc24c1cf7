//! From series to what nodes and VMs use: whose they are, how often they were scraped, and what is believed.

use super::{
    PrometheusProblem, Questions,
    answer::{Labels, Series},
};
use crate::observe::load::{
    inventory::Inventory,
    judge::{self, Figures, Refusal, TOLERANCE},
    meters::WattsQuestion,
    store::{Reading, Source, Subject},
};
use miyako_core::model::{Bytes, Cores, NodeName, Span, Timestamp, VmKey, Watts};
use std::collections::BTreeMap;

/// What a metric tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// Nodes.
    Nodes,
    /// VMs.
    Vms,
}

impl About {
    /// Who exposes its metrics.
    pub(super) const fn target(self) -> &'static str {
        match self {
            Self::Nodes => "the kubelets' cAdvisor",
            Self::Vms => "virt-handler",
        }
    }
}

/// A label, what it stands for and the flag that changes it.
struct Expected<'a> {
    label: &'a str,
    means: &'static str,
    flag: &'static str,
}

const NODE_FLAG: &str = "--prometheus-node-label";
const NAMESPACE_FLAG: &str = "--prometheus-namespace-label";
const NAME_FLAG: &str = "--prometheus-name-label";

/// What was learnt from one metric.
#[derive(Debug, Default)]
pub(super) struct Learnt<T> {
    /// By node or VM.
    pub(super) of: BTreeMap<Subject, T>,
    /// What is wrong.
    pub(super) problems: Vec<PrometheusProblem>,
}

/// Whose each series is. A VM's series counts only on the node where the VM runs; of two series for one subject
/// (two servers that scrape the same, a pod that was replaced) the one with the newest sample counts.
pub(super) fn attribute(
    series: Vec<Series>,
    query: &str,
    about: About,
    questions: &Questions,
    inventory: &Inventory,
) -> Learnt<Series> {
    let mut learnt = Learnt { of: BTreeMap::<Subject, Series>::new(), problems: Vec::new() };
    let mut missing = None;
    let mut unmatched = None;
    let expect_some = match about {
        About::Nodes => !inventory.nodes.is_empty(),
        About::Vms => inventory.vms.values().any(|place| place.node.is_some()),
    };
    if series.is_empty() && expect_some {
        let problem = PrometheusProblem::NoSeries { query: query.to_owned(), target: about.target() };
        learnt.problems.push(problem);
    }
    for one in series {
        match subject(&one.labels, about, questions, inventory) {
            Ok(Some(subject)) => {
                let newest = |series: &Series| series.samples.last().map(|(at, _)| *at);
                if learnt.of.get(&subject).is_none_or(|other| newest(other) < newest(&one)) {
                    learnt.of.insert(subject, one);
                }
            }
            Ok(None) => {}
            Err(Mismatch::Missing(expected)) => {
                missing.get_or_insert_with(|| PrometheusProblem::MissingLabel {
                    query: query.to_owned(),
                    label: expected.label.to_owned(),
                    has: names(&one.labels),
                    means: expected.means,
                    flag: expected.flag,
                });
            }
            Err(Mismatch::Unknown(expected, value)) => {
                unmatched.get_or_insert_with(|| PrometheusProblem::NothingMatches {
                    query: query.to_owned(),
                    label: expected.label.to_owned(),
                    example: value.chars().take(253).collect(),
                    means: expected.means,
                    flag: expected.flag,
                });
            }
        }
    }
    learnt.problems.extend(missing);
    // A few strangers are ordinary (what was deleted lingers in Prometheus for minutes); nothing but strangers is not.
    if learnt.of.is_empty() && expect_some {
        learnt.problems.extend(unmatched);
    }
    learnt
}

enum Mismatch<'a> {
    Missing(Expected<'a>),
    Unknown(Expected<'a>, String),
}

/// The subject that labels name; none for a VM's leftovers on a node that it left.
fn subject<'a>(
    labels: &Labels,
    about: About,
    questions: &'a Questions,
    inventory: &Inventory,
) -> Result<Option<Subject>, Mismatch<'a>> {
    let value = |expected: Expected<'a>| match labels.get(expected.label) {
        Some(value) => Ok((expected, value)),
        None => Err(Mismatch::Missing(expected)),
    };
    let (expected, node) = value(Expected { label: &questions.node_label, means: "Node", flag: NODE_FLAG })?;
    let node = NodeName::new(node);
    if !inventory.nodes.contains_key(&node) {
        return Err(Mismatch::Unknown(expected, node.as_str().to_owned()));
    }
    if about == About::Nodes {
        return Ok(Some(Subject::Node(node)));
    }
    let namespace = Expected { label: &questions.namespace_label, means: "VM's namespace", flag: NAMESPACE_FLAG };
    let (_, namespace) = value(namespace)?;
    let (expected, name) = value(Expected { label: &questions.name_label, means: "VM", flag: NAME_FLAG })?;
    let key = VmKey::new(namespace, name);
    match inventory.vms.get(&key) {
        None => Err(Mismatch::Unknown(expected, name.clone())),
        Some(place) if place.node.as_ref() == Some(&node) => Ok(Some(Subject::Vm(key))),
        Some(_) => Ok(None),
    }
}

fn names(labels: &Labels) -> String {
    let mut names: Vec<_> = labels.keys().filter(|name| *name != "__name__").map(String::as_str).collect();
    names.truncate(20);
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
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
    query: &str,
    interval: Span,
    inventory: &Inventory,
    arrived: Timestamp,
) -> (Vec<Reading>, Vec<PrometheusProblem>) {
    let mut readings = Vec::new();
    let mut refused = None;
    let mut newest = None;
    for (subject, series) in &learnt.of {
        let capacity = capacity(subject, inventory);
        for pair in series.samples.windows(2) {
            let [(before, counted_before), (at, counted)] = *pair else { continue };
            newest = newest.max(Some(at));
            match used(counted_before, counted, at.since(before), capacity)
                .and_then(|cpu| not_ahead(at, arrived).map(|()| cpu))
            {
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
        problems.push(PrometheusProblem::Stale { query: query.to_owned(), age });
    }
    problems.extend(refused.map(|refusal| PrometheusProblem::Unbelievable { query: query.to_owned(), refusal }));
    (readings, problems)
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

/// The watts that an answer gives to each node, and the first thing that is wrong with it.
pub(super) fn watts(
    series: &[Series],
    question: &WattsQuestion,
    inventory: &Inventory,
) -> (Vec<(NodeName, Watts)>, Option<PrometheusProblem>) {
    let mut found: BTreeMap<NodeName, Watts> = BTreeMap::new();
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
        match judge::watts("the watts of a node", *value) {
            // Two series for one node: the larger is not made up, and no saving is.
            Ok(watts) => {
                let known = found.entry(node).or_insert(watts);
                *known = if watts > *known { watts } else { *known };
            }
            Err(refusal) => {
                problem.get_or_insert_with(|| PrometheusProblem::Unbelievable { query: query(), refusal });
            }
        }
    }
    if found.is_empty() && problem.is_none() && !inventory.nodes.is_empty() {
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
