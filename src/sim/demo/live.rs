//! The demo with its page: the world on a thread of its own, whose time passes as fast as the page says.

use super::mishaps::Mishaps;
use super::{DemoArgs, DemoError, OPERATOR, scenario};
use crate::sim::simulation::Simulation;
use crate::sim::simulation::paused_runtime;
use crate::web::{self, Site, Speed};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A standing world looks so often whether it may go on.
const STANDING: Duration = Duration::from_millis(50);
/// A world that lags behind its speed by more than this does not catch up.
const MOST_LAG: Duration = Duration::from_millis(200);

pub(super) fn run(args: &DemoArgs, out: &mut dyn Write) -> Result<ExitCode, DemoError> {
    let stop = Arc::new(AtomicBool::new(false));
    let speed = Speed::new(args.speed);
    let (begun, site) = oneshot::channel();
    let world = {
        let (stop, speed, args) = (stop.clone(), speed.clone(), args.clone());
        let thread = std::thread::Builder::new().name("world".to_owned());
        let world = move || paused_runtime().map_err(DemoError::Runtime)?.block_on(go(&args, &speed, &stop, begun));
        thread.spawn(world).map_err(DemoError::Runtime)?
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DemoError::Runtime)?;
    let served = runtime.block_on(serve(args, site, out));
    stop.store(true, Ordering::Relaxed);
    let ended = world.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    ended.and(served).map(|()| ExitCode::SUCCESS)
}

/// Serves the page until Ctrl-C, SIGTERM or the end of the world.
async fn serve(args: &DemoArgs, site: oneshot::Receiver<Site>, out: &mut dyn Write) -> Result<(), DemoError> {
    use tokio::signal::unix::{SignalKind, signal};
    let listening = TcpListener::bind(args.listen).await;
    let listener = listening.map_err(|source| DemoError::Listen { address: args.listen, source })?;
    let address = listener.local_addr().map_err(|source| DemoError::Listen { address: args.listen, source })?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DemoError::Signal)?;
    // Without a sender the world has ended, and its thread says why.
    let Ok(site) = site.await else { return Ok(()) };
    let mut view = site.view.clone();
    writeln!(out, "The demo runs at http://{address}/ (seed {}); Ctrl-C ends it.", args.seed)?;
    out.flush()?;
    let world_ends = async { while view.changed().await.is_ok() {} };
    tokio::select! {
        biased;
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(DemoError::Signal)?,
        _ = terminate.recv() => {}
        () = world_ends => {}
        ended = web::serve(listener, site) => ended.map_err(DemoError::Serve)?,
    }
    Ok(())
}

/// Lets the world go on, second by second.
#[allow(clippy::disallowed_methods, reason = "simulated time is paced by the real one; nothing is decided by it")]
async fn go(args: &DemoArgs, speed: &Speed, stop: &AtomicBool, begun: oneshot::Sender<Site>) -> Result<(), DemoError> {
    let mut simulation = Simulation::begin(scenario(args.seed, args.profile.of_policy())).await?;
    simulation.start_operator(OPERATOR)?;
    if let Some(operator) = simulation.operator(OPERATOR) {
        // If nobody takes it, the page could not be served, and `stop` is set.
        let _ = begun.send(Site {
            metrics: operator.metrics.clone(),
            view: operator.view.clone(),
            onlookers: operator.onlookers.clone(),
            ready: Arc::new(|| Ok(())),
            speed: Some(speed.clone()),
        });
    }
    let mut mishaps = Mishaps::new(args.seed);
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let rest = due.saturating_duration_since(Instant::now());
        if speed.get() == 0 || rest > STANDING {
            // Nobody else is on this thread, so it may simply sleep.
            std::thread::sleep(STANDING.min(if speed.get() == 0 { STANDING } else { rest }));
            continue;
        }
        std::thread::sleep(rest);
        simulation.second().await?;
        mishaps.second(&mut simulation);
        let now = Instant::now();
        due = (due + Duration::from_secs(1) / speed.get().max(1)).max(now.checked_sub(MOST_LAG).unwrap_or(now));
    }
    Ok(())
}
