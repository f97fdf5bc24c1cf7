//! What the operator did lately and how much the cluster draws, for who looks: bounded, and gone with the process.
//! Nothing is decided by it; what decisions need is in the ConsolidationPlans.

use super::pass::{Carried, Thoughts};
use miyako_core::model::{
    MigrationMode, NodeName, PlanName, Policies, PowerState, RecordedStep, Snapshot, Span, StepOutcome, Timestamp,
    VmKey,
};
use miyako_core::plan::{NodeReport, NodeVerdict, Report};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// So many moves are remembered.
const MOVES: usize = 200;
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

/// One minute of the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// The minute's end.
    #[serde(serialize_with = "as_millis")]
    pub at: Timestamp,
    /// Modelled watts of the ruled nodes if none ever slept, on average.
    pub never_sleeping: f64,
    /// The same if every node that could sleep did, on average.
    pub if_empty_slept: f64,
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
    /// The last minutes, oldest first.
    pub points: VecDeque<Point>,
}

/// Writes the history, pass by pass.
#[derive(Debug, Default)]
pub(super) struct Chronicle {
    history: Arc<History>,
    unfinished: BTreeMap<(PlanName, usize), Move>,
    over: BTreeSet<(PlanName, usize)>,
    gathering: Point,
    passes: u32,
    since: Option<Timestamp>,
}

impl Chronicle {
    /// What is remembered so far.
    pub(super) fn history(&self) -> Arc<History> {
        self.history.clone()
    }

    /// Takes in one pass.
    pub(super) fn note(&mut self, thoughts: &Thoughts, snapshot: &Snapshot, policies: &Policies, now: Timestamp) {
        self.follow(&thoughts.carried, now);
        self.gather(&thoughts.report, snapshot, policies, now);
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

    fn gather(&mut self, report: &Report, snapshot: &Snapshot, policies: &Policies, now: Timestamp) {
        let draw = Draw::of(report, snapshot, policies);
        self.gathering.never_sleeping += draw.never_sleeping;
        self.gathering.if_empty_slept += draw.if_empty_slept;
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
            never_sleeping: sums.never_sleeping / passes,
            if_empty_slept: sums.if_empty_slept / passes,
            moves: sums.moves,
            can_sleep: sums.can_sleep / passes,
            overloaded: sums.overloaded / passes,
        });
        if history.points.len() > POINTS {
            history.points.pop_front();
        }
    }
}

/// What the ruled nodes draw, modelled: linear in each node's load (Reactive Consolidation, evaluation).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Draw {
    /// Watts if no node ever slept.
    pub never_sleeping: f64,
    /// Watts if every node that could sleep did.
    pub if_empty_slept: f64,
}

impl Draw {
    pub(super) fn of(report: &Report, snapshot: &Snapshot, policies: &Policies) -> Self {
        let mut draw = Self::default();
        for (name, node) in report.nodes.iter().filter(|(_, node)| node.policy.is_some()) {
            let class = node.class.as_ref().and_then(|class| policies.classes.get(class));
            let (Some(class), Some(seen)) = (class, snapshot.nodes.get(name)) else { continue };
            let latest = snapshot.load.nodes.get(name).and_then(|load| load.latest());
            let capacity = seen.allocatable.cpu.cores().value();
            let load = latest.map_or(0.0, |used| if capacity > 0.0 { used.value() / capacity } else { 0.0 });
            let awake = class.power.awake(load);
            let sleeps = node.can_sleep() || seen.power == PowerState::Suspended;
            draw.never_sleeping += awake;
            draw.if_empty_slept += if sleeps { f64::from(class.power.asleep) } else { awake };
        }
        draw
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
        reason: reason.clone(),
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
