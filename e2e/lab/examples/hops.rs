//! Sends VMs to and fro, one after the other, every other hop by post-copy, and checks every page after each:
//!
//! ```text
//! cargo run --package miyako-lab --example hops -- 20
//! ```
//!
//! Prints where the time of each hop went, and ends with an error at the first page that is not what it should be.

use anyhow::{Context as _, ensure};
use miyako_lab::guest::channel::{Intensity, Permille};
use miyako_lab::guest::{Boot, Guest, Image};
use miyako_lab::qemu::migration::{Migration, Mode, Outcome, Phase, Route, Settings};
use miyako_lab::qemu::{Machine, Spec};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let hops: u32 = std::env::args().nth(1).unwrap_or_else(|| "10".to_owned()).parse().context("how many hops")?;
    let kinds = [
        ("busy loop", Intensity::BUSY_LOOP, 1),
        ("read-mostly", Intensity::READ_MOSTLY, 1),
        ("write-heavy", Intensity::WRITE_HEAVY, 1),
        ("mixed, 2 CPUs", Intensity::MIXED, 2),
    ];
    let image = Image::make()?;
    println!(
        "{:14} {:>4} {:9} {:>7} {:>7} {:>7} {:>8} {:>9}",
        "guest", "hop", "mode", "total", "switch", "down", "sent", "check"
    );
    for (name, intensity, vcpus) in kinds {
        let load = Permille::new(300).context("a load")?;
        let boot = Boot { pages: 16384, seed: 7, load, intensity, ..Boot::default() };
        travel(name, vcpus, boot, &image, hops).await.with_context(|| format!("the guest {name}"))?;
    }
    Ok(())
}

async fn travel(name: &str, vcpus: u32, boot: Boot, image: &Image, hops: u32) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("hops-").tempdir()?;
    let spec = Spec { vcpus, ..Spec::new("vm0", folder.path().join("0"), image.clone(), boot) };
    let guest = Guest::new("vm0");
    let mut source = Machine::launch(spec.clone()).await?;
    guest.attach(source.spec().guest_socket());
    guest.booted(PATIENCE).await?;
    for hop in 1..=hops {
        let target = Machine::launch(spec.target(folder.path().join(hop.to_string()))).await?;
        guest.attach(target.spec().guest_socket());
        let post_copy = hop % 2 == 0;
        let settings = Settings { post_copy, bandwidth: post_copy.then_some(200 << 20), ..Settings::default() };
        let route = Route::direct(folder.path().join(format!("{hop}.sock")));
        let migration = Migration::start(&source, &target, &route, settings).await?;
        if post_copy && !matches!(migration.under_way().await, Phase::Ended(_)) {
            migration.switch_to_post_copy().await?;
        }
        let outcome = timeout(PATIENCE, migration.outcome()).await.context("it never ended")?;
        ensure!(matches!(outcome, Outcome::Completed(_)), "{outcome:?}: {}", target.process().tail(10));
        let times = migration.times();
        source = target;
        let begin = Instant::now();
        let check = guest.check(PATIENCE).await?;
        ensure!(check.is_good() && guest.ran_twice().is_none(), "{check:?} {:?}", guest.ran_twice());
        let milliseconds =
            |span: Option<Duration>| span.map_or("-".to_owned(), |span| format!("{} ms", span.as_millis()));
        let since = |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        let mode = if outcome == Outcome::Completed(Mode::PostCopy) { "post-copy" } else { "pre-copy" };
        println!(
            "{name:14} {hop:>4} {mode:9} {:>7} {:>7} {:>7} {:>5} MB {:>9}",
            milliseconds(since(Some(times.started), times.ended)),
            milliseconds(since(times.switch_ordered, times.resumed)),
            milliseconds(times.downtime()),
            migration.progress().transferred / 1_000_000,
            milliseconds(Some(begin.elapsed())),
        );
    }
    Ok(())
}
