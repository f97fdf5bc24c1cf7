//! What a run showed, second by second and migration by migration.

use super::hands::{Course, mode_name};
use super::scenario::{RunMode, Scenario};
use super::stand::LabStand;
use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use miyako_lab::guest::Second;
use miyako_lab::guest::channel::Check;
use miyako_lab::qemu::migration::Outcome;
use serde::Serialize;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Everything that is kept of a run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    /// How it was run: the command, to be repeated.
    pub command: String,
    /// The machine it ran on.
    pub machine: Machine,
    /// How VMs were moved.
    pub mode: RunMode,
    /// The scenario with its seed.
    pub scenario: Scenario,
    /// What guests' operations were sized by: busy loops, reads and writes in a second of a whole vCPU.
    pub speed: [u64; 3],
    /// In short.
    pub totals: Totals,
    /// Migrations in the order in which they were asked for.
    pub migrations: Vec<MigrationRow>,
    /// Second by second.
    pub seconds: Vec<SecondRow>,
}

/// A machine without its name.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// The CPU's model.
    pub cpu: String,
    /// How many there are.
    pub cpus: usize,
    /// The kernel's release.
    pub kernel: String,
    /// QEMU's version.
    pub qemu: String,
    /// The load average (1 min) when the run began: who else was at work.
    pub load_average: f64,
}

/// A run in short.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Operations that should have been achieved.
    pub target: f64,
    /// Operations that were not.
    pub failed: f64,
    /// The same in percent (Reactive Cloud, Figs. 9 and 10).
    pub failed_percent: f64,
    /// Migrations that brought their VM to its target.
    pub migrations: usize,
    /// Migrations that did not.
    pub failures: usize,
    /// Node-seconds with a VM on the node (Reactive Cloud, Fig. 12).
    pub node_seconds: usize,
    /// Guests whose memory was checked at the end, page by page, and was right.
    pub guests_whole: usize,
    /// Guests whose memory was not, or could not be checked.
    pub guests_broken: Vec<String>,
}

/// One second.
#[derive(Debug, Clone, Serialize)]
pub struct SecondRow {
    /// Cores of the machine that each node's VMs used.
    pub nodes: BTreeMap<String, f64>,
    /// VMs.
    pub vms: BTreeMap<String, VmRow>,
}

/// One VM in one second.
#[derive(Debug, Clone, Serialize)]
pub struct VmRow {
    /// Where it ran.
    pub node: String,
    /// Operations achieved.
    pub achieved: f64,
    /// Operations targeted.
    pub target: f64,
}

/// One migration; moments are seconds since the run began.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationRow {
    /// The VM.
    pub vm: String,
    /// From.
    pub source: String,
    /// To.
    pub target: String,
    /// How it went, or how far it came.
    pub outcome: String,
    /// The load of the source node over the last five seconds reached the threshold, for one that relieves it.
    pub overloaded: Option<f64>,
    /// The VirtualMachineInstanceMigration was seen.
    pub requested: Option<f64>,
    /// virt-controller handed it off: KubeVirt's queue and the scheduler are behind it.
    pub handed_off: f64,
    /// The target listened.
    pub ready: Option<f64>,
    /// QEMU was told to migrate.
    pub started: Option<f64>,
    /// Rounds over the memory.
    pub rounds: u64,
    /// The guest stood still at the source.
    pub stopped: Option<f64>,
    /// The guest ran at the target.
    pub resumed: Option<f64>,
    /// It was over.
    pub ended: Option<f64>,
    /// Bytes of memory that were sent.
    pub sent: u64,
}

/// A sample of the nodes.
#[derive(Debug, Clone)]
struct Sample {
    nodes: BTreeMap<String, f64>,
    places: BTreeMap<String, String>,
}

/// Watches a run until it is dropped.
pub struct Recorder {
    begin: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
    requests: Arc<Mutex<BTreeMap<String, Instant>>>,
    tasks: [AbortHandle; 2],
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// Begins to watch.
    #[must_use]
    pub fn begin(lab: &LabStand, begin: Instant) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::new(Mutex::new(BTreeMap::new()));
        let machines = lab.machines.clone();
        let kept = Arc::clone(&samples);
        let sampling = tokio::spawn(async move {
            let read = || {
                let used =
                    machines.nodes().iter().map(|(name, node)| (name.clone(), node.cpu_time().unwrap_or_default()));
                (Instant::now(), used.collect::<BTreeMap<String, Duration>>())
            };
            let mut ticks = interval_at(begin, Duration::from_secs(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            ticks.tick().await;
            let mut before = read();
            loop {
                ticks.tick().await;
                let now = read();
                let span = now.0.duration_since(before.0).as_secs_f64().max(1e-3);
                let used = |name: &String| now.1[name].saturating_sub(before.1[name]).as_secs_f64() / span;
                let nodes = now.1.keys().map(|name| (name.clone(), used(name))).collect();
                lock(&kept).push(Sample { nodes, places: machines.places() });
                before = now;
            }
        });
        let (migrations, seen) = (lab.migrations(), Arc::clone(&requests));
        let watching = tokio::spawn(async move {
            let mut events = pin!(watcher(migrations, Config::default()));
            while let Some(event) = events.next().await {
                if let Ok(Event::Apply(migration) | Event::InitApply(migration)) = event {
                    lock(&seen).entry(migration.uid().unwrap_or_default()).or_insert_with(Instant::now);
                }
            }
        });
        Self { begin, samples, requests, tasks: [sampling.abort_handle(), watching.abort_handle()] }
    }

    /// The newest sample in words, for progress.
    #[must_use]
    pub fn line(&self) -> String {
        let samples = lock(&self.samples);
        let Some(last) = samples.last() else { return String::new() };
        let node = |(name, cores): (&String, &f64)| {
            let vms = last.places.iter().filter(|(_, place)| *place == name).map(|(vm, _)| vm.as_str());
            format!("{name} {cores:.2} [{}]", vms.collect::<Vec<_>>().join(" "))
        };
        last.nodes.iter().map(node).collect::<Vec<_>>().join("  ")
    }

    /// Second by second, for the first `count` seconds.
    #[must_use]
    pub fn seconds(&self, lab: &LabStand, count: usize) -> Vec<SecondRow> {
        let ledgers: BTreeMap<&String, Vec<Second>> = lab
            .machines
            .guests()
            .iter()
            .map(|(name, guest)| (name, guest.ledger().seconds(self.begin, count)))
            .collect();
        let samples = lock(&self.samples);
        let row = |(index, sample): (usize, &Sample)| {
            let vm = |(name, seconds): (&&String, &Vec<Second>)| {
                let node = sample.places.get(*name).cloned().unwrap_or_default();
                let Second { achieved, target } = seconds[index];
                ((*name).clone(), VmRow { node, achieved, target })
            };
            SecondRow { nodes: sample.nodes.clone(), vms: ledgers.iter().map(vm).collect() }
        };
        samples.iter().take(count).enumerate().map(row).collect()
    }

    /// The migrations that began within the run.
    #[must_use]
    pub fn migrations(&self, courses: &[Course], seconds: &[SecondRow], core: f64) -> Vec<MigrationRow> {
        let requests = lock(&self.requests);
        let since = |at: Instant| match at.checked_duration_since(self.begin) {
            Some(after) => after.as_secs_f64(),
            None => -self.begin.duration_since(at).as_secs_f64(),
        };
        let row = |course: &Course| {
            let times = course.times.as_ref();
            let requested = requests.get(&course.uid).map(|at| since(*at));
            MigrationRow {
                vm: course.vm.clone(),
                source: course.source.clone(),
                target: course.target.clone(),
                outcome: outcome_of(course),
                overloaded: requested.and_then(|until| overloaded_since(seconds, &course.source, core, until)),
                requested,
                handed_off: since(course.asked),
                ready: course.ready.map(since),
                started: times.map(|times| since(times.started)),
                rounds: course.rounds,
                stopped: times.and_then(|times| times.stopped).map(since),
                resumed: times.and_then(|times| times.resumed).map(since),
                ended: times.and_then(|times| times.ended).map(since),
                sent: course.sent,
            }
        };
        courses.iter().map(row).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// When the window over a node's load was full and above the threshold, last before a migration was asked for: the
/// Reactive profile's five seconds and 90 %. None if the node is not overloaded then, as when an idle VM returns.
fn overloaded_since(seconds: &[SecondRow], node: &str, core: f64, until: f64) -> Option<f64> {
    const WINDOW: usize = 5;
    const THRESHOLD: f64 = 0.9;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // seconds of a run
    let until = (until.max(0.0).ceil() as usize).min(seconds.len());
    let full = |end: usize| {
        let load = |row: &SecondRow| row.nodes.get(node).copied().unwrap_or(0.0);
        end >= WINDOW && seconds[end - WINDOW..end].iter().map(load).sum::<f64>() >= THRESHOLD * core * WINDOW as f64
    };
    let last = (0..=until).rev().find(|end| full(*end))?;
    // One that ended long ago was another.
    if until - last > WINDOW {
        return None;
    }
    let first = (0..=last).rev().take_while(|end| full(*end)).last()?;
    Some(first as f64)
}

fn outcome_of(course: &Course) -> String {
    match (&course.outcome, &course.failure) {
        (Some(Outcome::Completed(mode)), _) => mode_name(*mode).to_owned(),
        (Some(Outcome::Cancelled), _) => "cancelled".to_owned(),
        (Some(Outcome::Failed(cause)), _) => format!("failed: {cause:?}"),
        (Some(Outcome::Lost(cause)), _) => format!("lost: {cause:?}"),
        (None, Some(failure)) => format!("did not begin: {failure}"),
        (None, None) => "under way".to_owned(),
    }
}

/// Sums a run up. `checks` are the guests' checks after its end.
#[must_use]
pub fn totals(seconds: &[SecondRow], courses: &[Course], checks: BTreeMap<String, anyhow::Result<Check>>) -> Totals {
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
    }
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let qemu = std::process::Command::new("qemu-system-x86_64").arg("--version").output();
        let qemu = qemu.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        Self {
            cpu: model.map_or("unknown", |(_, model)| model).to_owned(),
            cpus: cpus.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            qemu: qemu.lines().next().unwrap_or("unknown").to_owned(),
            load_average: read("/proc/loadavg").split(' ').next().and_then(|one| one.parse().ok()).unwrap_or(0.0),
        }
    }
}
