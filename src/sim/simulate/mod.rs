//! `miyako simulate`: an experiment of the papers in the simulated cluster, with its figure and table; or what one
//! migration would cost, without any cluster.

mod chart;
mod energy;
mod migration;
#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod tests;

use super::simulation::{SimulationError, paused_runtime};
use clap::{Args, Subcommand};
use energy::{Mode, Run};
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

pub use migration::{Answer, MigrationArgs, MigrationError, Mode as MigrationMode, Output, Row, foretell};

/// Flags of `miyako simulate`.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// What to simulate.
    #[command(subcommand)]
    pub experiment: Experiment,
}

/// What can be simulated.
#[derive(Debug, Clone, Subcommand)]
pub enum Experiment {
    /// Energy, section IV-B: what post-copy saves against pre-copy and against doing nothing.
    EnergySimple(EnergySimpleArgs),
    /// What one migration would cost: time, downtime, traffic and energy, mode by mode. Nothing is run.
    Migration(Box<MigrationArgs>),
}

/// Flags of `miyako simulate energy-simple`.
#[derive(Debug, Clone, Args)]
pub struct EnergySimpleArgs {
    /// Everything random follows from it: the same seed gives the same files.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where its table (.md) and its figure (.svg) are written. Without it the table is printed.
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
}

/// Why it could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// No runtime.
    #[error("cannot start the async runtime")]
    Runtime(#[source] std::io::Error),
    /// The world could not be built.
    #[error("cannot build the simulated cluster")]
    Simulation(#[from] SimulationError),
    /// The metrics clash: a mistake of ours.
    #[error("cannot register the metrics")]
    Metrics(#[from] prometheus::Error),
    /// A stand-in lost sight of the cluster.
    #[error("the simulated cluster does not answer")]
    Cluster(#[from] kube::Error),
    /// A file.
    #[error("cannot write {file}")]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A migration that can't be.
    #[error("cannot foretell this migration")]
    Migration(#[from] MigrationError),
    /// Standard output is closed.
    #[error("cannot write to standard output")]
    Write(#[from] std::io::Error),
}

/// Runs the experiment. Fails (exit code 1) if a safety rule was broken.
///
/// # Errors
/// See [`SimulateError`].
pub fn run(args: &SimulateArgs, out: &mut dyn Write) -> Result<ExitCode, SimulateError> {
    match &args.experiment {
        Experiment::EnergySimple(args) => energy_simple(args, out),
        Experiment::Migration(args) => {
            let answer = foretell(args)?;
            match args.output {
                Output::Table => write!(out, "{}", migration::table(&answer))?,
                Output::Json => writeln!(out, "{:#}", serde_json::json!(answer))?,
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn energy_simple(args: &EnergySimpleArgs, out: &mut dyn Write) -> Result<ExitCode, SimulateError> {
    let mut runs = Vec::new();
    for mode in Mode::ALL {
        let runtime = paused_runtime().map_err(SimulateError::Runtime)?;
        runs.push(runtime.block_on(energy::run(mode, args.seed))?);
    }
    let command = format!("miyako simulate energy-simple --seed {} --output-dir docs/results", args.seed);
    let table = table(&runs);
    match &args.output_dir {
        None => write!(out, "{table}")?,
        Some(folder) => {
            let page = format!("{}{table}{}", heading(&command), comparison(&runs));
            let files = [("energy-simple.md", page), ("energy-simple.svg", chart::svg(&runs, &command))];
            for (name, text) in files {
                let file = folder.join(name);
                std::fs::write(&file, text).map_err(|source| SimulateError::File { file: file.clone(), source })?;
                writeln!(out, "{}", file.display())?;
            }
        }
    }
    let broken: Vec<&String> = runs.iter().flat_map(|run| &run.broken_rules).collect();
    broken.iter().try_for_each(|rule| writeln!(out, "broken: {rule}"))?;
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(runs: &[Run]) -> String {
    let mut text = "| | energy of all six nodes | saved | of PM 0 and PM 1 | PM 1 asleep | VM 0 moves to PM 0 | and back | CPU wanted and not given |\n\
                    | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    let none = runs.iter().find(|run| run.mode == Mode::None).map_or(0.0, |run| run.joules);
    for run in runs {
        let saved = match run.mode {
            Mode::None => "–".to_owned(),
            _ => format!("{:.1} %", 100.0 * (1.0 - run.joules / none)),
        };
        let time = |index: usize| {
            let found = run.moves.get(index).map(|one| match one.to {
                Some(to) => format!("{} to {to} s", one.from),
                None => format!("from {} s on", one.from),
            });
            found.unwrap_or_else(|| "–".to_owned())
        };
        let asleep = run.slept.get("pm1").copied().unwrap_or_default();
        let _ = writeln!(
            text,
            "| {} | {:.0} J | {saved} | {:.0} J | {asleep} s | {} | {} | {:.1} core-seconds |",
            run.mode.name(),
            run.joules,
            run.busy_joules,
            time(0),
            time(1),
            run.missing
        );
    }
    text
}

fn heading(command: &str) -> String {
    format!(
        "# What post-copy saves: the simple scenario of the Energy paper\n\n```sh\n{command}\n```\n\n\
         Section IV-B, Figs. 5 to 7: six nodes of 53 to 100 W, 7 W asleep, a single core for VMs and 1 Gbit/s; five VMs of 1 GB, of \
         which VM 0 writes 100 MB/s. It begins on PM 1 at 80 % of a core and calms down to 40 % at 75 s; at 175 s VM 1 wakes up on PM 0. \
         Figures are of the simulated cluster, whose nodes draw what `core::energy` models and 20 W more while a VM migrates; the operator is \
         the real one, with the paper's windows (10 s) and its settle time (20 s). PM 2 to PM 5 sleep from the beginning, but where nothing is \
         consolidated.\n\n![Node power over time](energy-simple.svg)\n\n"
    )
}

/// Against the paper's figures.
fn comparison(runs: &[Run]) -> String {
    let of = |mode| runs.iter().find(|run| run.mode == mode);
    let (Some(none), Some(post), Some(pre)) = (of(Mode::None), of(Mode::PostCopy), of(Mode::PreCopy)) else {
        return String::new();
    };
    let less = |run: &Run| 100.0 * (1.0 - run.busy_joules / none.busy_joules);
    let asleep = |run: &Run| run.slept.get("pm1").copied().unwrap_or_default();
    let lasts = |run: &Run| run.moves.first().and_then(|one| Some(one.to? - one.from)).unwrap_or_default();
    format!(
        "\nThe paper: both begin to move VM 0 back at 85 s. By post-copy that took about 15 s (here {} s), and PM 1 slept about 80 s before VM 1 woke it; \
         by pre-copy it took 75 s (here {} s), and PM 1 slept 20 s, a quarter of that (here {} s against {} s, {:.0} %). Most of what is saved here are four \
         spare nodes that the paper lets sleep from the beginning; of PM 0 and PM 1 alone post-copy saves {:.1} % and pre-copy {:.1} %: there the 20 W of \
         migrations that take long eat up what the sleep between them saves. The paper gives no energy for this \
         scenario; for its complex one (section IV-C) it saves 11.8 % by post-copy and 5.2 % by pre-copy against nodes that never sleep.\n\n\
         Two things cost sleep that the paper did not pay: a node must have been empty for ten seconds, as long as a sleep takes to pay for itself, and \
         then two more seconds under a taint, before it is ordered to sleep. What the operator itself accounts, {:.0} J by \
         post-copy, settles sleep by the machines' own clocks, and knows nothing of the 20 W of migrations.\n",
        lasts(post),
        lasts(pre),
        asleep(pre),
        asleep(post),
        100.0 * f64::from(asleep(pre)) / f64::from(asleep(post).max(1)),
        less(post),
        less(pre),
        post.accounted_joules,
    )
}
