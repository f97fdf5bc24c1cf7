//! Load from a Prometheus server, where no agent reports.
//!
//! Four instant queries per round: CPU and memory of the VMs (virt-handler) and of the nodes. Of nodes the kubelet's
//! cAdvisor tells, and where its series of the whole node is dropped, as kube-prometheus-stack does by default,
//! node-exporter. CPU is asked for as the raw samples of the last few scrapes (a range selector), not as a `rate()`: so every
//! figure carries the moment it was scraped at, and an old one can't pass for a fresh one, whatever Prometheus'
//! look-back. The scrape interval shows in those samples too; no other API is needed, so Thanos, Mimir and
//! VictoriaMetrics answer as well. A query that is more than a selector is asked for step by step ([`Query::over`]).
//!
//! **Nothing ambiguous is resolved without a word.** Two series for one node are an error that names both, and a node whose
//! VMs use more than it does is not known: neither counts.
//!
//! [`answer`] reads what came, [`attribute`] says whose it is, [`doubt`] checks sums against their parts, [`figures`]
//! decides what is believed (all plain functions), [`poll`] asks.

mod answer;
mod attribute;
mod doubt;
mod figures;
mod per_cpu;
mod poll;
mod query;

use super::judge::Refusal;
use miyako_core::model::{NodeName, Span};
use std::path::PathBuf;

pub use poll::{ConnectError, Poller, connect};
pub use query::{Query, QueryError, Unit};

/// What a Prometheus server is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Questions {
    /// CPU per node; cAdvisor's counter or node-exporter's where it is not given.
    pub node_cpu: Option<Query>,
    /// A gauge of memory in use per node, as a selector.
    pub node_memory: String,
    /// CPU per VM.
    pub vm_cpu: Query,
    /// A gauge of memory in use per VM, as a selector.
    pub vm_memory: String,
    /// The label that carries the Node's name.
    pub node_label: String,
    /// The label that carries the VirtualMachineInstance's namespace.
    pub namespace_label: String,
    /// The label that carries the VirtualMachineInstance's name.
    pub name_label: String,
    /// How often the server scrapes; found out from its answers if not given.
    pub scrape_interval: Option<Span>,
}

impl Default for Questions {
    /// What the Prometheus operator's own rules for kubelets and KubeVirt yield.
    fn default() -> Self {
        Self {
            node_cpu: None,
            node_memory: "container_memory_working_set_bytes{id=\"/\"}".to_owned(),
            vm_cpu: Query::metric("kubevirt_vmi_cpu_usage_seconds_total"),
            vm_memory: "kubevirt_vmi_memory_resident_bytes".to_owned(),
            node_label: "node".to_owned(),
            namespace_label: "namespace".to_owned(),
            name_label: "name".to_owned(),
            scrape_interval: None,
        }
    }
}

/// CPU seconds of whole nodes, by the kubelets' cAdvisor.
pub(super) const CADVISOR: &str = "container_cpu_usage_seconds_total{id=\"/\"}";

/// How to reach a Prometheus server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// Its URL, up to before `/api/v1/query`.
    pub url: String,
    /// A CA to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A bearer token to show.
    pub token_file: Option<PathBuf>,
}

/// Why there is no load from Prometheus, or not all of it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PrometheusProblem {
    /// No connection.
    #[error("the Prometheus server can't be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("the Prometheus server did not answer within {} s", .0.as_secs())]
    TooSlow(Span),
    /// An answer with an error.
    #[error("the Prometheus server answered with HTTP status {0}")]
    HttpStatus(u16),
    /// An answer that is none of Prometheus' API.
    #[error("what answers is no Prometheus API (is the URL right, and is there no login in between?): {0}")]
    NotPrometheus(String),
    /// More than we are ready to read.
    #[error("the Prometheus server's answer is larger than {0} MiB")]
    TooLarge(usize),
    /// More series, samples or labels than we are ready to read.
    #[error(
        "the answer to {query} holds more than {most} {what}: ask for one series per node or VM, such as sum by (node) (…)"
    )]
    TooMany {
        /// Which query.
        query: String,
        /// What there is too much of.
        what: &'static str,
        /// How many would have been read.
        most: usize,
    },
    /// Two series for one node or VM.
    #[error("{query} has two series of {of}, {series}{}, so its load is not known: {advice}", and_others(*.others))]
    Ambiguous {
        /// What was asked for.
        query: String,
        /// Whose.
        of: String,
        /// What tells the two apart.
        series: String,
        /// So many nodes or VMs more have several.
        others: usize,
        /// What to do about it.
        advice: &'static str,
    },
    /// The parts are more than their sum.
    #[error(
        "{node_query} says that node {node} uses {used:.1} cores, and {vm_query} that its VMs use {vms:.1}{}: its load is not known until they agree",
        and_others(*.others)
    )]
    Contradiction {
        /// What was asked for about nodes.
        node_query: String,
        /// What was asked for about VMs.
        vm_query: String,
        /// The first node.
        node: NodeName,
        /// Cores that it is said to use.
        used: f64,
        /// Cores that its VMs are said to use.
        vms: f64,
        /// So many nodes more.
        others: usize,
    },
    /// The server understood and refused.
    #[error("the Prometheus server refused the query {query}: {error}")]
    QueryRefused {
        /// Which query.
        query: String,
        /// What it said.
        error: String,
    },
    /// Nothing is known of this metric.
    #[error("the Prometheus server has no recent {query}; does it scrape {target}?")]
    NoSeries {
        /// What was asked for.
        query: String,
        /// Who exposes it.
        target: &'static str,
    },
    /// None of the usual metrics of nodes is there.
    #[error(
        "the Prometheus server has neither a recent {CADVISOR} nor node_cpu_seconds_total; does it scrape the kubelets' cAdvisor or node-exporter? kube-prometheus-stack drops the first (kubelet.serviceMonitor.cAdvisorMetricRelabelings) and has the second (nodeExporter.enabled); --prometheus-node-cpu names another"
    )]
    NoNodeSeries,
    /// The series have other labels.
    #[error("{query} has no label {label:?}, only {has}; say which one names the {means} ({flag})")]
    MissingLabel {
        /// What was asked for.
        query: String,
        /// The label that was expected.
        label: String,
        /// The labels that there are.
        has: String,
        /// What the label stands for.
        means: &'static str,
        /// The flag that names the label.
        flag: &'static str,
    },
    /// The labels' values name nothing that exists.
    #[error("{query} names no known {means}: {label}={example:?}; relabel it, or say which label does ({flag})")]
    NothingMatches {
        /// What was asked for.
        query: String,
        /// The label.
        label: String,
        /// One of its values.
        example: String,
        /// What it should name.
        means: &'static str,
        /// The flag that names the label.
        flag: &'static str,
    },
    /// Figures that can't be true.
    #[error("{query}: {refusal}")]
    Unbelievable {
        /// What was asked for.
        query: String,
        /// Why.
        refusal: Refusal,
    },
    /// The newest samples are old.
    #[error("the newest sample of {query} is {} s old: its target is not scraped any more, or the clocks differ", .age.as_secs())]
    Stale {
        /// What was asked for.
        query: String,
        /// How old.
        age: Span,
    },
}

fn and_others(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" (and {others} others)") }
}

impl PrometheusProblem {
    /// The name for conditions and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "PrometheusUnreachable",
            Self::TooSlow(_) => "PrometheusTooSlow",
            Self::HttpStatus(_) => "PrometheusHttpStatus",
            Self::NotPrometheus(_) => "NotPrometheus",
            Self::TooLarge(_) | Self::TooMany { .. } => "PrometheusAnswerTooLarge",
            Self::Ambiguous { .. } => "PrometheusAmbiguous",
            Self::Contradiction { .. } => "PrometheusContradiction",
            Self::QueryRefused { .. } => "PrometheusQueryRefused",
            Self::NoSeries { .. } | Self::NoNodeSeries => "PrometheusNoSeries",
            Self::MissingLabel { .. } => "PrometheusMissingLabel",
            Self::NothingMatches { .. } => "PrometheusNothingMatches",
            Self::Unbelievable { .. } => "PrometheusUnbelievable",
            Self::Stale { .. } => "PrometheusStale",
        }
    }
}

/// One question, and what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// About what: `nodes` or `vms`.
    pub about: &'static str,
    /// The query, as it was put.
    pub query: String,
    /// Series in the answer.
    pub series: usize,
    /// Nodes or VMs that they told of without contradiction.
    pub known: usize,
}

/// How it stands with Prometheus as a source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PrometheusReport {
    /// How often it scrapes, once known. Windows are at least four times as long.
    pub scrape_interval: Option<Span>,
    /// What was asked about CPU, and what came.
    pub asked: Vec<Asked>,
    /// What is wrong, the worst first; empty when all is well.
    pub problems: Vec<PrometheusProblem>,
    /// Nodes and VMs whose figures come from it.
    pub measured: usize,
}
