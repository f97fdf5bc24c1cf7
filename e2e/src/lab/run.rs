//! Runs a scenario in one mode.

use super::audit::broken_rules;
use super::hands::Course;
use super::record::Recorder;
use super::results::{Machine, Results, SecondRow, Totals};
use super::scenario::{Calibration, RunMode, Scenario};
use super::stand::{LabStand, Programs};
use super::swing::swing;
use crate::scene::Scene;
use anyhow::Context as _;
use miyako_lab::guest::channel::{Check, Permille, Speed};
use miyako_lab::guest::{Boot, Guest, Image, whole};
use miyako_lab::qemu::migration::Outcome;
use miyako_lab::qemu::{self, Spec};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// How long a guest may take for what it is asked, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// From the last preparation to the first second.
const RUN_UP: Duration = Duration::from_secs(3);
/// How often progress is told.
const TOLD_EVERY: usize = 10;
/// What guests report of a second arrives a little later.
const LAST_REPORTS: Duration = Duration::from_millis(500);

/// How long a guest is measured at each load.
const MEASURED_FOR: Duration = Duration::from_secs(8);
/// The loads at which it is measured, in thousandths of a virtual CPU: nearly idle, and as busy as in a run.
const MEASURED_AT: [u64; 2] = [20, 450];

/// What one virtual CPU of this machine gets done, alone and without a quota, and what emulating it costs. Measured anew,
/// because a machine that is shared with others is not always as fast, and by a guest as the scenario's first: writes
/// cost the more the larger the working set is.
///
/// # Errors
/// When no guest boots.
pub async fn calibrate(scenario: &Scenario) -> anyhow::Result<Calibration> {
    let image = tokio::task::spawn_blocking(Image::make).await??;
    let folder = tempfile::Builder::new().prefix("mlab-speed-").tempdir()?;
    let vm = scenario.vms.first().context("no VM")?;
    let boot = Boot { pages: vm.pages(), intensity: vm.intensity(), ..Boot::default() };
    let spec = Spec::new("speed", folder.path(), image, boot);
    let machine = qemu::Machine::launch(spec).await?;
    let guest = Guest::new("speed");
    guest.attach(machine.spec().guest_socket());
    // A guest measures itself at boot, in bursts of milliseconds and by its clock. What counts is the CPU time that an
    // operation costs when the guest works as in a run, where it is often interrupted.
    let burst = guest.booted(PATIENCE).await?.speed;
    let mut used = Vec::new();
    for thousandths in MEASURED_AT {
        let load = Permille::new(thousandths).context("a load")?;
        guest.set_load(load, PATIENCE).await?;
        sleep(RUN_UP).await;
        let pid = machine.process().pid();
        let (begin, before) = (Instant::now(), cpu_time(pid)?);
        let first = guest.reports(PATIENCE).await?;
        sleep(MEASURED_FOR).await;
        let last = guest.reports(PATIENCE).await?;
        let cores = (cpu_time(pid)? - before).as_secs_f64() / begin.elapsed().as_secs_f64();
        let done = (last.operations - first.operations) as f64 / (last.uptime_ms - first.uptime_ms).max(1) as f64;
        used.push((done, cores));
    }
    Ok(calibrated(burst, used[0], used[1]))
}

/// What follows from two loads: operations a millisecond, which are whole virtual CPUs as far as the bursts go, and the
/// cores that were used for them.
fn calibrated(burst: Speed, (few, idle): (f64, f64), (many, busy): (f64, f64)) -> Calibration {
    let cost = ((busy - idle) / (many - few).max(1e-3)).clamp(0.1, 10.0);
    let lasting = |burst: u64| whole(burst as f64 / cost);
    let speed = Speed { loops: lasting(burst.loops), reads: lasting(burst.reads), writes: lasting(burst.writes) };
    Calibration { speed, emulation: (idle - few * cost).max(0.0) }
}

/// The CPU time of all threads of a process that still live.
fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that ends between two looks was no virtual CPU.
        let text = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        sum += text.split(' ').next().and_then(|used| used.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(Duration::from_nanos(sum))
}

/// Runs it and returns what it showed. `tell` prints progress.
///
/// # Errors
/// When the lab does not come up, or something of it stays behind.
pub async fn run(
    scene: &Arc<Scene>,
    programs: &Programs,
    (scenario, mode): (&Scenario, RunMode),
    (command, calibration): (&str, &Calibration),
    tell: impl Fn(&str),
) -> anyhow::Result<Results> {
    let machine = Machine::this();
    tell("building the lab: nodes, KubeVirt, the operator, agents and guests");
    let lab = Arc::new(LabStand::begin(scene, programs, scenario.plan(mode, calibration)).await?);
    if scenario.power.is_some() {
        begin_loads(&lab, scenario, calibration).await?;
        // What booting took is no load.
        sleep(Duration::from_secs_f64(scenario.detection().window) + RUN_UP).await;
    }
    if let Some(policy) = scenario.policy(mode) {
        lab.apply_policy(policy).await?;
    }
    if lab.plan().sleep.is_some() {
        tell("waiting for nodes that nobody needs to fall asleep");
        lab.wait_until_the_empty_sleep().await?;
    }
    let begin = Instant::now() + RUN_UP;
    let recorder = Recorder::begin(&lab, begin);
    let (seconds, hops_whole) = tokio::select! {
        played = play(&lab, scenario, calibration, begin) => played?,
        never = progress(&recorder, begin, &tell) => never,
    };
    let seconds = recorder.seconds(&lab, seconds);
    tell(&format!("{:>4} s  checking every guest's memory", seconds.len()));
    let checks = check_all(&lab, scenario).await;
    let courses = lab.log.courses();
    let migrations = recorder.migrations(&courses, scenario.core, scenario.detection());
    let sleeps = recorder.sleeps(&lab.sleeps.sleeps());
    drop(recorder);
    let refused = refused(&lab.operator.get("/metrics").await?.1);
    let broken_rules = broken_rules(scenario, &migrations, &sleeps, &seconds);
    let results = Results {
        command: command.to_owned(),
        machine,
        mode,
        scenario: scenario.clone(),
        speed: [calibration.speed.loops, calibration.speed.reads, calibration.speed.writes],
        emulation: calibration.emulation,
        totals: Totals { hops_whole, refused, broken_rules, ..totals(&seconds, &courses, checks) },
        migrations,
        sleeps,
        seconds,
    };
    let lab = Arc::into_inner(lab).context("something still holds the lab")?;
    lab.end().context("the lab's end")?;
    Ok(results)
}

/// Lets each guest begin with its first load, so that the operator does not take it for another.
async fn begin_loads(lab: &LabStand, scenario: &Scenario, calibration: &Calibration) -> anyhow::Result<()> {
    for (vm, script) in scenario.vms.iter().zip(scenario.scripts(calibration)?) {
        if let Some((_, load)) = script.steps().first() {
            lab.guest(&vm.name)?.set_load(*load, PATIENCE).await?;
        }
    }
    Ok(())
}

/// Plays the loads until the run is over. Returns its seconds, and how many checks within it found memory whole.
async fn play(
    lab: &Arc<LabStand>,
    scenario: &Scenario,
    calibration: &Calibration,
    begin: Instant,
) -> anyhow::Result<(usize, usize)> {
    let longest = usize::try_from(scenario.seconds)?;
    let end = begin + Duration::from_secs(u64::from(scenario.seconds));
    if scenario.swinging.is_some() {
        sleep_until(begin).await;
        let swinging = timeout_at(end, swing(lab, scenario, *calibration));
        let hops = swinging.await.with_context(|| format!("not done after {longest} s: {:?}", lab.log.courses()))??;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // seconds of a run
        return Ok((begin.elapsed().as_secs_f64() as usize, hops));
    }
    let mut guests = JoinSet::new();
    for (vm, script) in scenario.vms.iter().zip(scenario.scripts(calibration)?) {
        let guest = lab.guest(&vm.name)?.clone();
        guests.spawn(async move {
            sleep_until(begin).await;
            guest.follow(&script, begin).await;
        });
    }
    sleep_until(end + LAST_REPORTS).await;
    Ok((longest, 0))
}

/// Tells every now and then where everything is, for ever.
async fn progress<T>(recorder: &Recorder, begin: Instant, tell: &impl Fn(&str)) -> T {
    for second in (0..).step_by(TOLD_EVERY) {
        sleep_until(begin + Duration::from_secs(second)).await;
        tell(&format!("{second:>4} s  {}", recorder.line()));
    }
    unreachable!("the seconds have no end")
}

/// How many steps the operator's own check refused, by its metrics.
fn refused(metrics: &str) -> u64 {
    let counts = metrics.lines().filter(|line| line.starts_with("miyako_refusals_total"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
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

/// Sums a run up. `checks` are the guests' checks after its end.
fn totals(seconds: &[SecondRow], courses: &[Course], checks: BTreeMap<String, anyhow::Result<Check>>) -> Totals {
    let (mut target, mut failed, mut node_seconds) = (0.0, 0.0, 0);
    for row in seconds {
        for vm in row.vms.values() {
            target += vm.target;
            failed += (vm.target - vm.achieved).max(0.0);
        }
        let used = |node: &&String| row.vms.values().any(|vm| vm.node == **node);
        node_seconds += row.nodes.keys().filter(used).count();
    }
    let arrived = |course: &&Course| matches!(course.outcome, Some(Outcome::Completed(_)));
    let migrations = courses.iter().filter(arrived).count();
    let broken = checks.iter().filter_map(|(vm, check)| match check {
        Ok(check) if check.is_good() => None,
        Ok(check) => Some(format!("{vm}: {check:?}")),
        Err(error) => Some(format!("{vm}: {error:#}")),
    });
    let guests_broken: Vec<String> = broken.collect();
    Totals {
        target,
        failed,
        failed_percent: if target > 0.0 { 100.0 * failed / target } else { 0.0 },
        migrations,
        failures: courses.len() - migrations,
        node_seconds,
        guests_whole: checks.len() - guests_broken.len(),
        guests_broken,
        ..Totals::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_emulation_costs_is_no_work() {
        let burst = Speed { loops: 1000, reads: 2000, writes: 3000 };
        // Operations cost a quarter more than bursts let expect, beside three hundredths of a core.
        let Calibration { speed, emulation } = calibrated(burst, (0.02, 0.055), (0.45, 0.5925));
        assert_eq!(speed, Speed { loops: 800, reads: 1600, writes: 2400 });
        assert!((emulation - 0.03).abs() < 1e-9, "{emulation}");
    }
}
