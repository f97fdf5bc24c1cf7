//! `miyako-agent load`: what the agent sees, for people.

use super::sources::SourceFlags;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use miyako_agent::load::{KernelReader, LoadReader as _, Measured, report};
use miyako_api::wire::SAMPLE_INTERVAL;
use std::io::Write as _;
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
    let following = flags.sources.follow(&flags.node_name, launchers.clone(), 1);
    let mut reader = KernelReader::new(flags.sources.sources(), launchers);
    let printing = async {
        let mut ticks = interval(SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let begun = Instant::now();
        loop {
            ticks.tick().await;
            let Some(measured) = reader.read(begun.elapsed())? else { continue };
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
    let text = match flags.output {
        Output::Table => report::table(&flags.node_name, measured),
        Output::Json => report::json(&flags.node_name, measured),
    };
    // A reader that has seen enough (`| head`) is no failure worth a trace.
    writeln!(std::io::stdout(), "{text}").context("could not print")
}
