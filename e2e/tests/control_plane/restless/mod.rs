//! Half an hour in which everything goes wrong that can, on a real control plane, then calm: no safety rule is broken
//! meanwhile, and everything converges. The simulated twin is `tests/simulation/power/restless.rs`.
//!
//! ```text
//!  Mishaps ──▶ pods, VMs, loads, cordons; SIGKILL; moods of BMCs          Witness ◀── watches of everything
//!     │                                                                      │
//!     ▼                                                                      ▼
//!  Stage: operators, wakers, agents (processes) ── machines, BMCs ──▶    Verdict ──▶ the table
//! ```
//!
//! `MIYAKO_RESTLESS_MINUTES` (30) and `MIYAKO_RESTLESS_SEED` (1) change it. What happens follows from the seed, when it
//! happens to whom from the real clock: a run can't be repeated to the letter.

#![allow(clippy::disallowed_methods, reason = "what arrives is dated by the real clock")]

mod bmc;
mod machines;
mod mishaps;
mod stage;
mod verdict;
mod witness;

use crate::sleep::is_marked;
use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use mishaps::Mishaps;
use miyako_api::consolidation_plan::PlanPhase;
use miyako_api::node_power::PowerPhase;
use miyako_api::{ConsolidationPlan, NodePower};
use miyako_e2e::child::Program;
use miyako_e2e::scene::Scene;
use miyako_e2e::wait::{Look, until};
use serde_json::json;
use stage::Stage;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, interval};

/// It must converge within this: a node that failed to wake is asked again after five minutes, and a wake that nobody
/// hears takes four.
const CALM: Duration = Duration::from_mins(20);

/// A whole number from the environment.
fn number(name: &str, otherwise: u64) -> anyhow::Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}: write a whole number")),
        Err(_) => Ok(otherwise),
    }
}

/// The full length, or what `MIYAKO_RESTLESS_MINUTES` says.
pub(crate) async fn half_an_hour(scene: Arc<Scene>) -> anyhow::Result<()> {
    let (minutes, seed) = (number("MIYAKO_RESTLESS_MINUTES", 30)?, number("MIYAKO_RESTLESS_SEED", 1)?);
    let mut stage = Stage::set(&scene).await?;
    stage.prove().await?;
    let mut mishaps = Mishaps::new(seed, &stage);
    mishaps.begin(&stage).await?;
    let (begun, mut seconds) = (Instant::now(), interval(Duration::from_secs(1)));
    let mut second = 0;
    while begun.elapsed() < Duration::from_secs(minutes * 60) {
        seconds.tick().await;
        mishaps.second(&mut stage, second).await?;
        second += 1;
    }
    mishaps.end(&mut stage).await?;
    stage.calm();
    let calm = Instant::now();
    let converged = converge(&stage).await;
    let settled = calm.elapsed();
    let awake = match converged {
        Ok(()) => hold(&stage).await,
        Err(error) => Err(error),
    };
    stage.verdict.count(|figures| figures.requests = stage.bmcs.taken());
    println!("\n{minutes} restless minutes of seed {seed}\n\n{}", stage.verdict.table());
    println!(
        "settled after {:.0} s of calm, all awake after {:.0} s",
        settled.as_secs_f64(),
        calm.elapsed().as_secs_f64()
    );
    awake?;
    stage.nothing_was_forbidden()?;
    let wrong = stage.verdict.wrong();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    ensure!(u64::from(stage.verdict.sleeps()) * 2 > minutes, "hardly anything slept");
    Ok(())
}

/// Nothing goes wrong any more: whatever waits for a node gets one, every plan ends, and every node comes to rest.
async fn converge(stage: &Stage) -> anyhow::Result<()> {
    const AT_REST: Duration = Duration::from_secs(20);
    let since: Mutex<Option<Instant>> = Mutex::new(None);
    until("it comes to rest", CALM, || async {
        let going_on = going_on(&stage.scene).await?;
        let mut since = since.lock().unwrap_or_else(PoisonError::into_inner);
        if !going_on.is_empty() {
            *since = None;
            return Ok(Look::NotYet(going_on.join("; ")));
        }
        let rests = *since.get_or_insert_with(Instant::now);
        Ok(Look::holds(rests.elapsed() >= AT_REST, "at rest, for a moment"))
    })
    .await
}

/// Whatever is not at rest.
async fn going_on(scene: &Scene) -> anyhow::Result<Vec<String>> {
    let (mut going_on, all) = (Vec::new(), ListParams::default());
    for pod in Api::<Pod>::namespaced(scene.admin(), scene.namespace()).list(&all).await? {
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        // Processes stand for the chart's own pods, some of which ask for more nodes of their kind than there are.
        if phase == "Pending" && !pod.name_any().starts_with("miyako-") {
            going_on.push(format!("{} is {phase}", pod.name_any()));
        }
    }
    for plan in Api::<ConsolidationPlan>::all(scene.admin()).list(&all).await? {
        let phase = plan.status.as_ref().and_then(|status| status.phase);
        if matches!(phase, None | Some(PlanPhase::Running)) {
            going_on.push(format!("the plan {} is {phase:?}", plan.name_any()));
        }
    }
    for power in Api::<NodePower>::all(scene.admin()).list(&all).await? {
        let status = power.status.clone().unwrap_or_default();
        let named = status.message.as_ref().is_some_and(|message| !message.is_empty());
        match status.phase {
            None | Some(PowerPhase::Awake | PowerPhase::Suspended) => {}
            Some(PowerPhase::Quarantined) if named => {}
            phase => going_on.push(format!("{} is {phase:?}: {:?}", power.name_any(), status.message)),
        }
    }
    Ok(going_on)
}

/// Somebody holds everything awake: all nodes come back, and nothing of ours is left on them.
async fn hold(stage: &Stage) -> anyhow::Result<()> {
    let scene = &stage.scene;
    let program = Program::new("hold", env!("CARGO_BIN_EXE_miyako-under-test"))
        .arg("hold")
        .flag("reason", "it is enough")
        .flag("namespace", scene.namespace())
        .env("KUBECONFIG", scene.stand().admin_kubeconfig());
    scene.run(&program, Duration::from_mins(1)).await?;
    until("all nodes are awake and clean", CALM, || async {
        let mut not_yet = Vec::new();
        for power in Api::<NodePower>::all(scene.admin()).list(&ListParams::default()).await? {
            let status = power.status.clone().unwrap_or_default();
            if status.phase.is_some_and(|phase| phase != PowerPhase::Awake) {
                not_yet.push(format!("{} is {:?}: {:?}", power.name_any(), status.phase, status.message));
            }
        }
        for node in Api::<Node>::all(scene.admin()).list(&ListParams::default()).await? {
            if is_marked(&node) {
                not_yet.push(json!({ "marked": node.name_any(), "spec": node.spec }).to_string());
            }
        }
        Ok(Look::holds(not_yet.is_empty(), not_yet.join("; ")))
    })
    .await
}
