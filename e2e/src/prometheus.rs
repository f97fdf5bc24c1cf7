//! A real Prometheus server (Debian's package `prometheus`; `e2e/tools/apt` installs it) and an exporter of ours, which it
//! scrapes as it would scrape kubelets and virt-handlers.

use crate::child::{Child, Program};
use crate::control_plane::servers::free_ports;
use crate::wait::{self, Look};
use anyhow::Context as _;
use axum::{Router, routing::get};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// What nodes and VMs use, as counters that grow by it.
#[derive(Debug, Clone)]
pub struct Counters(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    node_label: &'static str,
    counted: Instant,
    nodes: Vec<Series>,
    vms: Vec<Series>,
}

#[derive(Debug)]
struct Series {
    labels: String,
    cores: f64,
    seconds: f64,
}

impl Counters {
    /// Counters without any series; `node_label` carries the node's name.
    #[must_use]
    pub fn new(node_label: &'static str) -> Self {
        let state = State { node_label, counted: Instant::now(), nodes: Vec::new(), vms: Vec::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// From now on this node uses so many cores.
    pub fn node(&self, node: &str, cores: f64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.count();
        let labels = format!("{}=\"{node}\"", state.node_label);
        set(&mut state.nodes, labels, cores);
    }

    /// From now on this VM, on this node, uses so many cores.
    pub fn vm(&self, node: &str, namespace: &str, name: &str, cores: f64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.count();
        let labels = format!("{}=\"{node}\",namespace=\"{namespace}\",name=\"{name}\"", state.node_label);
        set(&mut state.vms, labels, cores);
    }

    /// Serves them at `/metrics` until the runtime ends.
    ///
    /// # Errors
    /// When no port is to be had.
    pub async fn serve(&self) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let counters = self.clone();
        let app = Router::new().route("/metrics", get(move || async move { counters.exposition() }));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(address)
    }

    /// What a kubelet and a virt-handler expose.
    fn exposition(&self) -> String {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.count();
        let mut text = String::from("# TYPE container_cpu_usage_seconds_total counter\n");
        for Series { labels, seconds, .. } in &state.nodes {
            let _ = writeln!(text, "container_cpu_usage_seconds_total{{id=\"/\",{labels}}} {seconds}");
            // Of the cgroups within the node's whole nothing is asked.
            let _ = writeln!(text, "container_cpu_usage_seconds_total{{id=\"/kubepods.slice\",{labels}}} 1e12");
        }
        text.push_str("# TYPE container_memory_working_set_bytes gauge\n");
        for Series { labels, .. } in &state.nodes {
            let _ = writeln!(text, "container_memory_working_set_bytes{{id=\"/\",{labels}}} 4e9");
        }
        text.push_str("# TYPE kubevirt_vmi_cpu_usage_seconds_total counter\n");
        for Series { labels, seconds, .. } in &state.vms {
            let _ = writeln!(text, "kubevirt_vmi_cpu_usage_seconds_total{{{labels}}} {seconds}");
        }
        text.push_str("# TYPE kubevirt_vmi_memory_resident_bytes gauge\n");
        for Series { labels, .. } in &state.vms {
            let _ = writeln!(text, "kubevirt_vmi_memory_resident_bytes{{{labels}}} 1e9");
        }
        text
    }
}

fn set(series: &mut Vec<Series>, labels: String, cores: f64) {
    match series.iter_mut().find(|one| one.labels == labels) {
        Some(one) => one.cores = cores,
        None => series.push(Series { labels, cores, seconds: 0.0 }),
    }
}

impl State {
    /// Counts what was used since it was counted last.
    fn count(&mut self) {
        let elapsed = self.counted.elapsed().as_secs_f64();
        self.counted = Instant::now();
        for series in self.nodes.iter_mut().chain(&mut self.vms) {
            series.seconds += series.cores * elapsed;
        }
    }
}

/// A Prometheus server that scrapes one target every second.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    url: String,
}

impl Prometheus {
    /// Starts it, with its data below `folder`.
    ///
    /// # Errors
    /// When it is not installed or does not get ready.
    pub async fn start(target: SocketAddr, folder: &Path) -> anyhow::Result<Self> {
        let config = folder.join("prometheus.yml");
        std::fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
                 scrape_configs:\n\
                 - {{job_name: cluster, honor_labels: true, static_configs: [{{targets: ['{target}']}}]}}\n"
            ),
        )?;
        let [port] = free_ports()?;
        let child = Program::new("prometheus", program()?)
            .flag("config.file", config)
            .flag("storage.tsdb.path", folder.join("prometheus-data"))
            .flag("web.listen-address", format!("127.0.0.1:{port}"))
            .start(folder)?;
        let prometheus = Self { child, url: format!("http://127.0.0.1:{port}") };
        wait::until("prometheus is ready", Duration::from_secs(30), async || {
            if let Some(status) = prometheus.child.ended()? {
                return Ok(Look::NotYet(format!("it ended with {status}:\n{}", prometheus.child.tail(20))));
            }
            let answer = reqwest::get(format!("{}/-/ready", prometheus.url)).await?;
            Ok(Look::holds(answer.status().is_success(), answer.status().to_string()))
        })
        .await?;
        Ok(prometheus)
    }

    /// Where it is asked.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process, to be paused or killed.
    #[must_use]
    pub fn process(&self) -> &Child {
        &self.child
    }
}

fn program() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("prometheus")).find(|file| file.is_file());
    found.context("there is no program `prometheus`: run e2e/tools/apt, which installs Debian's")
}
