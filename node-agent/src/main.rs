//! `miyako-agent`: flags and wiring.

mod command;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use futures::FutureExt as _;
use miyako_agent::{
    generator::{Carry, Generator, Scenario},
    load::{KernelReader, pods::Launchers, sample_for_ever},
    stream::{BootClock, Fleet, Replicas, SampleLog, TlsDialer, WallClock, newest_with_past},
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::sleep,
};

/// Miyako's node agent: tells the operator, once a second, what its node and the VMs on it use.
#[derive(Parser)]
#[command(name = "miyako-agent", version)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure this node and report to every replica of the operator.
    ///
    /// Reads CPU, memory, network and disks of the node from /proc, and of each VM from its launcher pod's control
    /// group and processes. Which pods are launchers the API server says; while it is away, those that are known go
    /// on.
    Run(Run),
    /// Print what this node and the VMs on it use.
    Load(command::load::Load),
    #[allow(clippy::doc_lazy_continuation, reason = "clap prints these lines as they are")]
    /// Speak for many nodes with the figures of a scenario: for test stands.
    ///
    /// The scenario (YAML or JSON) names nodes, each with the file of a token that is bound to it, and VMs with the
    /// CPU that they want from when on:
    ///
    ///   nodes:
    ///   - {name: node-1, tokenFile: /run/tokens/node-1, cores: 16}
    ///   vms:
    ///   - {namespace: default, name: web, uid: 1b4e…, node: node-1, cpu: [{cores: 0.2}, {at: 30, cores: 2}]}
    ///
    /// A node's `faults` let it misbehave for a while, as {from: 10, until: 20, fault: silent}: silent,
    /// wrongNode (claim), notANumber, negative, absurd, clockOff (seconds), heldBack (seconds), sameSequence,
    /// unknownVm. The scenario is read again whenever its file changes (replace it by a rename, so that no half of it
    /// is read); with `-` every line of the standard input is
    /// one scenario as JSON and replaces the one before.
    #[command(verbatim_doc_comment)]
    LoadGenerator(LoadGenerator),
    /// Try at the machine whether it can sleep.
    #[command(subcommand)]
    Power(command::power::PowerCommand),
    /// Try a machine's BMC or network card: how it is, wake it, what it draws.
    #[command(subcommand)]
    Wake(command::wake::WakeCommand),
    /// Wake nodes on the operator's orders through their BMCs or network cards.
    ///
    /// Runs as two replicas on nodes that never sleep, with a ServiceAccount of their own that may read the Secrets
    /// which NodePowerClasses name.
    Waker(command::waker::Waker),
}

#[derive(Args)]
struct Operator {
    /// Where the operator listens, as host:port. A headless Service's name stands for all replicas behind it and is
    /// looked up again every few seconds. Can be given several times.
    #[arg(
        long = "operator",
        env = "MIYAKO_OPERATOR",
        value_name = "HOST:PORT",
        required = true,
        value_delimiter = ','
    )]
    targets: Vec<String>,
    /// The CA certificates that the operator publishes (PEM). Nothing else is trusted.
    #[arg(long, env = "MIYAKO_CA_FILE", default_value = "/var/run/miyako/ca/ca.crt", value_name = "FILE")]
    ca_file: PathBuf,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    operator: Operator,
    /// The name of this Node, from the downward API (spec.nodeName).
    #[arg(long, env = "NODE_NAME")]
    node_name: String,
    /// The projected ServiceAccount token with the audience `miyako.dev`.
    #[arg(long, env = "MIYAKO_TOKEN_FILE", default_value = "/var/run/miyako/token/token", value_name = "FILE")]
    token_file: PathBuf,
    #[command(flatten)]
    sources: command::sources::SourceFlags,
    #[command(flatten)]
    power: command::power_flags::PowerFlags,
}

#[derive(Args)]
struct LoadGenerator {
    #[command(flatten)]
    operator: Operator,
    /// The scenario's file, or `-` for scenarios as lines of JSON on the standard input.
    #[arg(long, value_name = "FILE")]
    scenario: PathBuf,
    /// Makes back-offs repeatable.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

// One thread: what an agent does takes a thousandth of it, and each thread costs memory on every node.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    let work = match Flags::parse().command {
        Command::Run(flags) => run(flags).boxed(),
        Command::Load(flags) => command::load::load(flags).boxed(),
        Command::LoadGenerator(flags) => generate(flags).boxed(),
        Command::Power(command) => command::power::run(command).boxed(),
        Command::Wake(command) => command::wake::run(command).boxed(),
        Command::Waker(flags) => {
            let seed = seed_of(&flags.name);
            command::waker::run(flags, wall_clock(), seed).boxed()
        }
    };
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = work => ended,
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("could not listen for Ctrl-C"),
    }
}

async fn run(flags: Run) -> anyhow::Result<()> {
    let samples = SampleLog::new(boot_clock());
    let (newest, launchers) = (newest_with_past().timed_by(samples.clone()), Launchers::default());
    let seed = seed_of(&flags.node_name);
    let dialer = TlsDialer { ca_file: flags.operator.ca_file, token_file: flags.token_file };
    let fleet = Fleet::new(dialer, newest.clone(), wall_clock(), seed);
    let reader = KernelReader::new(flags.sources.sources(), launchers.clone());
    let kubeconfig = flags.sources.kubeconfig();
    let following = flags.sources.follow(&flags.node_name, launchers, seed);
    let power = flags.power.obey(flags.node_name.clone(), kubeconfig, (wall_clock(), samples), seed);
    tracing::info!(node = flags.node_name, "reporting what the node and its VMs use");
    let sampling = sample_for_ever(reader, flags.node_name, newest, wall_clock());
    let reporting = async {
        tokio::join!(fleet.follow(Replicas { targets: flags.operator.targets }), following, sampling);
        Ok(())
    };
    tokio::try_join!(reporting, power)?;
    Ok(())
}

async fn generate(flags: LoadGenerator) -> anyhow::Result<()> {
    let Operator { targets, ca_file } = flags.operator;
    let carry: Carry = Box::new(move |node, newest, clock, seed| {
        let dialer = TlsDialer { ca_file: ca_file.clone(), token_file: node.token_file.clone() };
        Fleet::new(dialer, newest, clock, seed).follow(Replicas { targets: targets.clone() }).boxed()
    });
    let mut generator = Generator::new(carry, wall_clock(), flags.seed);
    let (texts, mut scenarios) = mpsc::channel(1);
    if flags.scenario == Path::new("-") {
        std::thread::spawn(move || read_lines(&texts));
    } else {
        let text = tokio::fs::read_to_string(&flags.scenario).await;
        let text = text.with_context(|| format!("could not read {}", flags.scenario.display()))?;
        Scenario::parse(&text).with_context(|| flags.scenario.display().to_string())?;
        tokio::spawn(read_whenever_changed(flags.scenario, texts));
    }
    while let Some(text) = scenarios.recv().await {
        // A mistake while editing does not end the run: the scenario before stays in force.
        match Scenario::parse(&text) {
            Ok(scenario) => {
                tracing::info!(nodes = scenario.nodes.len(), vms = scenario.vms.len(), "took a scenario in");
                generator.set_scenario(scenario);
            }
            Err(error) => tracing::error!(%error, "kept the scenario before"),
        }
    }
    Ok(())
}

/// Passes on each line of the standard input; its end ends the generator. A thread, because a read of a terminal
/// can't be given up.
fn read_lines(texts: &mpsc::Sender<String>) {
    for line in std::io::stdin().lines().map_while(Result::ok) {
        if !line.trim().is_empty() && texts.blocking_send(line).is_err() {
            return;
        }
    }
}

/// Passes on the file's text now and whenever it changes.
async fn read_whenever_changed(file: PathBuf, texts: mpsc::Sender<String>) {
    let mut before = String::new();
    loop {
        match tokio::fs::read_to_string(&file).await {
            Ok(text) if text != before => {
                before.clone_from(&text);
                if texts.send(text).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) => tracing::error!(file = %file.display(), %error, "could not read the scenario"),
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// The machine's wall clock: the one place where it is read.
#[allow(clippy::disallowed_methods)]
fn wall_clock() -> WallClock {
    Arc::new(|| {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    })
}

/// The time since the machine booted, its sleep counted.
fn boot_clock() -> BootClock {
    Arc::new(|| Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default())
}

/// A seed that differs from node to node and stays the same for one: FNV-1a of its name.
fn seed_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
