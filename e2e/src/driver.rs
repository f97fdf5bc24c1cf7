//! Runs scenarios on one control plane, one after the other, and prints what `cargo test` prints.
//!
//! The stand starts with the first scenario that runs, so listing tests or a filter that matches none costs nothing.
//! Each scenario gets a [`Scene`] with a namespace of its own; afterwards everything that it left in the cluster is
//! deleted. When one fails, the state of the cluster and the last words of every program are printed.

use crate::control_plane::Stand;
use crate::scene::Scene;
use crate::tools::Tools;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::runtime::Runtime;

type Run = Box<dyn FnOnce(Arc<Scene>) -> BoxFuture<'static, anyhow::Result<()>> + Send>;

/// A named test on the control plane.
pub struct Scenario {
    name: &'static str,
    run: Run,
    long: bool,
}

impl Scenario {
    /// A scenario; its name, with hyphens for underscores, becomes that of its namespace.
    pub fn new<F, R>(name: &'static str, run: F) -> Self
    where
        F: FnOnce(Arc<Scene>) -> R + Send + 'static,
        R: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Self { name, run: Box::new(move |scene| run(scene).boxed()), long: false }
    }

    /// The same, but left out unless asked for (`-- --include-ignored`).
    #[must_use]
    pub fn long(self) -> Self {
        Self { long: true, ..self }
    }
}

/// What all scenarios share.
struct Shared {
    runtime: Runtime,
    base: PathBuf,
    stand: Mutex<Option<Arc<Stand>>>,
}

/// Runs the scenarios that the command line asks for. `base` is where stands keep their folders.
#[must_use]
pub fn run(base: &Path, scenarios: Vec<Scenario>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share one cluster, and an operator acts on all of it.
    arguments.test_threads = Some(1);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let shared = Arc::new(Shared { runtime, base: base.to_owned(), stand: Mutex::new(None) });
    let trials = scenarios.into_iter().map(|scenario| trial(scenario, Arc::clone(&shared))).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let stopped = shared.stop(conclusion.has_failed());
    if conclusion.has_failed() || !stopped { ExitCode::from(101) } else { ExitCode::SUCCESS }
}

fn trial(scenario: Scenario, shared: Arc<Shared>) -> Trial {
    let Scenario { name, run, long } = scenario;
    Trial::test(name, move || {
        let stand = shared.stand().map_err(|error| Failed::from(format!("{error:#}")))?;
        let begin = Instant::now();
        let outcome = shared.runtime.block_on(perform(name, run, stand));
        // Becomes part of the line that the harness has begun: "test <name> ... 1.2 s ok".
        print!("{:.1} s ", begin.elapsed().as_secs_f64());
        outcome.map_err(Failed::from)
    })
    .with_ignored_flag(long)
}

async fn perform(name: &'static str, run: Run, stand: Arc<Stand>) -> Result<(), String> {
    let scene = Scene::begin(stand, name).await.map_err(|error| format!("{error:#}"))?;
    let outcome = match AssertUnwindSafe(run(Arc::clone(&scene))).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(panic) => Err(message_of(panic.as_ref())),
    };
    if outcome.is_err() {
        eprintln!("{}", scene.describe().await);
    }
    let tidied = scene.end().await.map_err(|error| format!("tidying up: {error:#}"));
    outcome.and(tidied)
}

impl Shared {
    fn stand(&self) -> anyhow::Result<Arc<Stand>> {
        let mut slot = self.stand.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stand) = &*slot {
            return Ok(Arc::clone(stand));
        }
        let begin = Instant::now();
        let tools = Tools::build()?;
        let built = begin.elapsed();
        let begin = Instant::now();
        let stand = Arc::new(self.runtime.block_on(Stand::start(tools, &self.base))?);
        let started = begin.elapsed();
        eprintln!(
            "the control plane: tools {:.1} s, start {:.1} s, folder {}",
            built.as_secs_f64(),
            started.as_secs_f64(),
            stand.folder().display()
        );
        *slot = Some(Arc::clone(&stand));
        Ok(stand)
    }

    /// Stops the stand, if it was started. Its folder stays when something failed. Returns whether all is well.
    fn stop(&self, failed: bool) -> bool {
        let stand = self.stand.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(stand) = stand else { return true };
        let folder = stand.folder().to_owned();
        let begin = Instant::now();
        let stopped = match Arc::try_unwrap(stand) {
            Ok(stand) => self.runtime.block_on(stand.stop()),
            Err(_) => Err(anyhow::anyhow!("a scenario still holds the stand")),
        };
        if let Err(error) = &stopped {
            eprintln!("stopping the control plane: {error:#}");
        } else if failed {
            eprintln!("logs and data of the control plane: {}", folder.display());
        } else if let Err(error) = std::fs::remove_dir_all(&folder) {
            eprintln!("removing {}: {error}", folder.display());
        }
        eprintln!("the control plane: stopped in {:.1} s", begin.elapsed().as_secs_f64());
        stopped.is_ok()
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}
