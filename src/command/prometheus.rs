//! The flags that say how to ask a Prometheus server for load.

use crate::clock::Clock;
use crate::observe::load::SharedLoadStore;
use crate::observe::load::prometheus::{ConnectError, Poller, Query, Questions, Server, connect};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Load from Prometheus, where no agent reports it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load from Prometheus")]
pub struct PrometheusArgs {
    /// A Prometheus server that scrapes virt-handler and the kubelets: the source of load where no agent reports.
    #[arg(long, value_name = "URL")]
    prometheus_url: Option<String>,
    /// The CA of its certificate, for https; the system's are trusted without it.
    #[arg(long, value_name = "FILE", requires = "prometheus_url")]
    prometheus_ca_file: Option<PathBuf>,
    /// A bearer token to show it, read again as it is renewed.
    #[arg(long, value_name = "FILE", requires = "prometheus_url")]
    prometheus_token_file: Option<PathBuf>,
    /// How often it scrapes, in seconds; found out from its answers without it.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    prometheus_scrape_interval: Option<u64>,
    /// CPU per node, one series for each: a selector of a counter of CPU seconds, or any query. One that holds rate()
    /// yields cores. Without it container_cpu_usage_seconds_total{id="/"} (cAdvisor), and where that is dropped the sum of
    /// node_cpu_seconds_total (node-exporter); series without the label of the node's name are told by the address in
    /// `instance`.
    #[arg(long, value_name = "QUERY", value_parser = Query::read)]
    prometheus_node_cpu: Option<Query>,
    /// The label of node and VM metrics that carries the Node's name.
    #[arg(long, value_name = "LABEL", default_value_t = Questions::default().node_label)]
    prometheus_node_label: String,
    /// The label of VM metrics that carries the VM's namespace (`exported_namespace` without `honorLabels`).
    #[arg(long, value_name = "LABEL", default_value_t = Questions::default().namespace_label)]
    prometheus_namespace_label: String,
    /// The label of VM metrics that carries the VM's name.
    #[arg(long, value_name = "LABEL", default_value_t = Questions::default().name_label)]
    prometheus_name_label: String,
}

impl PrometheusArgs {
    /// A poller for the server that the flags name; none where they name none.
    ///
    /// # Errors
    /// When the URL is none, or the CA can't be read.
    pub fn poller(&self, store: SharedLoadStore, clock: Arc<dyn Clock>) -> Result<Option<Poller>, ConnectError> {
        let Some(url) = self.prometheus_url.clone() else { return Ok(None) };
        let server =
            Server { url, ca_file: self.prometheus_ca_file.clone(), token_file: self.prometheus_token_file.clone() };
        let questions = Questions {
            node_cpu: self.prometheus_node_cpu.clone(),
            node_label: self.prometheus_node_label.clone(),
            namespace_label: self.prometheus_namespace_label.clone(),
            name_label: self.prometheus_name_label.clone(),
            scrape_interval: self.prometheus_scrape_interval.map(Duration::from_secs),
            ..Questions::default()
        };
        Ok(Some(Poller::new(connect(&server)?, questions, store, clock)))
    }
}
