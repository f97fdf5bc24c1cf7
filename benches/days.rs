//! Whether every VM keeps its speed beside sleeping nodes, over days: `miyako demo` for three days under both profiles,
//! figures from hour 24 on, beside what planners that know the future would draw.
//!
//! `cargo bench -p miyako --bench days` takes hours; numbers choose seeds, `reactive` or `conservative` one profile, and
//! with `--test` one seed runs for a quarter of an hour.

use anyhow::Context as _;
use clap::Parser as _;
use miyako::sim::demo::{self, DemoArgs};
use serde_json::Value;

/// Seeds that nobody tuned anything on.
const SEEDS: [u64; 5] = [101, 102, 103, 104, 105];
const PROFILES: [&str; 2] = ["reactive", "conservative"];

#[derive(clap::Parser)]
struct Demo {
    #[command(flatten)]
    args: DemoArgs,
}

/// What is told of each run: a head, and where the figure is in a day.
const FIGURES: [(&str, &str); 9] = [
    ("saved %", "/savedPercent"),
    ("hourly oracle %", "/hourlyOracle/savedPercent"),
    ("kWh", "/kilowattHours"),
    ("oracle kWh", "/hourlyOracle/kilowattHours"),
    ("missing core-h", "/missingCoreHours"),
    ("starved %", "/starvedPercent"),
    (">= 90 % %", "/hotPercent"),
    ("worst VM %", "/worstVm/percent"),
    ("moves", "/moves"),
];

/// The last row of a run, which tells of all days after the first if there are any, and its hours.
fn run(seed: u64, profile: &str, duration: &str) -> anyhow::Result<Vec<f64>> {
    let seed = seed.to_string();
    let words = ["demo", "--duration", duration, "--seed", &seed, "--profile", profile, "--output", "json"];
    let mut out = Vec::new();
    demo::run(&Demo::try_parse_from(words)?.args, &mut out)?;
    let summary: Value = serde_json::from_slice(&out)?;
    anyhow::ensure!(summary["brokenRules"] == serde_json::json!([]), "{}", summary["brokenRules"]);
    let last = summary["days"].as_array().and_then(|days| days.last()).context("no day is told")?;
    let days = last["hours"].as_f64().context("no hours")? / 24.0;
    let figure =
        |(name, at): &(&str, &str)| last.pointer(at).and_then(Value::as_f64).with_context(|| format!("no {name}"));
    let mut figures = FIGURES.iter().map(figure).collect::<anyhow::Result<Vec<f64>>>()?;
    // By the day.
    for (figure, (name, _)) in figures.iter_mut().zip(FIGURES) {
        if !name.ends_with('%') {
            *figure /= days;
        }
    }
    Ok(figures)
}

fn row(name: &str, figures: impl Iterator<Item = f64>) {
    let told: Vec<String> = figures.map(|figure| format!("{figure:.2}")).collect();
    println!("| {name} | {} |", told.join(" | "));
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let brief = words.iter().any(|word| word == "--test");
    let chosen: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let seeds = match (brief, chosen.is_empty()) {
        (true, _) => &SEEDS[..1],
        (false, true) => &SEEDS[..],
        (false, false) => &chosen,
    };
    let named = |profile: &str| words.iter().any(|word| word == profile);
    let any_named = PROFILES.iter().any(|profile| named(profile));
    for profile in PROFILES.into_iter().filter(|profile| !any_named || named(profile)) {
        println!("\n{profile}, by the day:\n");
        println!("| seed | {} |", FIGURES.map(|(name, _)| name).join(" | "));
        println!("|---|{}", "---:|".repeat(FIGURES.len()));
        let mut runs = Vec::new();
        for &seed in seeds {
            let figures = run(seed, profile, if brief { "15m" } else { "3d" })?;
            row(&seed.to_string(), figures.iter().copied());
            runs.push(figures);
        }
        let sorted: Vec<Vec<f64>> = (0..FIGURES.len())
            .map(|at| {
                let mut all: Vec<f64> = runs.iter().map(|run| run[at]).collect();
                all.sort_by(f64::total_cmp);
                all
            })
            .collect();
        row("median", sorted.iter().map(|all| all[all.len() / 2]));
        row("least", sorted.iter().map(|all| all[0]));
        row("most", sorted.iter().map(|all| all[all.len() - 1]));
    }
    Ok(())
}
