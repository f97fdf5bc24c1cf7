//! The simple scenario of the Energy paper (section IV-B, Figs. 5 to 7): five VMs, of which one calms down and another
//! one wakes up, on one shared and five dedicated nodes that sleep when they are empty.
//!
//! What the paper leaves open, and what is taken for it:
//! * The overload that VM 1 causes at 175 s: 40 % (text of section IV-B; the figure's caption says 30 %), with 15 % of the
//!   core for the node itself ("others" in Fig. 6).
//! * How fast VM 0 writes: 100 MB/s ("over 80 MB/s during the migration"), all over its 1 GB.
//! * What a migration draws: 20 W while it lasts (Fig. 7: "20W or less" by post-copy, 20 W by pre-copy), half at each end.
//! * The network switches of Fig. 7 draw the same whatever happens, and are left out.

use crate::sim::cluster::{Fate, WakeFate};
use crate::sim::kubevirt::create::VmSpec;
use crate::sim::kubevirt::{ClockSettings, Dirtying};
use crate::sim::simulation::{BEGINS, Scenario, SimulatedVm, Simulation};
use crate::sim::workload::Pattern;
use miyako_core::energy::{Account, Look, draw};
use miyako_core::model::{Bytes, Cores, PowerFigures, PowerState, Span, Watts};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Before the paper's time 0 the nodes that nobody needs fall asleep.
const LEAD: u64 = 240;
/// The length of Figs. 5 to 7.
const SECONDS: u64 = 300;
/// What a migration adds at each end while it lasts.
const MIGRATION_WATTS: f64 = 10.0;
/// Falling asleep takes so long, and draws what idling does (section II-B: "5 seconds or less").
const FALLS_ASLEEP: u32 = 5;
/// What a node needs for itself, in cores.
const SYSTEM: f64 = 0.15;
/// The operator's name.
const OPERATOR: &str = "miyako-operator-0";

/// How VMs are moved in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Mode {
    /// Nothing moves and nobody sleeps.
    None,
    /// By pre-copy.
    PreCopy,
    /// By post-copy.
    PostCopy,
}

impl Mode {
    /// In the order of the paper's table IV.
    pub(super) const ALL: [Self; 3] = [Self::None, Self::PostCopy, Self::PreCopy];

    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "no consolidation",
            Self::PreCopy => "pre-copy",
            Self::PostCopy => "post-copy",
        }
    }
}

/// A migration, in seconds of the paper's time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Move {
    pub(super) vm: String,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) from: i64,
    /// None if it was not over at the end.
    pub(super) to: Option<i64>,
}

/// One run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    pub(super) mode: Mode,
    /// Watts of each node, second by second.
    pub(super) watts: BTreeMap<String, Vec<f64>>,
    /// How many seconds each node slept.
    pub(super) slept: BTreeMap<String, u32>,
    /// The migrations.
    pub(super) moves: Vec<Move>,
    /// What all nodes drew.
    pub(super) joules: f64,
    /// What the two nodes drew whose VMs move, PM 0 and the one beside it.
    pub(super) busy_joules: f64,
    /// What the operator itself counted in that time.
    pub(super) accounted_joules: f64,
    /// CPU that VMs wanted and did not get, in core-seconds.
    pub(super) missing: f64,
    /// Rules that were broken.
    pub(super) broken_rules: Vec<String>,
}

fn scenario(mode: Mode, seed: u64) -> Scenario {
    let mut scenario = Scenario { system: SYSTEM, ..Scenario::sleeping(seed) };
    // The paper's hosts have four cores, and its thresholds are those of one: VMs share a single one.
    scenario.add_node("pm0", "shared", 1, Bytes::gib(16));
    (1..=5).for_each(|index| scenario.add_node(&format!("pm{index}"), "dedicated", 1, Bytes::gib(16)));
    scenario.trust_all_nodes();
    scenario.machines = Some(Fate { wake: WakeFate::After(5), ..Fate::default() });
    let dirtying = Dirtying { rate: 100e6, working_set: Bytes::gib(1) };
    scenario.hands = ClockSettings { dirtying, variation: 0.0, ..ClockSettings::default() };
    let step = |second: u64, share: f64| (Span::from_secs(LEAD + second), share);
    for index in 0..5 {
        let (node, first, then) = match index {
            0 => ("pm1", 0.80, vec![step(75, 0.40)]),
            1 => ("pm0", 0.0005, vec![step(175, 0.40)]),
            _ => ("pm0", 0.0005, Vec::new()),
        };
        let steps = [(Span::ZERO, first)].into_iter().chain(then).collect();
        scenario.vms.push(SimulatedVm {
            spec: VmSpec::new("vms", &format!("vm{index}"), 1, Bytes::gib(1)),
            node: node.into(),
            pattern: Pattern::Steps { from: BEGINS, steps },
        });
    }
    scenario.policy(|spec| {
        // Section III-C: ten seconds for both, and twenty to settle.
        spec["thresholds"] =
            json!({"overloadWindow": "10s", "idleWindow": "10s", "admissionWindow": "10s", "settle": "20s"});
        spec["sleep"] = json!({"after": "10s", "leastAwake": "10s", "leastAsleep": "10s"});
        match mode {
            Mode::None => spec["mode"] = json!("Off"),
            Mode::PreCopy => spec["migration"] = json!({"mode": "PreCopy"}),
            Mode::PostCopy => spec["migration"] = json!({"mode": "PostCopy", "postCopy": "Allow"}),
        }
    });
    scenario
}

/// Who sleeps now.
fn asleep(simulation: &Simulation) -> BTreeSet<String> {
    simulation.machines.iter().flat_map(|all| all.asleep()).map(Into::into).collect()
}

/// Who is at an end of a migration now.
fn at_work(simulation: &Simulation) -> Vec<Move> {
    let text = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let from = |state: &Value| {
        let began: jiff::Timestamp = text(state, "/startTimestamp")?.parse().ok()?;
        Some(began.as_second() - BEGINS.second() - i64::try_from(LEAD).unwrap_or_default())
    };
    simulation.world.server.view(|view| {
        let vmis = view.list("kubevirt.io", "virtualmachineinstances", "");
        let running = vmis.filter_map(|vmi| {
            let state = vmi.pointer("/status/migrationState")?;
            Some(Move {
                vm: text(vmi, "/metadata/name")?,
                source: text(state, "/sourceNode")?,
                target: text(state, "/targetNode")?,
                from: from(state)?,
                to: text(state, "/endTimestamp").map(|_| 0),
            })
        });
        running.filter(|one| one.to.is_none()).collect()
    })
}

/// Runs it.
///
/// # Errors
/// When the world can't be built, or a stand-in loses sight of it.
pub(super) async fn run(mode: Mode, seed: u64) -> Result<Run, super::SimulateError> {
    let mut simulation = Simulation::begin(scenario(mode, seed)).await?;
    simulation.start_operator(OPERATOR)?;
    for _ in 0..LEAD {
        simulation.second().await?;
    }
    let energy = |simulation: &Simulation| {
        simulation.operator(OPERATOR).map_or_else(Account::default, |operator| operator.view.borrow().energy)
    };
    let before = energy(&simulation);
    let mut watts: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut slept: BTreeMap<String, u32> = BTreeMap::new();
    // For how many seconds each sleeper sleeps; those of the lead have long fallen asleep.
    let mut sleeping: BTreeMap<String, u32> =
        asleep(&simulation).into_iter().map(|node| (node, FALLS_ASLEEP)).collect();
    let (mut moves, mut missing): (Vec<Move>, f64) = (Vec::new(), 0.0);
    for second in 0..SECONDS {
        let measured = simulation.second().await?;
        let now = at_work(&simulation);
        let busy: BTreeSet<&String> = now.iter().flat_map(|one| [&one.source, &one.target]).collect();
        let asleep = asleep(&simulation);
        for index in 0..=5 {
            let node = format!("pm{index}");
            *slept.entry(node.clone()).or_default() += u32::from(asleep.contains(&node));
            let lasts = sleeping.entry(node.clone()).or_default();
            *lasts = if asleep.contains(&node) { *lasts + 1 } else { 0 };
            let sleeps = *lasts > FALLS_ASLEEP;
            let load = measured.nodes.iter().find(|one| one.node.as_str() == node).map(|one| one.used);
            let look = Look {
                power: if sleeps { PowerState::Suspended } else { PowerState::Awake },
                ready: !asleep.contains(&node),
                load: load.and_then(|load| Cores::new(load).ok()),
                capacity: Cores::new(1.0).unwrap_or_default(),
                measured: None::<Watts>,
            };
            let moving = if busy.contains(&node) { MIGRATION_WATTS } else { 0.0 };
            watts.entry(node).or_default().push(draw(PowerFigures::default(), &look).now.value() + moving);
        }
        missing += measured.missing();
        let second = i64::try_from(second).unwrap_or_default();
        for known in moves.iter_mut().filter(|known| known.to.is_none() && !now.contains(known)) {
            known.to = Some(second);
        }
        let fresh: Vec<Move> = now.into_iter().filter(|one| !moves.contains(one)).collect();
        moves.extend(fresh);
    }
    let sum = |node: &str| watts.get(node).map_or(0.0, |watts| watts.iter().sum::<f64>());
    Ok(Run {
        mode,
        joules: watts.keys().map(|node| sum(node)).sum(),
        busy_joules: sum("pm0") + sum("pm1"),
        accounted_joules: energy(&simulation).used.value() - before.used.value(),
        watts,
        slept,
        moves,
        missing,
        broken_rules: simulation.broken_rules().to_vec(),
    })
}
