//! A node that sleeps, and a VM that needs it.

use crate::moves::{arrived, overload, plan, programs, whole};
use anyhow::{Context as _, ensure};
use miyako_e2e::lab::energy::Power;
use miyako_e2e::lab::stand::{LabStand, Plan};
use miyako_e2e::scene::Scene;
use miyako_lab::qemu::migration::{Mode, Outcome};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// The nodes of the Energy paper (tables II and III).
const POWER: Power = Power { idle_watts: 53, full_watts: 100, asleep_watts: 7, suspend_seconds: 5, resume_seconds: 5 };

/// The Reactive profile's window.
const WINDOW: Duration = Duration::from_secs(5);

/// An empty node shows that it wakes, sleeps by policy with everything on it stopped, and is woken for an overload, before the
/// migration begins. Too long for every test run: a lease lapses twice.
pub(crate) async fn a_sleeper_is_woken_for_a_move(scene: Arc<Scene>) -> anyhow::Result<()> {
    let lab = LabStand::begin(&scene, &programs(), Plan { sleep: Some(POWER), ..plan(200_000_000) }).await?;
    // What booting took is no load.
    tokio::time::sleep(WINDOW * 2).await;
    lab.apply_policy(json!({
        "mode": "Automatic",
        "thresholds": { "idlePercent": 20 },
        "sleep": { "after": "10s", "leastAwake": "10s", "leastAsleep": "10s" },
    }))
    .await?;
    lab.wait_until_the_empty_sleep().await?;
    ensure!(lab.log.courses().is_empty(), "something moved before there was a reason: {:?}", lab.log.courses());
    overload(&lab).await?;
    let course = arrived(&lab, "vm-0", 1).await?;
    ensure!(course.outcome == Some(Outcome::Completed(Mode::PostCopy)), "{course:?}");
    ensure!(course.target == "dedicated-0", "it went to {}", course.target);

    let sleeps = lab.sleeps.sleeps();
    ensure!(sleeps.iter().all(|sleep| sleep.node == "dedicated-0"), "the shared node slept under its VMs: {sleeps:?}");
    let [test, last] = sleeps.as_slice() else { anyhow::bail!("a test and a sleep by policy, but: {sleeps:?}") };
    for sleep in [test, last] {
        ensure!(sleep.programs == 0 && sleep.used == Duration::ZERO, "VMs were on a node that slept: {sleep:?}");
    }
    let (pressed, awake) = last.pressed.zip(last.awake).context("nobody woke it")?;
    ensure!(awake - pressed >= POWER.resume(), "it was awake sooner than it can be: {last:?}");
    ensure!(course.asked >= awake, "the migration began before its target was awake: {last:?}, {course:?}");
    for vm in ["vm-0", "vm-1"] {
        whole(&lab, vm).await?;
    }
    lab.end()
}
