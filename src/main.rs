//! `miyako`: flags and wiring.

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use miyako::command::approve::{self, ApproveArgs};
use miyako::command::ask_prometheus::{self, AskPrometheusArgs};
use miyako::command::cluster::ClusterArgs;
use miyako::command::explain::{self, ExplainArgs};
use miyako::command::operator::{self, OperatorArgs};
use miyako::command::power::{self, NodeArgs, WakeArgs};
use miyako::command::switches::{self, ResumeArgs, Switch, SwitchOnArgs};
use miyako::command::wake_kit::{self, WakeKitArgs};
use miyako::crds::{self, CrdsArgs};
use miyako::lint::{self, LintArgs};
use miyako::sim::demo::{self, DemoArgs};
use miyako::sim::simulate::{self, SimulateArgs};
use miyako_core::model::Ask;
use std::io::{stdin, stdout};
use std::process::ExitCode;

/// Packs KubeVirt VMs onto as few nodes as their load allows, and tells why.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one replica of the operator in a cluster.
    Operator(Box<OperatorArgs>),
    /// Show the operator at work in a simulated cluster, on a page or headless.
    Demo(DemoArgs),
    /// Run an experiment of the papers in a simulated cluster, or foretell what one migration would cost.
    Simulate(SimulateArgs),
    /// Print the CustomResourceDefinitions, or write them to files.
    Crds(CrdsArgs),
    /// Judge policies and node classes in files before they reach a cluster, as the API server and the operator would.
    Lint(LintArgs),
    /// Tell why a VM, node or policy is where and how it is, what was considered, and what would change it.
    Explain(ExplainArgs),
    /// Ask a Prometheus server once, as the operator would, and say what was asked and what came.
    Prometheus(AskPrometheusArgs),
    /// Let plans of policies in mode Recommend be carried out, in your own name.
    Approve(ApproveArgs),
    /// Stop: no new move and no suspend until `miyako resume`. For doubts, audits, incidents.
    Pause(SwitchOnArgs),
    /// Keep every node awake and every VM in its place until `miyako resume`. For upgrades of the cluster.
    Hold(SwitchOnArgs),
    /// Go on after `miyako pause` or `miyako hold`.
    Resume(ResumeArgs),
    /// Wake nodes, and wait until they are usable.
    Wake(WakeArgs),
    /// Suspend nodes that nothing keeps awake.
    Suspend(NodeArgs),
    /// Show that nodes wake: suspend them, wake them again, and note the outcome. No policy suspends a node before.
    WakeTest(NodeArgs),
    /// Write what it takes to wake every node without the cluster: addresses and calls, no secrets. For the shelf.
    WakeKit(WakeKitArgs),
    /// After an uninstall: take back what the operator left on VMs and Nodes, and its MigrationPolicies.
    CleanUp(CleanUpArgs),
}

/// Flags of `miyako clean-up`.
#[derive(Debug, Args)]
struct CleanUpArgs {
    /// Before an uninstall instead: hold every node awake and wait until all are. Nobody wakes a sleeper afterwards.
    #[arg(long)]
    wake_first: bool,
    /// Run as a hook of the chart: do nothing unless Miyako is being uninstalled by whoever knows hooks.
    #[arg(long, hide = true)]
    hook: bool,
    /// Where.
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What went wrong is one line with all its causes: whoever reads it runs a command, and debugs nothing.
fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("Error: {}", miyako::error_chain(error.as_ref()));
        ExitCode::FAILURE
    })
}

fn run() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        Command::Crds(args) => crds::run(&args, &mut stdout().lock())?,
        Command::Demo(args) => {
            log("warn");
            return Ok(demo::run(&args, &mut stdout().lock())?);
        }
        Command::Simulate(args) => {
            log("warn");
            return Ok(simulate::run(&args, &mut stdout().lock())?);
        }
        Command::Operator(args) => {
            log("info");
            runtime()?.block_on(operator::run(*args))?;
        }
        Command::Lint(args) => {
            return Ok(ExitCode::from(lint::run(&args, &mut stdin().lock(), &mut stdout().lock())?.exit_code()));
        }
        Command::Explain(args) => runtime()?.block_on(explain::run(&args, &mut stdout()))?,
        Command::Prometheus(args) => {
            if !runtime()?.block_on(ask_prometheus::run(&args, &mut stdout()))? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Approve(args) => runtime()?.block_on(approve::run(&args, &mut stdout()))?,
        Command::Pause(args) => runtime()?.block_on(switches::run_on(Switch::Pause, &args, &mut stdout()))?,
        Command::Hold(args) => runtime()?.block_on(switches::run_on(Switch::Hold, &args, &mut stdout()))?,
        Command::Resume(args) => runtime()?.block_on(switches::run_resume(&args, &mut stdout()))?,
        Command::Wake(args) => runtime()?.block_on(power::run_wake(&args, &mut stdout()))?,
        Command::Suspend(args) => runtime()?.block_on(power::run_node(Ask::Suspend, &args, &mut stdout()))?,
        Command::WakeTest(args) => runtime()?.block_on(power::run_node(Ask::WakeTest, &args, &mut stdout()))?,
        Command::WakeKit(args) => runtime()?.block_on(wake_kit::run(&args, &mut stdout()))?,
        Command::CleanUp(args) if args.wake_first => {
            log("info");
            runtime()?.block_on(async {
                let client = args.cluster.client().await?;
                if args.hook {
                    miyako::clean_up::hook::before(&client, &args.cluster.namespace).await?;
                }
                Ok::<_, anyhow::Error>(miyako::clean_up::wake_first::run(&client, &args.cluster.namespace).await?)
            })?;
            println!("Every node is awake, and stays so.");
        }
        Command::CleanUp(args) => {
            log("info");
            let cleaned = runtime()?.block_on(async {
                let client = args.cluster.client().await?;
                if args.hook {
                    miyako::clean_up::hook::after(&client, &args.cluster.namespace).await?;
                }
                Ok::<_, anyhow::Error>(miyako::clean_up::run(&client).await?)
            })?;
            println!("{cleaned}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the async runtime")
}

/// Logs go to standard error: JSON where a program reads them, text where a person does.
fn log(unless_told: &str) {
    use std::io::IsTerminal as _;
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(unless_told));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() { builder.init() } else { builder.json().init() }
}
