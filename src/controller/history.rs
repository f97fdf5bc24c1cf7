//! What the operator did lately and how much the cluster draws, for who looks: bounded, and gone with the process.
//! Nothing is decided by it; what decisions need is in the ConsolidationPlans.

use super::energy::Ledger;
use super::pass::{Carried, Thoughts};
use miyako_core::energy::Source;
use miyako_core::model::{
    MigrationMode, NodeName, PlanName, PowerState, RecordedStep, Snapshot, Span, StepOutcome, Timestamp, VmKey,
};
use miyako_core::plan::{NodeReport, NodeVerdict, Report};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// So many moves are remembered.
const MOVES: usize = 200;
/// So many changes of nodes' power.
const CHANGES: usize = 200;
/// So many points: a day and a half, one a minute.
const POINTS: usize = 2160;
/// Between points.
const EVERY: Span = Span::from_secs(60);

/// A move that was begun.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    /// The plan and its step.
    pub id: String,
    /// The VM.
    #[serde(serialize_with = "as_text")]
    pub vm: VmKey,
    /// From where.
    pub source: NodeName,
    /// To where.
    pub target: NodeName,
    /// How it was asked for.
    pub mode: MigrationMode,
    /// Why, as a name.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
    /// When it began.
    #[serde(serialize_with = "as_millis")]
    pub began: Timestamp,
    /// When it was over, in milliseconds since it began.
    pub took_millis: Option<i64>,
    /// How it went.
    pub outcome: StepOutcome,
}

/// Moves that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveKind {
    /// Why, as a name.
    pub reason: String,
    /// How it was asked for.
    pub mode: MigrationMode,
    /// How it went.
    pub outcome: &'static str,
}

/// A node that fell asleep, woke, or failed to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PowerChange {
    /// Which.
    pub node: NodeName,
    /// What it is now: Suspended, Awake or Quarantined.
    pub phase: PowerState,
    /// When.
    #[serde(serialize_with = "as_millis")]
    pub at: Timestamp,
    /// What its NodePower says about it.
    pub message: String,
}

/// How often nodes slept and woke.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PowerCounts {
    /// Nodes that fell asleep.
    pub sleeps: u64,
    /// Nodes that woke and are usable.
    pub wakes: u64,
    /// Wakes that failed.
    pub failed_wakes: u64,
}

/// One minute of the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// The minute's end.
    #[serde(serialize_with = "as_millis")]
    pub at: Timestamp,
    /// Watts of the ruled nodes, on average.
    pub drawn: f64,
    /// The same if none ever slept.
    pub never_sleeping: f64,
    /// The same if every node that could sleep did.
    pub if_empty_slept: f64,
    /// Nodes that slept, on average.
    pub asleep: f64,
    /// Moves begun.
    pub moves: u32,
    /// Nodes that could sleep, on average.
    pub can_sleep: f64,
    /// Overloaded shared nodes, on average.
    pub overloaded: f64,
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// The newest moves, newest first.
    pub moves: Vec<Arc<Move>>,
    /// How many moves ended how.
    pub totals: BTreeMap<MoveKind, u64>,
    /// The newest changes of nodes' power, newest first.
    pub power_changes: VecDeque<Arc<PowerChange>>,
    /// How many of them there were.
    pub power_counts: PowerCounts,
    /// The last minutes, oldest first.
    pub points: VecDeque<Point>,
}

/// Writes the history, pass by pass.
#[derive(Debug, Default)]
pub(super) struct Chronicle {
    history: Arc<History>,
    unfinished: BTreeMap<(PlanName, usize), Move>,
    over: BTreeSet<(PlanName, usize)>,
    /// The phases of the nodes that were not awake when last seen.
    phases: BTreeMap<NodeName, PowerState>,
    gathering: Point,
    passes: u32,
    since: Option<Timestamp>,
}

impl Chronicle {
    /// What is remembered so far.
    pub(super) fn history(&self) -> Arc<History> {
        self.history.clone()
    }

    /// How much is remembered, in moves, steps, changes and points.
    pub(super) fn len(&self) -> usize {
        let told = &self.history;
        let told = told.moves.len() + told.totals.len() + told.power_changes.len() + told.points.len();
        told + self.unfinished.len() + self.over.len() + self.phases.len()
    }

    /// Takes in one pass.
    pub(super) fn note(&mut self, thoughts: &Thoughts, snapshot: &Snapshot, ledger: &Ledger, now: Timestamp) {
        self.follow(&thoughts.carried, now);
        self.watch_power(snapshot, now);
        self.gather(&thoughts.report, ledger, snapshot, now);
    }

    /// Notes who fell asleep, woke or failed to since the last pass.
    fn watch_power(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let mut changes = Vec::new();
        let mut counts = self.history.power_counts;
        for (node, record) in &snapshot.powers {
            let before = self.phases.get(node).copied().unwrap_or_default();
            let slept = matches!(before, PowerState::Suspended | PowerState::Waking | PowerState::Quarantined);
            match record.phase {
                phase if phase == before => continue,
                PowerState::Suspended => counts.sleeps += 1,
                PowerState::Awake if slept => counts.wakes += 1,
                PowerState::Quarantined => counts.failed_wakes += 1,
                _ => continue,
            }
            let (phase, at) = (record.phase, record.since.unwrap_or(now));
            let message = record.message.clone().unwrap_or_default();
            changes.push(Arc::new(PowerChange { node: node.clone(), phase, at, message }));
        }
        let phases = snapshot.powers.iter().filter(|(_, record)| record.phase != PowerState::Awake);
        self.phases = phases.map(|(node, record)| (node.clone(), record.phase)).collect();
        if changes.is_empty() {
            return;
        }
        let history = Arc::make_mut(&mut self.history);
        history.power_counts = counts;
        changes.into_iter().for_each(|change| history.power_changes.push_front(change));
        history.power_changes.truncate(CHANGES);
    }

    fn follow(&mut self, carried: &[Carried], now: Timestamp) {
        let mut changed = false;
        let present: BTreeSet<&PlanName> = carried.iter().map(|carried| &carried.record.name).collect();
        self.over.retain(|(plan, _)| present.contains(plan));
        let gone: Vec<_> = self.unfinished.keys().filter(|(plan, _)| !present.contains(plan)).cloned().collect();
        for key in gone {
            // Its plan was ended by what happened while it was carried out, after the thinking: a refused write.
            self.end(&key, StepOutcome::Failed, now);
            changed = true;
        }
        for Carried { record, next, new } in carried {
            for (index, (step, state)) in record.steps.iter().zip(&next.steps).enumerate() {
                let key = (record.name.clone(), index);
                if matches!(state.outcome, StepOutcome::Waiting | StepOutcome::Skipped) || self.over.contains(&key) {
                    continue;
                }
                if !self.unfinished.contains_key(&key) {
                    let told = new.as_ref().and_then(|plan| plan.spec.steps.get(index));
                    let message = told.map(|step| step.message.clone());
                    let Some(begun) = begun(&key, step, message, state.started.unwrap_or(now)) else { continue };
                    self.gathering.moves += 1;
                    self.unfinished.insert(key.clone(), begun);
                    changed = true;
                }
                if matches!(state.outcome, StepOutcome::Succeeded | StepOutcome::Failed) {
                    self.end(&key, state.outcome, state.ended.unwrap_or(now));
                    changed = true;
                }
            }
        }
        if changed {
            self.retell();
        }
    }

    fn end(&mut self, key: &(PlanName, usize), outcome: StepOutcome, at: Timestamp) {
        let Some(mut ended) = self.unfinished.remove(key) else { return };
        self.over.insert(key.clone());
        ended.outcome = outcome;
        ended.took_millis = Some(at.millis() - ended.began.millis());
        let outcome = if outcome == StepOutcome::Succeeded { "Succeeded" } else { "Failed" };
        let kind = MoveKind { reason: ended.reason.clone(), mode: ended.mode, outcome };
        let history = Arc::make_mut(&mut self.history);
        *history.totals.entry(kind).or_default() += 1;
        history.moves.insert(0, Arc::new(ended));
    }

    /// Unfinished moves first, as the newest.
    fn retell(&mut self) {
        let mut unfinished: Vec<Arc<Move>> = self.unfinished.values().cloned().map(Arc::new).collect();
        unfinished.sort_by(|a, b| b.began.cmp(&a.began).then_with(|| a.id.cmp(&b.id)));
        let history = Arc::make_mut(&mut self.history);
        history.moves.retain(|told| told.outcome != StepOutcome::Running);
        history.moves.truncate(MOVES);
        history.moves.splice(0..0, unfinished);
    }

    fn gather(&mut self, report: &Report, ledger: &Ledger, snapshot: &Snapshot, now: Timestamp) {
        let power = PowerNow::of(ledger);
        self.gathering.drawn += power.drawn;
        self.gathering.never_sleeping += power.never_sleeping;
        self.gathering.if_empty_slept += power.if_empty_slept;
        let asleep = snapshot.nodes.values().filter(|node| node.power == PowerState::Suspended);
        self.gathering.asleep += asleep.count() as f64;
        let ruled = || report.nodes.values().filter(|node| node.policy.is_some());
        self.gathering.can_sleep += ruled().filter(|node| node.can_sleep()).count() as f64;
        self.gathering.overloaded += ruled().filter(|node| is_overloaded(node)).count() as f64;
        self.passes += 1;
        if now.since(*self.since.get_or_insert(now)) < EVERY {
            return;
        }
        self.since = Some(now);
        let passes = f64::from(self.passes);
        let sums = std::mem::take(&mut self.gathering);
        self.passes = 0;
        let history = Arc::make_mut(&mut self.history);
        history.points.push_back(Point {
            at: now,
            drawn: sums.drawn / passes,
            never_sleeping: sums.never_sleeping / passes,
            if_empty_slept: sums.if_empty_slept / passes,
            asleep: sums.asleep / passes,
            moves: sums.moves,
            can_sleep: sums.can_sleep / passes,
            overloaded: sums.overloaded / passes,
        });
        if history.points.len() > POINTS {
            history.points.pop_front();
        }
    }
}

/// What the ruled nodes draw and have drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PowerNow {
    /// Watts now.
    pub drawn: f64,
    /// Watts if no node ever slept.
    pub never_sleeping: f64,
    /// Watts if every node that could sleep did.
    pub if_empty_slept: f64,
    /// Joules drawn, as far back as is known.
    pub joules: f64,
    /// Joules that sleeping saved in that time.
    pub saved_joules: f64,
    /// Nodes whose watts a meter tells; those of all others are modelled.
    pub measured: usize,
}

impl PowerNow {
    pub(super) fn of(ledger: &Ledger) -> Self {
        let account = ledger.sum(|_| true);
        let mut power = Self { joules: account.used.value(), saved_joules: account.saved(), ..Self::default() };
        for node in ledger.nodes().values() {
            power.drawn += node.draw.now.value();
            power.never_sleeping += node.draw.never_sleeping.value();
            power.if_empty_slept += node.if_empty_slept.value();
            power.measured += usize::from(node.draw.source == Source::Measured);
        }
        power
    }
}

/// Beyond its threshold, whatever is done about it.
pub(super) fn is_overloaded(node: &NodeReport) -> bool {
    matches!(
        node.verdict,
        NodeVerdict::Settling { .. }
            | NodeVerdict::Relieving { .. }
            | NodeVerdict::Relieved { .. }
            | NodeVerdict::Stuck { .. }
    )
}

fn begun(key: &(PlanName, usize), step: &RecordedStep, message: Option<String>, began: Timestamp) -> Option<Move> {
    let RecordedStep::Migrate { vm, source, target, mode, reason, .. } = step else { return None };
    Some(Move {
        id: format!("{}/{}", key.0, key.1),
        vm: vm.clone(),
        source: source.clone(),
        target: target.clone(),
        mode: *mode,
        reason: reason.name().to_owned(),
        // After a restart only the name is at hand; the sentence stays in the plan.
        message: message.unwrap_or_default(),
        began,
        took_millis: None,
        outcome: StepOutcome::Running,
    })
}

fn as_text<S: serde::Serializer>(vm: &VmKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(vm)
}

fn as_millis<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(at.millis())
}
