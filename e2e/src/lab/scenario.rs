//! Scenarios as files: nodes, VMs, and the load of each VM over time.
//!
//! Loads are shares of a *core of the lab*, which is a part of a real one ([`Scenario::core`]): so that nodes with a core
//! each, all busy, fit on a machine with two. What a guest is told is the share times that part.

use super::energy::Power;
use super::stand::{NodePlan, Plan, Role, VmPlan};
use anyhow::{Context as _, ensure};
use miyako_lab::guest::channel::{Intensity, Permille, Speed};
use miyako_lab::guest::{Boot, Script};
use miyako_lab::node::NodeSpec;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// How VMs are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RunMode {
    /// Relief and return by post-copy.
    PostCopy,
    /// Relief and return by post-copy, and nobody sleeps.
    PostCopyAwake,
    /// By pre-copy.
    PreCopy,
    /// As Miyako does by itself: relief by post-copy, return by pre-copy.
    Auto,
    /// Not at all: no consolidation, every VM stays where it began.
    None,
}

impl std::fmt::Display for RunMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PostCopy => "post-copy",
            Self::PostCopyAwake => "post-copy-awake",
            Self::PreCopy => "pre-copy",
            Self::Auto => "auto",
            Self::None => "none",
        })
    }
}

/// When the operator takes a node for overloaded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Seconds that the load is averaged over.
    pub window: f64,
    /// The share of the node's core from which on it is too much.
    pub threshold: f64,
}

/// What this machine makes of a guest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// What a whole virtual CPU gets done in a second: operations are sized by it.
    pub speed: Speed,
    /// What emulating a guest costs beside its benchmark, in cores: timers, wake-ups, reports. A guest with hardly any
    /// load uses this much, so it is part of every load.
    pub emulation: f64,
}

/// A scenario's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Its name, which begins the names of its results.
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// How long it runs, in seconds.
    pub seconds: u32,
    /// What a core of the lab is, in real ones: the CPU quota of each node.
    pub core: f64,
    /// The share of `core` that a VM with a load of 100 % uses, its emulation included; the rest is room for inaccuracy.
    pub full_load: f64,
    /// Each node's link in each direction, in megabits per second.
    pub link_mbit: u64,
    /// Nodes by role.
    pub nodes: Nodes,
    /// VMs.
    pub vms: Vec<VmLoad>,
    /// The seed of random loads and of the guests' memory.
    #[serde(default = "first_seed")]
    pub seed: u64,
    /// Merged into the ConsolidationPolicy's spec.
    #[serde(default)]
    pub policy: Value,
    /// The KubeVirt CR's `spec.configuration.migrations`.
    #[serde(default)]
    pub kubevirt: Value,
    /// What nodes draw, where empty ones sleep in the modes in which VMs move. Loads begin before the run then, and it
    /// begins when all nodes sleep that nobody needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// Swinging VMs, of which so many are on their way at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swinging: Option<Swinging>,
}

/// Loads that answer to what the operator does, so that VMs move as often as they may: busy until the VM has left its
/// shared node, calm until it is back, with a check of its memory after each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Swinging {
    /// Percent of a core of the lab while it is to leave.
    pub busy: u32,
    /// While it is to return.
    pub calm: u32,
    /// While others have their turn.
    pub waiting: u32,
    /// How many have their turn at once.
    pub at_once: usize,
    /// The run ends with so many migrations that arrived.
    pub migrations: usize,
}

fn first_seed() -> u64 {
    1
}

fn first_node() -> String {
    "shared-0".to_owned()
}

/// How many nodes of each role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Nodes {
    /// For idle VMs.
    pub shared: u8,
    /// For busy VMs.
    pub dedicated: u8,
}

/// A VM and its load over time, in steps or at random.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VmLoad {
    /// Its name.
    pub name: String,
    /// Where it begins.
    #[serde(default = "first_node")]
    pub node: String,
    /// Its working set in MiB.
    pub memory_mib: u32,
    /// What its operations do with memory.
    #[serde(default)]
    pub kind: Kind,
    /// Instead of a kind: how many pages they write per busy loop (α of Reactive Cloud §4.1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Percent from a second on: `{0: 10, 60: 95}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<u32, u32>,
    /// Random, as in Reactive Cloud §4.1.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<Random>,
}

/// What operations do with memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Nothing.
    #[default]
    BusyLoop,
    /// They read it.
    ReadMostly,
    /// They write it: α = 1.
    WriteHeavy,
    /// They do both.
    Mixed,
}

/// Random loads: active or not, for a while, with a load of its own each time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Random {
    /// The probability to be active, in percent.
    pub active_percent: u8,
    /// The load while active, from and to.
    pub active: [u32; 2],
    /// The load while not.
    pub idle: [u32; 2],
    /// How long a state lasts, in seconds.
    pub seconds: [u32; 2],
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// Says what is wrong with it, and where.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let scenario: Self = serde_yaml::from_str(&text).with_context(|| path.display().to_string())?;
        scenario.check().with_context(|| path.display().to_string())?;
        Ok(scenario)
    }

    fn check(&self) -> anyhow::Result<()> {
        let plain =
            |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        ensure!(!self.name.is_empty() && plain(&self.name), "name: write lower-case letters, digits and hyphens");
        ensure!((1..=86_400).contains(&self.seconds), "seconds: write from 1 to 86400");
        ensure!(self.core > 0.0 && self.core <= 1.0, "core: write a part of a real core, such as 0.5");
        ensure!(self.full_load > 0.0 && self.full_load <= 1.0, "fullLoad: write a share of the core, such as 0.9");
        ensure!((1..=100_000).contains(&self.link_mbit), "linkMbit: write from 1 to 100000");
        ensure!(
            self.nodes.shared >= 1 && self.nodes.shared + self.nodes.dedicated <= 16,
            "nodes: write 1 to 16, one shared"
        );
        ensure!(!self.vms.is_empty() && self.vms.len() <= 64, "vms: write 1 to 64");
        for (index, vm) in self.vms.iter().enumerate() {
            ensure!(
                !vm.name.is_empty() && plain(&vm.name),
                "vms[{index}].name: write lower-case letters, digits and hyphens"
            );
            ensure!(
                self.vms[..index].iter().all(|other| other.name != vm.name),
                "vms[{index}].name: {} is taken",
                vm.name
            );
            let is = |role: &str, count: u8| (0..count).any(|number| vm.node == format!("{role}-{number}"));
            let known = is("shared", self.nodes.shared) || is("dedicated", self.nodes.dedicated);
            ensure!(known, "vms[{index}].node: write shared-0 or another node");
            vm.check(self.swinging.is_some()).with_context(|| format!("vms[{index}]"))?;
        }
        if let Some(power) = &self.power {
            power.check()?;
        }
        if let Some(swinging) = self.swinging {
            ensure!(swinging.at_once >= 1, "swinging.atOnce: write at least 1");
            ensure!(
                swinging.busy.max(swinging.calm).max(swinging.waiting) <= 1000,
                "swinging: write at most 1000 percent"
            );
        }
        Ok(())
    }

    /// What the lab has to be made of. Each guest's operations are sized by the same speed, so that they count alike.
    #[must_use]
    pub fn plan(&self, mode: RunMode, machine: &Calibration) -> Plan {
        let named = |role: Role, name: &str, count: u8| -> Vec<NodePlan> {
            let spec = |index| NodeSpec {
                name: format!("{name}-{index}"),
                cores: self.core,
                link: Some(self.link_mbit * 1_000_000),
            };
            (0..count).map(|index| NodePlan { spec: spec(index), role }).collect()
        };
        let mut nodes = named(Role::Shared, "shared", self.nodes.shared);
        nodes.extend(named(Role::Dedicated, "dedicated", self.nodes.dedicated));
        let vms = self.vms.iter().zip(self.seed..);
        let vms = vms.map(|(vm, seed)| VmPlan {
            name: vm.name.clone(),
            node: vm.node.clone(),
            boot: Boot {
                pages: vm.pages(),
                seed,
                // Quiet until the run begins.
                load: self.permille(5, machine),
                intensity: vm.intensity(),
                speed: Some(machine.speed),
            },
        });
        let vms = vms.collect();
        let sleep = self.power.filter(|_| !matches!(mode, RunMode::None | RunMode::PostCopyAwake));
        Plan { nodes, vms, sleep, migrations: if self.kubevirt.is_null() { json!({}) } else { self.kubevirt.clone() } }
    }

    /// The policy's spec for a mode; none without consolidation.
    #[must_use]
    pub fn policy(&self, mode: RunMode) -> Option<Value> {
        let choice = match mode {
            RunMode::PostCopy | RunMode::PostCopyAwake => "PostCopy",
            RunMode::PreCopy => "PreCopy",
            RunMode::Auto => "Auto",
            RunMode::None => return None,
        };
        let mut policy = json!({ "mode": "Automatic", "migration": { "mode": choice } });
        if let (Some(policy), Some(more)) = (policy.as_object_mut(), self.policy.as_object()) {
            policy.extend(more.clone());
        }
        Some(policy)
    }

    /// When the operator takes a node for overloaded: what the policy says, or else the Reactive profile's five seconds and
    /// 90 % (Reactive Cloud §3.3.2).
    #[must_use]
    pub fn detection(&self) -> Detection {
        let thresholds = &self.policy["thresholds"];
        let window = seconds(&thresholds["overloadWindow"]).unwrap_or(5.0);
        Detection { window, threshold: thresholds["overloadPercent"].as_f64().unwrap_or(90.0) / 100.0 }
    }

    /// How many seconds a VM stays after its last migration ended: what the policy says, or the Reactive profile's 20.
    #[must_use]
    pub fn settle(&self) -> f64 {
        seconds(&self.policy["thresholds"]["settle"]).unwrap_or(20.0)
    }

    /// The loads of each VM over time, in percent of a core of the lab.
    #[must_use]
    pub fn percents(&self) -> Vec<Vec<(u32, u32)>> {
        let vms = self.vms.iter().zip(self.seed..);
        vms.map(|(vm, seed)| match &vm.random {
            None => vm.steps.iter().map(|(at, percent)| (*at, *percent)).collect(),
            Some(random) => random.draw(seed, self.seconds),
        })
        .collect()
    }

    /// The same as scripts for the guests.
    ///
    /// # Errors
    /// Never, once the file was read.
    pub fn scripts(&self, machine: &Calibration) -> anyhow::Result<Vec<Script>> {
        let script = |steps: Vec<(u32, u32)>| {
            let step = |(at, percent)| (Duration::from_secs(u64::from(at)), self.permille(percent, machine));
            Ok(Script::new(steps.into_iter().map(step).collect())?)
        };
        self.percents().into_iter().map(script).collect()
    }

    /// The load of the benchmark within a VM that is to use so many percent of a core of the lab. A VM that is to use no
    /// more than its emulation does gets nothing to do.
    pub(super) fn permille(&self, percent: u32, machine: &Calibration) -> Permille {
        let share = (f64::from(percent) / 100.0 * self.core * self.full_load - machine.emulation).max(0.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // from 0 to 1
        Permille::new((share * 1000.0).round() as u64).unwrap_or(Permille::FULL)
    }
}

impl VmLoad {
    /// Its working set in pages.
    pub(super) fn pages(&self) -> u32 {
        self.memory_mib * 256
    }

    pub(super) fn intensity(&self) -> Intensity {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked to be from 0 to 100
        let writes = |alpha: f64| (alpha * 1000.0).round() as u32;
        match (self.alpha, self.kind) {
            (Some(alpha), _) => Intensity { writes: writes(alpha), reads: 0 },
            (None, Kind::BusyLoop) => Intensity::BUSY_LOOP,
            (None, Kind::ReadMostly) => Intensity::READ_MOSTLY,
            (None, Kind::WriteHeavy) => Intensity::WRITE_HEAVY,
            (None, Kind::Mixed) => Intensity::MIXED,
        }
    }

    fn check(&self, swings: bool) -> anyhow::Result<()> {
        ensure!((1..=4096).contains(&self.memory_mib), "memoryMib: write from 1 to 4096");
        if let Some(alpha) = self.alpha {
            ensure!((0.0..=100.0).contains(&alpha), "alpha: write from 0 to 100");
            ensure!(self.kind == Kind::BusyLoop, "alpha: write either alpha or kind");
        }
        if swings {
            ensure!(self.steps.is_empty() && self.random.is_none(), "swinging VMs have neither steps nor random");
            return Ok(());
        }
        ensure!(self.steps.is_empty() == self.random.is_some(), "write either steps or random");
        if let Some(Random { active_percent, active, idle, seconds }) = &self.random {
            ensure!(*active_percent <= 100, "random.activePercent: write at most 100");
            for [from, to] in [active, idle] {
                ensure!(from <= to && *to <= 100, "random: write loads as [from, to], at most 100 percent");
            }
            ensure!(seconds[0] >= 1 && seconds[0] <= seconds[1], "random.seconds: write [from, to], from 1");
        } else {
            ensure!(self.steps.contains_key(&0), "steps: say what the load is at second 0");
            ensure!(self.steps.values().all(|percent| *percent <= 100), "steps: write at most 100 percent");
        }
        Ok(())
    }
}

impl Random {
    fn draw(&self, seed: u64, until: u32) -> Vec<(u32, u32)> {
        // A generator of its own for each VM, so that one more VM does not change the others' loads.
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let mut steps = Vec::new();
        let mut at = 0;
        while at < until {
            let active = generator.random_range(0..100) < self.active_percent;
            let [from, to] = if active { self.active } else { self.idle };
            steps.push((at, generator.random_range(from..=to)));
            at += generator.random_range(self.seconds[0]..=self.seconds[1]);
        }
        steps
    }
}

/// Of a duration such as `5s`; the lab's policies write no other.
fn seconds(duration: &Value) -> Option<f64> {
    duration.as_str()?.strip_suffix('s')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "
name: small
about: Nothing much.
seconds: 60
core: 0.5
fullLoad: 0.9
linkMbit: 100
nodes: {shared: 1, dedicated: 1}
vms:
- {name: vm-0, memoryMib: 16, alpha: 0.6, steps: {0: 10, 20: 100}}
- name: vm-1
  memoryMib: 16
  random: {activePercent: 20, active: [80, 100], idle: [0, 30], seconds: [5, 10]}
";

    fn parsed(text: &str) -> anyhow::Result<Scenario> {
        let scenario: Scenario = serde_yaml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    #[test]
    fn loads_are_scaled_to_the_labs_core() {
        let scenario = parsed(SMALL).unwrap();
        let machine = Calibration { speed: Speed { loops: 1, reads: 1, writes: 1 }, emulation: 0.03 };
        let scripts = scenario.scripts(&machine).unwrap();
        let steps: Vec<_> = scripts[0].steps().iter().map(|(at, load)| (at.as_secs(), load.thousandths())).collect();
        assert_eq!(steps, [(0, 15), (20, 420)]);
        let plan = scenario.plan(RunMode::PreCopy, &machine);
        assert_eq!(plan.vms[0].boot.intensity.writes, 600);
        assert_eq!(plan.vms[0].boot.load, Permille::default(), "less than its emulation costs");
        assert_eq!(plan.nodes[1].spec.name, "dedicated-0");
        assert_eq!(scenario.policy(RunMode::PreCopy).unwrap()["migration"]["mode"], "PreCopy");
        assert_eq!(scenario.policy(RunMode::None), None);
    }

    #[test]
    fn one_seed_gives_one_random_hour() {
        let scenario = parsed(SMALL).unwrap();
        assert_eq!(scenario.percents(), scenario.percents());
        let other = Scenario { seed: 7, ..scenario.clone() };
        assert_ne!(scenario.percents()[1], other.percents()[1]);
        for (at, percent) in &scenario.percents()[1] {
            assert!(*at < 60 && (*percent <= 30 || *percent >= 80), "{percent} at {at}");
        }
    }

    #[test]
    fn a_slip_is_named() {
        let slip = |from: &str, to: &str| format!("{:#}", parsed(&SMALL.replacen(from, to, 1)).unwrap_err());
        assert_eq!(slip("core: 0.5", "core: 2"), "core: write a part of a real core, such as 0.5");
        assert_eq!(slip("{0: 10", "{1: 10"), "vms[0]: steps: say what the load is at second 0");
        assert_eq!(slip("vm-1", "vm-0"), "vms[1].name: vm-0 is taken");
        assert!(slip("seconds", "secs").contains("unknown field `secs`"));
    }
}
