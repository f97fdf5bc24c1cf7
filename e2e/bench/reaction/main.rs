//! How fast the operator reacts at scale, and what it costs: `cargo bench -p miyako-e2e --bench reaction [-- --help]`.
//!
//! ```text
//!  this process: API server in memory (HTTP), KubeVirt's stand-in, an agent's stream per node (TLS)
//!       ▲ requests │ samples, 1 Hz
//!       │          ▼
//!  the operator: a process of its own, as in a cluster
//! ```
//!
//! Again and again one shared node is overloaded. A shadow history of the same samples tells when its window is full;
//! admission tells when the VirtualMachineInstanceMigration arrives. What lies between is the operator's: at most one
//! tick of waiting, the decision, and three writes. The operator's CPU time comes from the kernel's account of its
//! process, once while all is calm and once while it acts.

#![allow(clippy::disallowed_methods)] // a benchmark reads the clock

mod agents;
mod cluster;
mod notices;
mod overloads;
mod process;
mod summary;

use agents::Agents;
use anyhow::Context as _;
use clap::Parser;
use cluster::{Cluster, NAMESPACE};
use miyako_e2e::child::Program;
use miyako_e2e::control_plane::servers::free_ports;
use miyako_e2e::wait::{Look, until};
use overloads::Overloads;
use process::Usage;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use summary::Summary;

/// Measures the operator at scale.
#[derive(Debug, Parser)]
struct Args {
    /// Nodes: nine of ten are shared. There are twenty VMs for each.
    #[arg(long, default_value_t = 1_000)]
    nodes: usize,
    /// Overloads to measure; none measures memory and calm alone.
    #[arg(long, default_value_t = 120)]
    overloads: usize,
    /// Seconds of calm over which the operator's CPU time is measured.
    #[arg(long, default_value_t = 30)]
    calm: u64,
    /// The operator's program; the one built with this benchmark unless given.
    #[arg(long)]
    operator: Option<PathBuf>,
    /// cargo passes this; nothing follows from it.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let begun = Instant::now();
    let cluster = Cluster::build(args.nodes).await?;
    println!("{} nodes, {} VMs; built in {:.0} s", cluster.nodes(), cluster.vms(), begun.elapsed().as_secs_f64());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let kubeconfig = cluster::kubeconfig(folder.path(), &format!("http://{}", listener.local_addr()?))?;
    let server = cluster.world.server.clone();
    tokio::spawn(async move { server.serve(listener).await });

    let [wire, http] = free_ports()?;
    let begun = Instant::now();
    let binary = args.operator.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_miyako-under-test").into());
    let operator = Program::new("operator", binary)
        .arg("operator")
        .flag("namespace", NAMESPACE)
        .flag("identity", "replica-0")
        .flag("wire-listen", format!("127.0.0.1:{wire}"))
        .flag("http-listen", format!("127.0.0.1:{http}"))
        .env("KUBECONFIG", kubeconfig)
        .env("RUST_LOG", "warn")
        .start(folder.path())?;
    let mut agents = Agents::begin(&cluster, folder.path(), wire).await?;
    until_ready(http).await.with_context(|| operator.tail(20))?;
    println!("the operator saw everything after {:.0} s", begun.elapsed().as_secs_f64());
    // Windows fill, and what the planner wishes of its own accord is done.
    agents.speak_for(Duration::from_secs(20)).await?;

    let before = Usage::of(operator.pid())?;
    let asked = cluster.requests_of_operator();
    agents.speak_for(Duration::from_secs(args.calm)).await?;
    let calm = Usage::of(operator.pid())?.since(&before, Duration::from_secs(args.calm));
    let calm_requests = cluster.requests_of_operator() - asked;

    let before = Usage::of(operator.pid())?;
    let (asked, begun) = (cluster.requests_of_operator(), Instant::now());
    let reactions = Overloads::new(&cluster).run(&mut agents, args.overloads).await?;
    let busy = Usage::of(operator.pid())?.since(&before, begun.elapsed());
    let busy_requests = cluster.requests_of_operator() - asked;

    let peak = Usage::of(operator.pid())?.peak_memory;
    let summary = Summary { calm, calm_requests, busy, busy_requests, peak, reactions };
    summary.print();
    let problems = operator.output()?;
    if !problems.trim().is_empty() {
        println!("the operator said:\n{}", operator.tail(10));
    }
    Ok(())
}

/// Waits until the operator's picture of the cluster is complete.
async fn until_ready(port: u16) -> anyhow::Result<()> {
    until("the operator is ready", Duration::from_mins(5), || async {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await?;
        Ok(Look::holds(answer.status().is_success(), answer.text().await?))
    })
    .await
}
