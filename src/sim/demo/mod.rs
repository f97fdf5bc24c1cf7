//! `miyako demo`: the real operator in a simulated cluster, with a page, or headless with a summary.

mod days;
mod live;
mod mishaps;
mod scenario;
mod summary;
#[cfg(test)]
mod tests;

pub use scenario::scenario;

use super::simulation::{Simulation, SimulationError, paused_runtime};
use crate::command::output::{self, Output};
use crate::web::Speed;
use clap::Args;
use days::Days;
use mishaps::Mishaps;
use miyako_api::consolidation_policy::Profile;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use summary::{Summary, Tally};

/// The one operator's name.
const OPERATOR: &str = "miyako-operator-0";
/// The `Reactive` profile's overload threshold (Reactive Cloud §5.2.1), as a share.
const OVERLOAD: f64 = 0.9;

/// Flags of `miyako demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Run so much simulated time (90s, 10m, 2h, 1d) without a page, as fast as it goes, and print a summary.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<u64>,
    /// Everything random follows from it: the same seed gives the same run.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The profile of the demo's policy.
    #[arg(long, value_enum, default_value_t = DemoProfile::Reactive)]
    pub profile: DemoProfile,
    /// How the summary of a run with --duration is written.
    #[arg(long, value_enum, default_value_t = Output::Table, requires = "duration")]
    pub output: Output,
    /// Simulated seconds in a real one, 0 to 3600; 0 stands still. The page can change it.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=i64::from(Speed::MOST)), conflicts_with = "duration")]
    pub speed: u32,
    /// Where the page is served.
    #[arg(long, default_value = "127.0.0.1:8088", value_name = "ADDRESS:PORT", conflicts_with = "duration")]
    pub listen: SocketAddr,
}

/// The profile of the demo's policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DemoProfile {
    /// Acts within minutes, and moves a VM three times a day at most.
    Conservative,
    /// Acts within seconds.
    Reactive,
}

impl DemoProfile {
    fn of_policy(self) -> Profile {
        match self {
            Self::Conservative => Profile::Conservative,
            Self::Reactive => Profile::Reactive,
        }
    }
}

/// Why the demo could not run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
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
    /// The page's address is taken.
    #[error("cannot listen on {address}; is another demo there? Choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The web server.
    #[error("the web server ended")]
    Serve(#[source] std::io::Error),
    /// Signals.
    #[error("cannot listen for signals")]
    Signal(#[source] std::io::Error),
    /// Standard output is closed.
    #[error("cannot write to standard output")]
    Write(#[from] std::io::Error),
}

/// Runs the demo. A headless run fails (exit code 1) if a safety rule was broken.
///
/// # Errors
/// See [`DemoError`].
pub fn run(args: &DemoArgs, out: &mut dyn Write) -> Result<ExitCode, DemoError> {
    let Some(seconds) = args.duration else {
        return live::run(args, out);
    };
    let summary = headless(seconds, args.seed, args.profile)?;
    output::print(&summary, args.output, out)?;
    Ok(if summary.is_safe() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn headless(seconds: u64, seed: u64, profile: DemoProfile) -> Result<Summary, DemoError> {
    paused_runtime().map_err(DemoError::Runtime)?.block_on(async {
        let scenario = scenario(seed, profile.of_policy());
        let (oracle, vms) = scenario::oracle(&scenario);
        let mut simulation = Simulation::begin(scenario).await?;
        simulation.start_operator(OPERATOR)?;
        let mut days = Days::new(oracle, vms);
        let mut tally = Tally::default();
        let mut mishaps = Mishaps::new(seed);
        for _ in 0..seconds {
            let measured = simulation.second().await?;
            mishaps.second(&mut simulation);
            let view = simulation.operator(OPERATOR).map(|operator| operator.view.borrow().clone());
            let view = view.unwrap_or_default();
            tally.add(&measured, &view, OVERLOAD);
            days.add(&measured, &view, simulation.migrations_asked_for().values().copied().map(u64::from).sum());
        }
        let view = simulation.operator(OPERATOR).map(|operator| operator.view.borrow().clone()).unwrap_or_default();
        Ok(Summary::of(&tally, days.told(), &simulation, &view, OPERATOR, seed))
    })
}

/// A span such as 90s, 10m, 2h or 1d, in seconds.
fn duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("write a time such as 90s, 10m, 2h or 1d, not {text:?}");
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    match count.checked_mul(unit) {
        Some(seconds @ 1..=31_536_000) => Ok(seconds),
        _ => Err("write a time from 1s to 365d".to_owned()),
    }
}
