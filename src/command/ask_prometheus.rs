//! `miyako prometheus`: asks a Prometheus server once, as the operator would, and says what was asked and what came.

use super::cluster::{ClusterArgs, ClusterError};
use super::explain::{ExplainError, observed};
use super::output::{self, Output};
use super::prometheus::PrometheusArgs;
use crate::clock::{Clock, SystemClock};
use crate::observe::load::prometheus::{Asked, ConnectError, PrometheusProblem, PrometheusReport};
use crate::observe::load::{Inventory, SharedLoadStore};
use clap::Args;
use serde::Serialize;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Flags of `miyako prometheus`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  miyako prometheus --prometheus-url http://localhost:9090")]
pub struct AskPrometheusArgs {
    /// The server, and what it is asked: the operator's own flags.
    #[command(flatten)]
    pub prometheus: PrometheusArgs,
    /// How many seconds the cluster may take to be read.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Why nothing could be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskPrometheusError {
    /// No way to the cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Its nodes and VMs could not be read.
    #[error(transparent)]
    Unread(#[from] ExplainError),
    /// The flags name no server that can be asked.
    #[error("cannot ask the Prometheus server (--prometheus-url)")]
    Connect(#[from] ConnectError),
    /// No server is named.
    #[error("name the server: --prometheus-url http://HOST:9090")]
    NoServer,
    /// The answer could not be printed.
    #[error("cannot print what came")]
    Print(#[from] io::Error),
}

/// What came of one round of questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Round {
    /// Nodes and VMs that the API server knows.
    pub nodes: usize,
    /// See `nodes`.
    pub vms: usize,
    /// What was asked about CPU, and what came.
    pub asked: Vec<Question>,
    /// How often the server scrapes, in seconds, if its answers tell.
    pub scrape_interval_seconds: Option<u64>,
    /// Nodes and VMs whose load would be believed.
    pub measured: usize,
    /// What is wrong, with its reason as conditions name it; the worst first.
    pub problems: Vec<Problem>,
}

/// One question, and what came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    /// `nodes` or `vms`.
    pub about: &'static str,
    /// As it was put.
    pub query: String,
    /// Series in the answer.
    pub series: usize,
    /// Nodes or VMs that they told of without contradiction.
    pub known: usize,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its name.
    pub reason: &'static str,
    /// The same in a sentence, with the cure.
    pub message: String,
}

impl Round {
    fn of(report: PrometheusReport, inventory: &Inventory) -> Self {
        let question = |Asked { about, query, series, known }| Question { about, query, series, known };
        let problem = |one: &PrometheusProblem| Problem { reason: one.reason(), message: one.to_string() };
        Self {
            nodes: inventory.nodes.len(),
            vms: inventory.vms.len(),
            problems: report.problems.iter().map(problem).collect(),
            asked: report.asked.into_iter().map(question).collect(),
            scrape_interval_seconds: report.scrape_interval.map(|interval| interval.as_secs()),
            measured: report.measured,
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "The cluster has {} nodes and {} VMs.", self.nodes, self.vms)?;
        for Question { about, query, series, known } in &self.asked {
            writeln!(f, "asked about {about}: {query}\n  {series} series, which tell of {known} {about}")?;
        }
        match self.scrape_interval_seconds {
            Some(seconds) => writeln!(f, "It scrapes every {seconds} s.")?,
            None => writeln!(f, "How often it scrapes is not known (--prometheus-scrape-interval).")?,
        }
        writeln!(f, "The load of {} of them would be believed.", self.measured)?;
        for Problem { reason, message } in &self.problems {
            writeln!(f, "{reason}: {message}")?;
        }
        Ok(())
    }
}

/// Runs the command. Whether nothing is wrong.
///
/// # Errors
/// See [`AskPrometheusError`].
pub async fn run(args: &AskPrometheusArgs, out: &mut dyn io::Write) -> Result<bool, AskPrometheusError> {
    let (store, clock): (_, Arc<dyn Clock>) = (SharedLoadStore::default(), Arc::new(SystemClock));
    let poller = args.prometheus.poller(store.clone(), clock.clone())?.ok_or(AskPrometheusError::NoServer)?;
    let client = args.cluster.client_for_ours().await?;
    let patience = Duration::from_secs(args.timeout);
    let mut observer = observed(&client, &args.cluster.namespace, clock.clone(), patience).await?;
    let inventory = Inventory::of(observer.snapshot().0);
    store.lock().set_inventory(inventory.clone(), clock.now());
    let round = Round::of(poller.once().await, &inventory);
    output::print(&round, args.output, out)?;
    Ok(round.problems.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_core::model::Span;

    #[test]
    fn what_was_asked_what_came_and_what_is_wrong_are_told() {
        let asked = Asked { about: "nodes", query: "node_cpu_seconds_total[75s]".into(), series: 9, known: 0 };
        let report = PrometheusReport {
            scrape_interval: Some(Span::from_secs(15)),
            asked: vec![asked],
            problems: vec![PrometheusProblem::NoNodeSeries],
            measured: 2,
        };
        let round = Round::of(report, &Inventory::default());
        let told = round.to_string();
        for part in ["node_cpu_seconds_total[75s]", "9 series, which tell of 0 nodes", "15 s", "PrometheusNoSeries"] {
            assert!(told.contains(part), "{told:?} does not say {part:?}");
        }
        let json = serde_json::to_value(&round).unwrap();
        assert_eq!((&json["asked"][0]["series"], &json["scrapeIntervalSeconds"]), (&9.into(), &15.into()));
    }
}
