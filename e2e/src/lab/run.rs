//! Runs a scenario in one mode.

use super::record::{Machine, Recorder, Results, totals};
use super::scenario::{RunMode, Scenario};
use super::stand::{LabStand, Programs};
use crate::scene::Scene;
use anyhow::Context as _;
use miyako_lab::guest::channel::{Check, Permille, Speed};
use miyako_lab::guest::{Boot, Guest, Image};
use miyako_lab::qemu::{self, Spec};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How long a guest may take for what it is asked, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// From the last preparation to the first second.
const RUN_UP: Duration = Duration::from_secs(3);
/// How often progress is told.
const TOLD_EVERY: u64 = 10;

/// What one virtual CPU of this machine gets done, alone and without a quota: what the guests' operations are sized by.
/// Measured anew, because a machine that is shared with others is not always as fast.
///
/// # Errors
/// When no guest boots.
pub async fn measure_speed() -> anyhow::Result<Speed> {
    let image = tokio::task::spawn_blocking(Image::make).await??;
    let folder = tempfile::Builder::new().prefix("mlab-speed-").tempdir()?;
    let spec = Spec::new("speed", folder.path(), image, Boot { pages: 8192, ..Boot::default() });
    let machine = qemu::Machine::launch(spec).await?;
    let guest = Guest::new("speed");
    guest.attach(machine.spec().guest_socket());
    Ok(guest.booted(PATIENCE).await?.speed)
}

/// Runs it and returns what it showed. `tell` prints progress.
///
/// # Errors
/// When the lab does not come up, or something of it stays behind.
pub async fn run(
    scene: &Arc<Scene>,
    programs: &Programs,
    (scenario, mode): (&Scenario, RunMode),
    (command, speed): (&str, Speed),
    tell: impl Fn(&str),
) -> anyhow::Result<Results> {
    let machine = Machine::this();
    tell("building the lab: nodes, KubeVirt, the operator, agents and guests");
    let lab = LabStand::begin(scene, programs, scenario.plan(speed)).await?;
    if let Some(policy) = scenario.policy(mode) {
        lab.apply_policy(policy).await?;
    }
    let begin = Instant::now() + RUN_UP;
    let recorder = Recorder::begin(&lab, begin);
    let mut guests = JoinSet::new();
    for (vm, script) in scenario.vms.iter().zip(scenario.scripts()?) {
        let guest = lab.guest(&vm.name)?.clone();
        guests.spawn(async move {
            sleep_until(begin).await;
            guest.follow(&script, begin).await;
        });
    }
    let count = u64::from(scenario.seconds);
    for second in (0..=count).step_by(usize::try_from(TOLD_EVERY)?).chain([count]) {
        sleep_until(begin + Duration::from_secs(second)).await;
        tell(&format!("{second:>4} s  {}", recorder.line()));
    }
    let seconds = recorder.seconds(&lab, usize::try_from(count)?);
    guests.abort_all();
    tell("checking every guest's memory");
    let checks = check_all(&lab, scenario).await;
    let courses = lab.log.courses();
    let results = Results {
        command: command.to_owned(),
        machine,
        mode,
        scenario: scenario.clone(),
        speed: [speed.loops, speed.reads, speed.writes],
        totals: totals(&seconds, &courses, checks),
        migrations: recorder.migrations(&courses, &seconds, scenario.core),
        seconds,
    };
    drop(recorder);
    lab.end().context("the lab's end")?;
    Ok(results)
}

/// Makes every guest idle, so that checks are quick, and lets each look at every page of its memory.
async fn check_all(lab: &LabStand, scenario: &Scenario) -> BTreeMap<String, anyhow::Result<Check>> {
    let mut checks = BTreeMap::new();
    for vm in &scenario.vms {
        let check = async {
            let guest = lab.guest(&vm.name)?;
            guest.set_load(Permille::default(), PATIENCE).await?;
            let check = guest.check(PATIENCE).await?;
            anyhow::ensure!(guest.ran_twice().is_none(), "it ran on two machines at once");
            Ok(check)
        };
        checks.insert(vm.name.clone(), check.await);
    }
    checks
}
