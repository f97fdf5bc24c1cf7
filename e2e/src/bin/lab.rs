//! Runs scenarios in the QEMU lab: real VMs under the papers' benchmark, moved by the real operator.

// An edge: it runs real programs by the real clock.
#![allow(clippy::disallowed_methods)]

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};
use miyako_e2e::control_plane::Stand;
use miyako_e2e::lab::results::Results;
use miyako_e2e::lab::scenario::{Calibration, RunMode, Scenario};
use miyako_e2e::lab::stand::Programs;
use miyako_e2e::lab::{report, run};
use miyako_e2e::scene::Scene;
use miyako_e2e::tools::{Tools, workspace_root};
use miyako_lab::guest::channel::Speed;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Runs scenarios in Miyako's QEMU lab.
///
/// Nodes are network namespaces with a CPU quota and a slow link, VMs are real QEMU processes under the papers' benchmark,
/// and the real operator moves them because of what the real agents measure. Needs root and the packages of e2e/tools/apt.
/// See docs/lab.md.
#[derive(Parser)]
#[command(name = "lab")]
struct Flags {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run a scenario, once for each mode, and write figures and pictures.
    ///
    ///   lab run e2e/lab/scenarios/fig6.yaml
    ///   lab run e2e/lab/scenarios/fig6.yaml --mode post-copy --output-dir /tmp
    #[command(verbatim_doc_comment)]
    Run(Run),
    /// Write the table of all results in a folder, and their pictures, anew, as each run does.
    Summarize {
        /// The folder with the figures.
        #[arg(value_name = "DIR", default_value = "docs/results")]
        folder: PathBuf,
    },
    /// Print the loads of a scenario without running it, as seconds and percent of a core of the lab.
    Show {
        /// The scenario's file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Args)]
struct Run {
    /// The scenario's file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How VMs are moved; can be given several times. `none` leaves them where they began.
    #[arg(long = "mode", value_enum, default_values = ["post-copy", "pre-copy", "none"])]
    modes: Vec<RunMode>,
    /// Where figures (JSON) and pictures (SVG) go.
    #[arg(long, value_name = "DIR", default_value = "docs/results")]
    output_dir: PathBuf,
    /// The seed of random loads and of the guests' memory, instead of the file's.
    #[arg(long)]
    seed: Option<u64>,
    /// What a whole vCPU gets done in a second, as busy loops, reads, writes: to repeat a run with the same operations.
    /// Measured by default.
    #[arg(long, value_name = "LOOPS,READS,WRITES", value_parser = speed, requires = "emulation")]
    speed: Option<Speed>,
    /// What emulating a guest costs beside its benchmark, in cores, likewise.
    #[arg(long, value_name = "CORES", requires = "speed")]
    emulation: Option<f64>,
}

fn speed(text: &str) -> Result<Speed, String> {
    let numbers: Vec<u64> = text.split(',').filter_map(|number| number.parse().ok().filter(|one| *one > 0)).collect();
    match *numbers.as_slice() {
        [loops, reads, writes] => Ok(Speed { loops, reads, writes }),
        _ => Err("write three whole numbers above 0, separated by commas".to_owned()),
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    match Flags::parse().task {
        Task::Run(flags) => perform(flags).await,
        Task::Summarize { folder } => {
            println!("wrote {}", report::summarize(&folder)?.display());
            Ok(())
        }
        Task::Show { file } => {
            let scenario = Scenario::read(&file)?;
            for (vm, steps) in scenario.vms.iter().zip(scenario.percents()) {
                let steps: Vec<String> = steps.iter().map(|(at, percent)| format!("{at} s: {percent} %")).collect();
                println!("{}  {}", vm.name, steps.join(", "));
            }
            Ok(())
        }
    }
}

async fn perform(flags: Run) -> anyhow::Result<()> {
    let mut scenario = Scenario::read(&flags.file)?;
    scenario.seed = flags.seed.unwrap_or(scenario.seed);
    let programs = build()?;
    let stand = Arc::new(Stand::start(Tools::build()?, &workspace_root().join("target/lab")).await?);
    let calibration = match flags.speed.zip(flags.emulation) {
        Some((speed, emulation)) => Calibration { speed, emulation },
        None => run::calibrate(&scenario).await?,
    };
    let Calibration { speed: Speed { loops, reads, writes }, emulation } = calibration;
    eprintln!(
        "operations are sized by {loops},{reads},{writes} loops, reads and writes a second; emulating a guest costs {emulation:.3} cores"
    );
    let mut runs: Vec<Results> = Vec::new();
    let mut failure = None;
    for mode in flags.modes {
        match perform_one(&stand, &programs, &scenario, mode, (&flags.file, &calibration)).await {
            Ok(results) => {
                println!("\n{}", report::migrations(&results));
                for file in report::write(&results, &flags.output_dir)? {
                    eprintln!("wrote {}", file.display());
                }
                eprintln!("wrote {}", report::summarize(&flags.output_dir)?.display());
                runs.push(results);
            }
            Err(error) => failure = Some(error.context(format!("{mode:?}"))),
        }
        if failure.is_some() {
            break;
        }
    }
    println!("\n{}: {}\n\n{}", scenario.name, scenario.about, report::comparison(&runs));
    let folder = stand.folder().to_owned();
    let stand = Arc::try_unwrap(stand).ok().context("something still holds the control plane")?;
    stand.stop().await?;
    match failure {
        Some(failure) => Err(failure.context(format!("logs are in {}", folder.display()))),
        None => {
            std::fs::remove_dir_all(&folder)?;
            let broken = |run: &Results| [run.totals.guests_broken.clone(), run.totals.broken_rules.clone()].concat();
            let broken: Vec<String> = runs.iter().flat_map(broken).collect();
            ensure!(broken.is_empty(), "memory that is not whole, or rules that were broken: {broken:#?}");
            Ok(())
        }
    }
}

async fn perform_one(
    stand: &Arc<Stand>,
    programs: &Programs,
    scenario: &Scenario,
    mode: RunMode,
    (file, calibration): (&Path, &Calibration),
) -> anyhow::Result<Results> {
    // A scene's name lives as long as the program.
    let name = match mode {
        RunMode::PostCopy => "lab-post-copy",
        RunMode::PostCopyAwake => "lab-post-copy-awake",
        RunMode::PreCopy => "lab-pre-copy",
        RunMode::Auto => "lab-auto",
        RunMode::None => "lab-none",
    };
    let file = file.file_name().unwrap_or_default().to_string_lossy();
    let Calibration { speed: Speed { loops, reads, writes }, emulation } = calibration;
    let command = format!(
        "cargo run --package miyako-e2e --bin lab -- run e2e/lab/scenarios/{file} --mode {mode} --seed {} --speed {loops},{reads},{writes} --emulation {emulation:.4}",
        scenario.seed
    );
    let scene = Scene::begin(Arc::clone(stand), name).await?;
    let tell = |line: &str| eprintln!("{mode}: {line}");
    let outcome = run::run(&scene, programs, (scenario, mode), (&command, calibration), tell).await;
    if outcome.is_err() {
        eprintln!("{}", scene.describe().await);
    }
    scene.end().await.context("tidying up")?;
    outcome
}

/// Builds the programs that run in the lab, which cargo does not do for a binary alone, and says where they are.
fn build() -> anyhow::Result<Programs> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--locked", "--package", "miyako-e2e", "--bins"]).current_dir(workspace_root());
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    // What cargo told us of our own package is no news for others: some would be built anew for it.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name.to_string_lossy().starts_with("CARGO_MANIFEST_") {
            build.env_remove(name);
        }
    }
    ensure!(build.status().context("starting cargo")?.success(), "the programs of the lab do not build");
    let folder = std::env::current_exe()?.parent().context("a program without a folder")?.to_owned();
    Ok(Programs {
        operator: folder.join("miyako-under-test"),
        agent: folder.join("agent-under-test"),
        node: folder.join("lab-node-under-test"),
    })
}
