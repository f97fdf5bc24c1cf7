//! What each part of a real sleep takes: a Linux guest in QEMU (`pc`, S3) whose node agent is ours suspends, and is woken
//! as a management controller wakes it. Times are those at which QEMU's events and the agent's words reach this machine.
//!
//! `cargo bench --package miyako-agent --bench sleep -- [--cycles N]`; the table is what docs/results/sleep.md shows.

#[allow(dead_code, reason = "the tests need more of a guest")]
#[path = "../../tests/suspend/guest.rs"]
mod guest;
#[path = "../../tests/suspend/initramfs.rs"]
mod initramfs;

use anyhow::{Context as _, ensure};
use clap::Parser;
use guest::Guest;
use miyako_lab::qemu::qmp::{Happening, Qmp};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

#[derive(Parser)]
struct Flags {
    /// How often to sleep.
    #[arg(long, default_value_t = 20)]
    cycles: usize,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Longer than the resolution of the guest's clock, so that the agent can prove each sleep.
const A_WHILE: Duration = Duration::from_secs(3);

/// The parts, in their order.
const PARTS: [&str; 5] = [
    "order seen → `mem` written",
    "`mem` written → asleep (QEMU's SUSPEND)",
    "request to wake → running (QEMU's WAKEUP)",
    "running → resumed (`mem` returns to the agent)",
    "resumed → the agent reports",
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let mut guest = Guest::boot("pc").await?;
    let mut took: [Vec<Duration>; PARTS.len()] = Default::default();
    for cycle in 1..=flags.cycles {
        let cycle = one(&mut guest).await.with_context(|| format!("cycle {cycle}"))?;
        for (all, one) in took.iter_mut().zip(cycle) {
            all.push(one);
        }
    }
    println!("{} sleeps; QEMU {}, without KVM\n", flags.cycles, version(&guest.qemu()));
    println!("| | median | 90 % | most |\n|---|---:|---:|---:|");
    for (part, mut took) in PARTS.into_iter().zip(took) {
        took.sort_unstable();
        let of = |percent: usize| took.get((took.len() - 1) * percent / 100).map_or(0, Duration::as_millis);
        println!("| {part} | {} ms | {} ms | {} ms |", of(50), of(90), of(100));
    }
    Ok(())
}

fn version(qemu: &Qmp) -> String {
    let version = qemu.version();
    format!("{}.{}", version.major, version.minor)
}

/// One sleep: how long each part of it took.
async fn one(guest: &mut Guest) -> anyhow::Result<[Duration; PARTS.len()]> {
    let qemu = guest.qemu();
    let mut events = qemu.events_from_now();
    guest.begin("miyako-agent power suspend --yes --output json --wake-after 10m").await?;
    let waking = async {
        let asleep = until(&mut events, "SUSPEND").await?;
        sleep(A_WHILE).await;
        let asked = Instant::now();
        qemu.execute("system_wakeup", json!({})).await?;
        anyhow::Ok((asleep, asked, until(&mut events, "WAKEUP").await?))
    };
    let (lines, woken) = tokio::join!(guest.timed_lines(), waking);
    let (lines, (asleep, asked, running)) = (lines?, woken?);
    let at = |words: &str| {
        let line = lines.iter().find(|(_, line)| line.contains(words));
        line.map(|(at, _)| *at).with_context(|| format!("the agent does not say {words:?}: {lines:?}"))
    };
    let (seen, written) = (at("asked to suspend")?, at("writing mem")?);
    let (resumed, reported) = (at("mem has returned")?, at("\"wokenBy\"")?);
    ensure!(at("\"Request\"").is_ok(), "it was not woken by the request: {lines:?}");
    // Two ways lead here, the agent's words and QEMU's events: of those that come at once either may be first.
    let since = |from: Instant, to: Instant| to.saturating_duration_since(from);
    Ok([
        since(seen, written),
        since(written, asleep),
        since(asked, running),
        since(running, resumed),
        since(resumed, reported),
    ])
}

/// Waits for one of QEMU's events, and says when it came.
async fn until(events: &mut miyako_lab::qemu::qmp::Events, name: &str) -> anyhow::Result<Instant> {
    let found = async {
        loop {
            let event = events.next().await.context("QEMU is gone")?;
            if event.happening == Happening::Other(name.to_owned()) {
                return anyhow::Ok(event.at);
            }
        }
    };
    timeout(guest::PATIENCE, found).await.with_context(|| format!("QEMU does not say {name}"))?
}
