//! Load from a Prometheus server, where no agent reports.
//!
//! Four instant queries per round: CPU and memory of the nodes (kubelet's cAdvisor) and of the VMs (virt-handler).
//! CPU is asked for as the raw samples of the last few scrapes (a range selector), not as a `rate()`: so every
//! figure carries the moment it was scraped at, and an old one can't pass for a fresh one, whatever Prometheus'
//! look-back. The scrape interval shows in those samples too; no other API is needed, so Thanos, Mimir and
//! VictoriaMetrics answer as well.
//!
//! [`answer`] reads what came, [`figures`] decides what is believed (both plain functions), [`poll`] asks.

mod answer;
mod figures;
mod poll;

use super::judge::Refusal;
use miyako_core::model::Span;
use std::path::PathBuf;

pub use poll::{ConnectError, Poller, connect};

/// What a Prometheus server is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Questions {
    /// A counter of CPU seconds per node, as a selector.
    pub node_cpu: String,
    /// A gauge of memory in use per node, as a selector.
    pub node_memory: String,
    /// A counter of CPU seconds per VM, as a selector.
    pub vm_cpu: String,
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
            node_cpu: "container_cpu_usage_seconds_total{id=\"/\"}".to_owned(),
            node_memory: "container_memory_working_set_bytes{id=\"/\"}".to_owned(),
            vm_cpu: "kubevirt_vmi_cpu_usage_seconds_total".to_owned(),
            vm_memory: "kubevirt_vmi_memory_resident_bytes".to_owned(),
            node_label: "node".to_owned(),
            namespace_label: "namespace".to_owned(),
            name_label: "name".to_owned(),
            scrape_interval: None,
        }
    }
}

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

impl PrometheusProblem {
    /// The name for conditions and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "PrometheusUnreachable",
            Self::TooSlow(_) => "PrometheusTooSlow",
            Self::HttpStatus(_) => "PrometheusHttpStatus",
            Self::NotPrometheus(_) => "NotPrometheus",
            Self::TooLarge(_) => "PrometheusAnswerTooLarge",
            Self::QueryRefused { .. } => "PrometheusQueryRefused",
            Self::NoSeries { .. } => "PrometheusNoSeries",
            Self::MissingLabel { .. } => "PrometheusMissingLabel",
            Self::NothingMatches { .. } => "PrometheusNothingMatches",
            Self::Unbelievable { .. } => "PrometheusUnbelievable",
            Self::Stale { .. } => "PrometheusStale",
        }
    }
}

/// How it stands with Prometheus as a source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PrometheusReport {
    /// How often it scrapes, once known. Windows are at least four times as long.
    pub scrape_interval: Option<Span>,
    /// What is wrong, the worst first; empty when all is well.
    pub problems: Vec<PrometheusProblem>,
    /// Nodes and VMs whose figures come from it.
    pub measured: usize,
}
