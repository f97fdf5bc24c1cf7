//! What is kept of a run: written as JSON, and read again to compare runs.

use super::scenario::{RunMode, Scenario};
use miyako::sim::kubevirt::Mode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The outcome of a migration that has none yet.
pub(super) const UNDER_WAY: &str = "under way";

/// Everything that is kept of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// What emulating a guest cost beside its benchmark, in cores.
    pub emulation: f64,
    /// In short.
    pub totals: Totals,
    /// Migrations in the order in which they were asked for.
    pub migrations: Vec<MigrationRow>,
    /// Times that nodes slept, those that began before the run too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sleeps: Vec<SleepRow>,
    /// Second by second.
    pub seconds: Vec<SecondRow>,
}

/// A machine without its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    /// Migrations that did not, or not yet.
    pub failures: usize,
    /// Node-seconds with a VM on the node (Reactive Cloud, Fig. 12).
    pub node_seconds: usize,
    /// Guests whose memory was checked at the end, page by page, and was right.
    pub guests_whole: usize,
    /// Guests whose memory was not, or could not be checked.
    pub guests_broken: Vec<String>,
    /// Times that a guest's memory was checked in the midst of the run, after a migration of its, and was right.
    pub hops_whole: usize,
    /// Steps that the operator's own check refused before anything was done.
    pub refused: u64,
    /// Safety rules that were broken, as the lab saw it.
    pub broken_rules: Vec<String>,
}

/// One second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecondRow {
    /// Cores of the machine that each node's VMs used.
    pub nodes: BTreeMap<String, f64>,
    /// VMs.
    pub vms: BTreeMap<String, VmRow>,
}

/// One VM in one second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VmRow {
    /// Where it ran.
    pub node: String,
    /// Operations achieved.
    pub achieved: f64,
    /// Operations targeted.
    pub target: f64,
}

/// One migration; moments are seconds since the run began.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    /// The source node's window was full and its average reached the threshold, for one that relieves it.
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

/// One time that a node slept; moments are seconds since the run began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SleepRow {
    /// The node.
    pub node: String,
    /// Its machine fell asleep.
    pub asleep: f64,
    /// Its button was pressed.
    pub pressed: Option<f64>,
    /// Its machine was awake again.
    pub awake: Option<f64>,
    /// Processes that were in its share for VMs at either end: there must be none.
    pub programs: usize,
    /// Seconds of CPU time that its VMs used meanwhile: none either.
    pub used: f64,
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

impl Results {
    /// What the names of its files begin with.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", self.scenario.name, self.mode)
    }
}

impl MigrationRow {
    /// It brought its VM to the target.
    #[must_use]
    pub fn arrived(&self) -> bool {
        [Mode::PreCopy, Mode::PostCopy, Mode::Paused].iter().any(|mode| self.outcome == mode.as_str())
    }

    /// It had not come to an end when the run did.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.outcome == UNDER_WAY
    }

    /// Where its time went, in seconds.
    #[must_use]
    pub fn parts(&self) -> Parts {
        let span = |from: Option<f64>, to: Option<f64>| Some(to? - from?);
        Parts {
            reaction: span(self.overloaded, self.requested),
            queue: span(self.requested, Some(self.handed_off)),
            target_start: span(Some(self.handed_off), self.ready),
            pre_copy: span(self.ready, self.stopped),
            downtime: span(self.stopped, self.resumed),
            rest: span(self.resumed, self.ended),
            until_running: span(self.requested, self.resumed),
        }
    }
}

/// The parts of a migration, in seconds, as far as it came.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Parts {
    /// From the full window to the VirtualMachineInstanceMigration.
    pub reaction: Option<f64>,
    /// Until virt-controller handed it off: the target pod was created, scheduled and ran.
    pub queue: Option<f64>,
    /// Until the target's QEMU listened and both proxies stood.
    pub target_start: Option<f64>,
    /// Until the guest stood still at the source.
    pub pre_copy: Option<f64>,
    /// Until it ran at the target.
    pub downtime: Option<f64>,
    /// What post-copy still fetched; until it was confirmed in pre-copy.
    pub rest: Option<f64>,
    /// From the VirtualMachineInstanceMigration to the guest running at the target: all but the first and the last.
    pub until_running: Option<f64>,
}
