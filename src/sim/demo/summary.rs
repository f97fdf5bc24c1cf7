//! What a run of the demo came to: sums over its seconds, told as a table, JSON or YAML.

use super::days::Day;
use crate::controller::{MoveKind, PowerCounts, View};
use crate::sim::apiserver::Verb;
use crate::sim::simulation::Simulation;
use crate::sim::workload::Measured;
use miyako_core::model::{MigrationMode, Role};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Sums that grow second by second.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    seconds: u64,
    overload_seconds: u64,
    missing_core_seconds: f64,
    could_sleep_seconds: u64,
    ruled_seconds: u64,
    asleep_seconds: u64,
    decisions: u64,
}

impl Tally {
    /// Takes in one second: what was measured in it, and what the operator made of it.
    pub(super) fn add(&mut self, measured: &Measured, view: &View, threshold: f64) {
        self.seconds += 1;
        let is_shared = |node: &&crate::sim::workload::MeasuredNode| {
            view.report.nodes.get(&node.node).is_some_and(|node| node.role == Some(Role::Shared))
        };
        self.overload_seconds += measured.at_or_above(threshold).filter(is_shared).count() as u64;
        self.missing_core_seconds += measured.missing();
        for node in view.report.nodes.values().filter(|node| node.policy.is_some()) {
            self.ruled_seconds += 1;
            self.could_sleep_seconds += u64::from(node.can_sleep());
        }
        self.asleep_seconds += view.report.policies.values().map(|policy| u64::from(policy.asleep)).sum::<u64>();
        self.decisions += u64::from(view.incomplete.is_none() && !view.report.policies.is_empty());
    }
}

/// Migrations of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Migrations {
    #[serde(flatten)]
    kind: MoveKind,
    count: u64,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    seed: u64,
    simulated_seconds: u64,
    nodes: usize,
    vms: usize,
    decisions: u64,
    migrations_asked_for: u64,
    migrations: Vec<Migrations>,
    /// The most often moved VM's moves.
    most_moves_of_one_vm: u32,
    /// Seconds in which a shared node was at or beyond its threshold, summed over nodes.
    overload_seconds: u64,
    /// CPU that VMs wanted and did not get.
    missing_core_hours: f64,
    /// Hours in which a node could have slept, summed over nodes.
    could_sleep_node_hours: f64,
    /// The same as a share of all node-hours.
    could_sleep_percent: f64,
    /// How often nodes fell asleep, woke, and failed to.
    #[serde(flatten)]
    power: PowerCounts,
    /// Hours that nodes slept, summed over nodes.
    asleep_node_hours: f64,
    /// What the nodes drew.
    joules: u64,
    /// What they would have drawn, had none ever slept, less what they drew.
    saved_joules: i64,
    /// The same as a share of what they would have drawn.
    saved_percent: f64,
    /// Writes of the operator by resource.
    operator_writes: BTreeMap<String, u64>,
    /// Reads of the operator that are no watches.
    operator_reads: u64,
    broken_rules: Vec<String>,
    /// What each day came to, and all that came after the first.
    days: Vec<Day>,
}

/// Three digits after the point: enough, and the same everywhere.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl Summary {
    pub(super) fn of(
        tally: &Tally,
        days: Vec<Day>,
        simulation: &Simulation,
        view: &View,
        operator: &str,
        seed: u64,
    ) -> Self {
        let mut operator_writes: BTreeMap<String, u64> = BTreeMap::new();
        let mut operator_reads = 0;
        for (kind, count) in simulation.world.server.request_counts() {
            match kind.verb {
                _ if kind.actor != operator => {}
                Verb::Watch => {}
                Verb::Get | Verb::List => operator_reads += count,
                _ => *operator_writes.entry(kind.resource).or_default() += count,
            }
        }
        let energy = view.energy.recorded();
        let moves = simulation.migrations_asked_for();
        let totals = &view.history.totals;
        Self {
            seed,
            simulated_seconds: tally.seconds,
            nodes: view.report.nodes.len(),
            vms: view.report.vms.len(),
            decisions: tally.decisions,
            migrations_asked_for: moves.values().copied().map(u64::from).sum(),
            migrations: totals.iter().map(|(kind, count)| Migrations { kind: kind.clone(), count: *count }).collect(),
            most_moves_of_one_vm: moves.values().copied().max().unwrap_or(0),
            overload_seconds: tally.overload_seconds,
            missing_core_hours: rounded(tally.missing_core_seconds / 3600.0),
            could_sleep_node_hours: rounded(tally.could_sleep_seconds as f64 / 3600.0),
            could_sleep_percent: rounded(
                100.0 * tally.could_sleep_seconds as f64 / (tally.ruled_seconds.max(1)) as f64,
            ),
            power: view.history.power_counts,
            asleep_node_hours: rounded(tally.asleep_seconds as f64 / 3600.0),
            joules: energy.used,
            saved_joules: energy.saved,
            saved_percent: rounded(100.0 * view.energy.saved() / view.energy.never_sleeping.value().max(1.0)),
            operator_writes,
            operator_reads,
            broken_rules: simulation.broken_rules().to_vec(),
            days,
        }
    }

    /// Whether all safety rules held.
    pub(super) fn is_safe(&self) -> bool {
        self.broken_rules.is_empty()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "{name:<28} {value}");
        row("Simulated", format!("{} of {} nodes and {} VMs", time(self.simulated_seconds), self.nodes, self.vms))?;
        row("Seed", self.seed.to_string())?;
        row("Decisions", self.decisions.to_string())?;
        row(
            "Migrations asked for",
            format!("{} (at most {} of one VM)", self.migrations_asked_for, self.most_moves_of_one_vm),
        )?;
        for Migrations { kind, count } in &self.migrations {
            let mode = match kind.mode {
                MigrationMode::PostCopy => "post-copy",
                MigrationMode::PreCopy => "pre-copy",
            };
            row(&format!("  {} by {mode}, {}", kind.reason, kind.outcome), count.to_string())?;
        }
        row("Overload", format!("{} node-seconds", self.overload_seconds))?;
        row("CPU wanted and not given", format!("{:.2} core-hours", self.missing_core_hours))?;
        let could_sleep =
            format!("{:.2} node-hours, {:.1} % of all", self.could_sleep_node_hours, self.could_sleep_percent);
        row("Nodes that could sleep", could_sleep)?;
        let PowerCounts { sleeps, wakes, failed_wakes } = self.power;
        row("Nodes asleep", format!("{:.2} node-hours", self.asleep_node_hours))?;
        row("Sleeps", format!("{sleeps}, {wakes} wakes, {failed_wakes} wakes that failed"))?;
        let kilowatt_hours = |joules: f64| joules / 3.6e6;
        let (used, saved) = (kilowatt_hours(self.joules as f64), kilowatt_hours(self.saved_joules as f64));
        row("Energy", format!("{used:.3} kWh; sleeping saved {saved:.3} kWh, {:.1} %", self.saved_percent))?;
        let writes: u64 = self.operator_writes.values().sum();
        row("Requests of the operator", format!("{writes} writes, {} reads", self.operator_reads))?;
        row("Broken safety rules", self.broken_rules.len().to_string())?;
        for broken in &self.broken_rules {
            row("", broken.clone())?;
        }
        writeln!(f, "\n{}", Day::HEAD)?;
        self.days.iter().try_for_each(|day| writeln!(f, "{day}"))
    }
}

/// A span for people: `1 h 30 min 5 s`, without what is zero.
fn time(seconds: u64) -> String {
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let told: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n} {unit}")).collect();
    if told.is_empty() { "0 s".to_owned() } else { told.join(" ") }
}
