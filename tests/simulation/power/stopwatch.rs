//! What each part of falling asleep and waking takes, in ticks of a second, as the API server and the machines show it.

use miyako::sim::simulation::Simulation;
use miyako_api::names::kubernetes;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The parts, in their order; the operator's own ones are those that begin with "own".
pub(super) const PARTS: [&str; 8] = [
    "own: decision to order",
    "agent: order to asleep",
    "cluster: asleep to lease lapsed",
    "own: need seen to order to wake",
    "machine: order to power",
    "machine: power to kubelet ready",
    "own: kubelet ready to usable",
    "own: usable to migration created",
];

/// One sleep of one node, in ticks.
#[derive(Debug, Default)]
struct Lap {
    decided: Option<u32>,
    ordered: Option<u32>,
    asleep: Option<u32>,
    believed: Option<u32>,
    wanted: Option<u32>,
    asked: Option<u32>,
    runs: Option<u32>,
    ready: Option<u32>,
    /// The VM that waits for it, as the plan's message names it.
    for_vm: Option<String>,
}

/// A VM that its node was woken for does not move within this time: it needs it no more.
const STILL_WANTED: u32 = 3;

/// Looks on, second by second.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    tick: u32,
    seen: BTreeSet<String>,
    laps: BTreeMap<String, Lap>,
    took: BTreeMap<&'static str, Vec<u32>>,
    /// Sleeps that ended.
    pub(super) cycles: u32,
    /// Moves away from shared nodes.
    pub(super) moves: u32,
    /// Those of them that a node was woken for.
    pub(super) waited: u32,
    /// Nodes that a VM waited for until it did not need them any more.
    pub(super) needless: u32,
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn is_dedicated(node: &str) -> bool {
    node.starts_with("dedicated")
}

/// Whether the node's kubelet is ready.
pub(super) fn is_ready(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

impl Stopwatch {
    /// One look, after each second.
    pub(super) fn look(&mut self, world: &Simulation) {
        self.tick += 1;
        let asleep: Vec<String> =
            world.machines.iter().flat_map(|machines| machines.asleep()).map(str::to_owned).collect();
        world.world.server.view(|view| {
            for plan in view.list("miyako.dev", "consolidationplans", "") {
                if self.seen.insert(text(plan, "/metadata/uid").to_owned()) {
                    self.take_plan(plan);
                }
            }
            for power in view.list("miyako.dev", "nodepowers", "") {
                let name = text(power, "/metadata/name");
                let ready = view.get("", "nodes", "", name).is_some_and(is_ready);
                self.take_node(name, power, ready, asleep.iter().any(|sleeper| sleeper == name));
            }
            for migration in view.list("kubevirt.io", "virtualmachineinstancemigrations", "") {
                if self.seen.insert(text(migration, "/metadata/uid").to_owned()) {
                    let key = kubernetes::HOSTNAME.replace('/', "~1");
                    let vm = text(migration, "/spec/vmiName");
                    self.take_move(vm, text(migration, &format!("/spec/addedNodeSelector/{key}")));
                }
            }
        });
        let tick = self.tick;
        let given_up = |lap: &&mut Lap| {
            lap.for_vm.is_some() && lap.decided.is_none() && lap.ready.is_some_and(|at| tick > at + STILL_WANTED)
        };
        for lap in self.laps.values_mut().filter(given_up) {
            *lap = Lap::default();
            self.needless += 1;
        }
    }

    fn take_plan(&mut self, plan: &Value) {
        for step in plan.pointer("/spec/steps").and_then(Value::as_array).into_iter().flatten() {
            let lap = self.laps.entry(text(step, "/targetNode").to_owned()).or_default();
            match text(step, "/type") {
                "Suspend" => *lap = Lap { decided: Some(self.tick), ..Lap::default() },
                "Wake" if lap.wanted.is_none() => {
                    lap.wanted = Some(self.tick);
                    // "vms/vm0 must move and …"
                    let vm = text(step, "/message").split_whitespace().next().unwrap_or_default();
                    // A VM that goes home to a shared node is in no hurry.
                    let hurries = text(step, "/reason") == "ForMove" && is_dedicated(text(step, "/targetNode"));
                    lap.for_vm = hurries.then(|| vm.to_owned());
                }
                _ => {}
            }
        }
    }

    fn take_node(&mut self, name: &str, power: &Value, ready: bool, asleep: bool) {
        let tick = self.tick;
        let (desired, phase) = (text(power, "/spec/desired"), text(power, "/status/phase"));
        let lap = self.laps.entry(name.to_owned()).or_default();
        if lap.decided.is_some() && desired == "Suspended" {
            lap.ordered.get_or_insert(tick);
        }
        if asleep && lap.ordered.is_some() {
            lap.asleep.get_or_insert(tick);
        }
        if lap.asleep.is_none() {
            return;
        }
        if phase == "Suspended" {
            lap.believed.get_or_insert(tick);
        }
        if desired == "Awake" {
            lap.asked.get_or_insert(tick);
        }
        if !asleep {
            lap.runs.get_or_insert(tick);
        }
        if ready && lap.runs.is_some() && lap.believed.is_some() {
            lap.ready.get_or_insert(tick);
        }
        if phase == "Awake" {
            let lap = std::mem::take(lap);
            self.finish(name, &lap);
        }
    }

    /// The node is usable again.
    fn finish(&mut self, name: &str, lap: &Lap) {
        self.cycles += 1;
        let ends = [
            (lap.decided, lap.ordered),
            (lap.ordered, lap.asleep),
            (lap.asleep, lap.believed),
            (lap.wanted, lap.asked),
            (lap.asked, lap.runs),
            (lap.runs, lap.ready),
            (lap.ready, Some(self.tick)),
        ];
        for (part, (from, to)) in PARTS.into_iter().zip(ends) {
            self.note(part, from, to);
        }
        if lap.for_vm.is_some() {
            let waits = Lap { ready: Some(self.tick), for_vm: lap.for_vm.clone(), ..Lap::default() };
            self.laps.insert(name.to_owned(), waits);
        }
    }

    fn take_move(&mut self, vm: &str, target: &str) {
        if !is_dedicated(target) {
            return;
        }
        self.moves += 1;
        let lap = self.laps.entry(target.to_owned()).or_default();
        if lap.for_vm.as_ref().is_some_and(|waits| waits.ends_with(&format!("/{vm}"))) {
            let usable = std::mem::take(lap).ready;
            self.waited += 1;
            self.note(PARTS[7], usable, Some(self.tick));
        }
    }

    fn note(&mut self, part: &'static str, from: Option<u32>, to: Option<u32>) {
        if let (Some(from), Some(to)) = (from, to) {
            self.took.entry(part).or_default().push(to.saturating_sub(from));
        }
    }

    /// The share of moves that waited for a wake.
    pub(super) fn share_of_waits(&self) -> f64 {
        f64::from(self.waited) / f64::from(self.moves.max(1))
    }

    /// How long a part took, in ticks: the share of them that took no longer.
    pub(super) fn quantile(&self, part: &str, share: f64) -> Option<u32> {
        let mut took = self.took.get(part)?.clone();
        took.sort_unstable();
        let last = took.len().checked_sub(1)?;
        let at = (0..=last).find(|at| *at as f64 >= share * last as f64).unwrap_or(last);
        took.get(at).copied()
    }

    /// Takes in what another one saw.
    pub(super) fn add(&mut self, other: &Self) {
        for (part, took) in &other.took {
            self.took.entry(part).or_default().extend(took);
        }
        self.cycles += other.cycles;
        self.moves += other.moves;
        self.waited += other.waited;
        self.needless += other.needless;
    }
}

impl fmt::Display for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100.0 * self.share_of_waits();
        let (cycles, moves, needless) = (self.cycles, self.moves, self.needless);
        writeln!(
            f,
            "{cycles} sleeps, {moves} moves away, {share:.0} % of them waited for a wake; {needless} VMs did not need"
        )?;
        writeln!(f, "their node any more when it had come")?;
        writeln!(f, "{:<34} {:>6} {:>6} {:>6} {:>6}   (ticks of 1 s)", "part", "times", "median", "99 %", "most")?;
        for part in PARTS {
            let Some(took) = self.took.get(part) else { continue };
            let [median, late, most] = [0.5, 0.99, 1.0].map(|share| self.quantile(part, share).unwrap_or_default());
            writeln!(f, "{part:<34} {:>6} {median:>6} {late:>6} {most:>6}", took.len())?;
        }
        Ok(())
    }
}
