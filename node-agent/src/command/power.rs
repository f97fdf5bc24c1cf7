//! `miyako-agent power …`: what the agent does about sleep, for people at the machine.

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use miyako_agent::power::{
    Host as _, KubeletProbe, LinuxHost,
    order::{LONGEST_ALARM, SHORTEST_ALARM},
    preflight::{Facts, Obstacle, WakeSource, obstacles_to_s3},
    sleep::{SleepError, Slept, sleep},
};
use miyako_api::node_power::WokenBy;
use serde_json::json;
use std::{path::PathBuf, time::Duration};

#[derive(Subcommand)]
pub(crate) enum PowerCommand {
    /// Say what would keep this machine from suspending to RAM, and change nothing.
    ///
    /// Ends with 1 when something would. Pods are for the cluster to say: only VMs are seen from here.
    Preflight(Preflight),
    /// Suspend this machine to RAM now, without any order, and say how long it slept and what woke it.
    ///
    /// For people: it tries whether a machine can sleep and be woken. Nothing is told to the cluster.
    Suspend(Suspend),
}

#[derive(Args)]
struct Machine {
    /// Where the machine's proc, sys and run are.
    #[arg(long, default_value = "/", value_name = "DIR")]
    root: PathBuf,
    /// What wakes this machine. With network-card, one must be set to (Wake-on-LAN).
    #[arg(long, env = "MIYAKO_WAKE_SOURCE", value_enum, default_value = "controller")]
    wake_source: WakeSource,
    /// How to print what was found.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs: one object on one line.
    Json,
}

#[derive(Args)]
pub(crate) struct Preflight {
    #[command(flatten)]
    machine: Machine,
}

#[derive(Args)]
pub(crate) struct Suspend {
    #[command(flatten)]
    machine: Machine,
    /// When the machine's own clock wakes it if nothing else does, as in 60s, 10m or 2h.
    #[arg(long, value_name = "TIME", value_parser = wake_after)]
    wake_after: Duration,
    /// Yes, now.
    #[arg(long)]
    yes: bool,
}

impl Machine {
    fn host(&self) -> LinuxHost {
        LinuxHost::new(&self.root, KubeletProbe { address: None, network: None })
    }
}

pub(crate) async fn run(command: PowerCommand) -> anyhow::Result<()> {
    match command {
        PowerCommand::Preflight(flags) => preflight(&flags.machine),
        PowerCommand::Suspend(flags) => suspend(&flags).await,
    }
}

fn preflight(machine: &Machine) -> anyhow::Result<()> {
    let facts = machine.host().facts()?;
    let obstacles = obstacles_to_s3(&facts, machine.wake_source);
    match machine.output {
        Output::Text => print!("{}", table(&facts, &obstacles)),
        Output::Json => println!("{}", json!({ "facts": facts, "obstacles": listed(&obstacles) })),
    }
    if obstacles.is_empty() {
        return Ok(());
    }
    bail!("this machine would not be suspended: {} in the way", counted(obstacles.len(), "thing is", "things are"))
}

fn counted(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

fn listed(obstacles: &[Obstacle]) -> Vec<serde_json::Value> {
    let one = |obstacle: &Obstacle| json!({ "reason": obstacle.reason(), "message": obstacle.to_string() });
    obstacles.iter().map(one).collect()
}

/// What was found, line by line, and then what to do about what is in the way.
fn table(facts: &Facts, obstacles: &[Obstacle]) -> String {
    let words = |words: &[String]| if words.is_empty() { "none".to_owned() } else { words.join(" ") };
    let cards = facts
        .network_cards
        .iter()
        .map(|card| format!("{} ({})", card.interface, if card.armed { "may wake it" } else { "may not wake it" }));
    let vms = facts.qemu.iter().map(|process| format!("{} ({})", process.program, process.pid));
    let rows = [
        ("VMs", words(&vms.collect::<Vec<_>>())),
        ("sleep states", words(&facts.states)),
        ("kinds of mem", words(&facts.mem_sleep)),
        ("rehearsal", facts.pm_test.clone().unwrap_or_else(|| "not offered".into())),
        ("may suspend", if facts.writable { "yes" } else { "no" }.into()),
        ("alarm", format!("{:?}", facts.alarm)),
        ("network cards", words(&cards.collect::<Vec<_>>())),
    ];
    let mut text: String = rows.iter().map(|(what, found)| format!("{what:<14} {found}\n")).collect();
    text.push('\n');
    if obstacles.is_empty() {
        text.push_str("Nothing keeps this machine from suspending to RAM.\n");
    }
    for obstacle in obstacles {
        text.push_str(&format!("{}: {obstacle}.\n", obstacle.reason()));
    }
    text
}

async fn suspend(flags: &Suspend) -> anyhow::Result<()> {
    if !flags.yes {
        bail!("nothing done: this suspends the machine and everything on it; say --yes if that is meant");
    }
    tracing::info!("asked to suspend");
    let host = flags.machine.host();
    if let Some(obstacle) = obstacles_to_s3(&host.facts()?, flags.machine.wake_source).into_iter().next() {
        bail!("{}: {obstacle}", obstacle.reason());
    }
    let last_look = || match obstacles_to_s3(&host.facts()?, flags.machine.wake_source).into_iter().next() {
        Some(obstacle) => Err(SleepError::Obstacle(obstacle)),
        None => Ok(()),
    };
    let slept = sleep(&host, flags.wake_after, last_look).await?;
    match flags.machine.output {
        Output::Text => println!("{}", sentence(&slept)),
        Output::Json => println!(
            "{}",
            json!({ "millis": slept.asleep.as_millis(), "wokenBy": slept.by, "wakeSource": slept.source })
        ),
    }
    Ok(())
}

fn sentence(slept: &Slept) -> String {
    let by = match slept.by {
        WokenBy::Alarm => "woken by its own clock: nobody else woke it in time",
        WokenBy::Request => "woken, and not by its own clock",
        WokenBy::Unknown => "woken by something unknown",
    };
    let source = slept.source.as_ref().map_or_else(String::new, |source| format!(" ({source})"));
    format!("slept {:.1} s, {by}{source}", slept.asleep.as_secs_f64())
}

/// The time of an alarm, as people write it.
pub(crate) fn wake_after(text: &str) -> Result<Duration, String> {
    let time = miyako_api::duration::Duration::from(text).get().map_err(|error| error.to_string())?;
    let bounds = SHORTEST_ALARM..=LONGEST_ALARM;
    if bounds.contains(&time) {
        return Ok(time);
    }
    Err(format!("write a time from {} s to {} h", SHORTEST_ALARM.as_secs(), LONGEST_ALARM.as_secs() / 3600))
}
