//! `miyako-agent load`: what the agent sees, for people.

use super::sources::SourceFlags;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use miyako_agent::load::{KernelReader, LoadReader as _, Measured, dirty_rate, report};
use miyako_api::wire::SAMPLE_INTERVAL;
use std::{io::Write as _, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// What to print, and how often.
#[derive(Args)]
pub(crate) struct Load {
    /// Print once, over the first second, and end. The default.
    #[arg(long, conflicts_with = "watch")]
    once: bool,
    /// Print every second until interrupted.
    #[arg(long)]
    watch: bool,
    /// Instead, estimate how fast this VM dirties its memory, from a sample of its pages. Needs root. Refused while
    /// the VM migrates.
    #[arg(long, value_name = "NAMESPACE/VM", conflicts_with = "watch")]
    dirty_rate: Option<String>,
    /// Over how many seconds to estimate it. Over a longer time more pages are written twice, and count once.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60), requires = "dirty_rate")]
    period: u64,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// The name of this Node.
    #[arg(long, env = "NODE_NAME")]
    node_name: String,
    #[command(flatten)]
    sources: SourceFlags,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// One line of JSON each time.
    Json,
}

pub(crate) async fn load(flags: Load) -> anyhow::Result<()> {
    let launchers = flags.sources.list(&flags.node_name).await?;
    if let Some(vm) = &flags.dirty_rate {
        let qemu = dirty_rate::qemu_of(&flags.sources.sources(), &launchers, vm)?;
        let period = Duration::from_secs(flags.period);
        let rate = dirty_rate::measure(flags.sources.proc(), qemu, period).await?;
        return say(&match flags.output {
            Output::Table => report::dirty_rate(vm, &rate),
            Output::Json => report::dirty_rate_json(vm, &rate),
        });
    }
    let following = flags.sources.follow(&flags.node_name, launchers.clone(), 1);
    let mut reader = KernelReader::new(flags.sources.sources(), launchers);
    let printing = async {
        let mut ticks = interval(SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let begun = Instant::now();
        loop {
            ticks.tick().await;
            let read = reader.read(begun.elapsed());
            let read = read.context("see --proc, --cgroup and --node-cgroup, which say where the figures are");
            let Some(measured) = read? else { continue };
            print(&flags, &measured)?;
            if !flags.watch {
                return anyhow::Ok(());
            }
        }
    };
    tokio::select! {
        printed = printing => printed,
        () = following => Ok(()),
    }
}

fn print(flags: &Load, measured: &Measured) -> anyhow::Result<()> {
    say(&match flags.output {
        Output::Table => report::table(&flags.node_name, measured),
        Output::Json => report::json(&flags.node_name, measured),
    })
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("could not print")
}
