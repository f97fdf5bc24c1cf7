//! Whether the operator and the demo's stand stay as large as they are: a week of `miyako demo`, twice a day what is
//! resident, what the stand holds by collection, and what the operator keeps by owner.
//!
//! `cargo bench -p miyako --bench memory` takes an hour or more; a number chooses the days, and with `--test` one hour
//! runs.

use miyako::sim::demo::scenario;
use miyako::sim::simulation::{Simulation, paused_runtime};
use miyako_api::consolidation_policy::Profile;
use std::collections::BTreeMap;

const OPERATOR: &str = "miyako-operator-0";
const SEED: u64 = 201;
/// Between rows, in simulated seconds.
const EVERY: u64 = 12 * 3600;
/// So many owners are told of, the largest first.
const TOLD: usize = 12;

/// Bytes that the process has in memory, from the second field of `/proc/self/statm` (proc(5)), in pages of 4 KiB.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Entries that the operator keeps, by owner.
fn entries(world: &Simulation) -> BTreeMap<String, usize> {
    let text = world.operator(OPERATOR).map(|operator| operator.metrics.text()).unwrap_or_default();
    let held = text.lines().filter_map(|line| line.strip_prefix("miyako_held_entries{owner=\"")?.split_once("\"} "));
    held.filter_map(|(owner, count)| Some((owner.to_owned(), count.parse().ok()?))).collect()
}

fn row(hour: u64, world: &Simulation) {
    let held = world.world.server.held();
    let objects: usize = held.values().map(|held| held.object_bytes).sum();
    let changes: usize = held.values().map(|held| held.change_bytes).sum();
    let events = held.get("events").map_or(0, |events| events.objects);
    let kept: usize = entries(world).values().sum();
    let (objects, changes) = (mib(objects as u64), mib(changes as u64));
    println!("| {hour} | {:.0} | {objects:.1} | {changes:.1} | {events} | {kept} |", mib(resident()));
}

/// The owners that hold most at the end.
fn owners(world: &Simulation) {
    println!("\n| owner | objects or entries | MiB of JSON | changes | MiB of JSON |\n|---|---:|---:|---:|---:|");
    let mut held: Vec<_> = world.world.server.held().into_iter().collect();
    held.sort_by_key(|(_, held)| std::cmp::Reverse(held.object_bytes + held.change_bytes));
    for (collection, held) in held.into_iter().take(TOLD) {
        let (objects, changes) = (mib(held.object_bytes as u64), mib(held.change_bytes as u64));
        println!("| stand: {collection} | {} | {objects:.2} | {} | {changes:.2} |", held.objects, held.changes);
    }
    let mut kept: Vec<_> = entries(world).into_iter().collect();
    kept.sort_by_key(|(_, entries)| std::cmp::Reverse(*entries));
    for (owner, entries) in kept.into_iter().take(TOLD) {
        println!("| operator: {owner} | {entries} | | | |");
    }
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let brief = words.iter().any(|word| word == "--test");
    let days = words.iter().find_map(|word| word.parse::<u64>().ok()).unwrap_or(7);
    let (seconds, every) = if brief { (3600, 1800) } else { (days * 86_400, EVERY) };
    paused_runtime()?.block_on(async {
        let mut world = Simulation::begin(scenario(SEED, Profile::Reactive)).await?;
        world.start_operator(OPERATOR)?;
        println!(
            "| hour | resident MiB | objects, MiB of JSON | history, MiB of JSON | Events | entries of the operator |"
        );
        println!("|---:|---:|---:|---:|---:|---:|");
        for second in 1..=seconds {
            world.second().await?;
            if second % every == 0 {
                row(second / 3600, &world);
            }
        }
        owners(&world);
        anyhow::ensure!(world.broken_rules().is_empty(), "{:?}", world.broken_rules());
        Ok(())
    })
}
