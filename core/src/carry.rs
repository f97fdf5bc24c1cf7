//! What a recorded plan needs next: the other half of acting. [`crate::plan::decide`] wishes, a ConsolidationPlan is
//! written, and this function leads it from there to its end, whoever wrote it and however often the operator died
//! in between.
//!
//! ```text
//!             obsolete, superseded, too old                       all steps done
//!  Proposed ──────────────────────────────▶ Expired/Superseded   ┌────────────▶ Succeeded
//!     │  cleared, and check agrees                               │
//!     ├──────────────────────────────────▶ Running ──────────────┤
//!     │  cleared, and check never will                           │
//!     └──────────────────────────────────▶ Refused               └────────────▶ Failed
//!                                                                 a step failed
//! ```

mod follow;
mod labels;

pub use labels::stray_labels;

use crate::check::{self, Rule};
use crate::model::{
    MigrateStep, MigrationMode, MigrationName, Node, NodeName, Plan, PlanName, PlanPhase, PlanRecord, Policies,
    PolicyName, PowerRecord, PowerState, Purpose, RecordedStep, Snapshot, Span, Step, StepOutcome, SuspendStep,
    TakenBack, Timestamp, Uid, VmKey, WakeReason, WakeStep,
};
use crate::plan::{ProposalVerdict, attempt, migration_name, renew};
use std::collections::BTreeMap;

/// The reason of a step whose migration KubeVirt carried out by another MigrationPolicy than was meant.
pub const MODE_IGNORED: &str = "ModeIgnored";

/// A node that was ordered awake and is not usable this long after its plan had to begin does not come: a server
/// that boots takes minutes, not a quarter of an hour.
const WAKES_WITHIN: Span = Span::from_secs(15 * 60);

/// A suspend that was begun and that the power sequence has not taken up after this time is given up: something keeps
/// the node awake.
const TAKEN_UP_WITHIN: Span = Span::from_secs(30);

/// A write that a plan needs before its state can be noted.
#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    /// Make the VMI's `miyako.dev/migration-mode` say this, so that our MigrationPolicy of that mode matches.
    LabelVm {
        /// The VM.
        vm: VmKey,
        /// The VMI's uid.
        uid: Uid,
        /// The mode.
        mode: MigrationMode,
    },
    /// Take the label off: the user's own MigrationPolicy is to rule this move, and ours might win over it.
    UnlabelVm {
        /// The VM.
        vm: VmKey,
        /// The VMI's uid.
        uid: Uid,
    },
    /// Create the VMIM.
    Migrate {
        /// The VM.
        vm: VmKey,
        /// The VMI's uid.
        uid: Uid,
        /// The VMIM's name.
        migration: MigrationName,
        /// What to name in `addedNodeSelector`: the value of the target's label `kubernetes.io/hostname`.
        hostname: String,
    },
}

/// How one step stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepState {
    /// How it went so far.
    pub outcome: StepOutcome,
    /// The VMIM's uid, once known.
    pub migration_uid: Option<Uid>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it ended so: a PascalCase word for conditions and metrics.
    pub reason: Option<&'static str>,
    /// The same in a sentence.
    pub message: Option<String>,
    /// Why its VMIM is taken back, while that is under way.
    pub taken_back: Option<TakenBack>,
}

/// What a plan needs next.
#[derive(Debug, Clone, PartialEq)]
pub struct Next {
    /// Writes to make first, in this order. A deed that is refused fails its step.
    pub deeds: Vec<(usize, Deed)>,
    /// The plan's phase after that.
    pub phase: PlanPhase,
    /// Its steps after that.
    pub steps: Vec<StepState>,
    /// Why, in a sentence, when the phase is final or waits for something.
    pub message: Option<String>,
    /// The plan that took its place.
    pub superseded_by: Option<PlanName>,
}

/// What the same pass has decided already, beside the plan in question.
#[derive(Debug, Clone, Default)]
pub struct Pass {
    /// The new plans of this pass, by policy: they supersede what is obsolete.
    pub newer: BTreeMap<PolicyName, PlanName>,
    /// The steps that this pass begins: one more must be safe together with them.
    pub begun: Plan,
}

/// What a plan that is not over needs next. `verdict` is the planner's word on a plan not begun. A plan that begins
/// is added to the pass.
#[must_use]
pub fn carry(
    record: &PlanRecord,
    verdict: Option<&ProposalVerdict>,
    pass: &mut Pass,
    snapshot: &Snapshot,
    policies: &Policies,
    now: Timestamp,
) -> Next {
    let mut next = Next {
        deeds: Vec::new(),
        phase: record.phase,
        steps: record.steps.iter().map(state).collect(),
        message: None,
        superseded_by: None,
    };
    if record.phase.is_final() {
        return next;
    }
    let begun = record.steps.iter().any(|step| has_begun(step, snapshot));
    let mut held_back = false;
    if record.phase == PlanPhase::Proposed && !begun {
        if let Some(ProposalVerdict::Obsolete { message }) = verdict {
            next.superseded_by = pass.newer.get(&record.policy).cloned();
            next.phase = if next.superseded_by.is_some() { PlanPhase::Superseded } else { PlanPhase::Expired };
            return next.skip_rest(message.clone());
        }
        if now >= record.expires {
            next.phase = PlanPhase::Expired;
            return next.skip_rest("it was not begun in time".to_owned());
        }
        if !record.is_cleared() {
            return next;
        }
        if let Some(stopped) = stop_before_begin(record, pass, snapshot, policies, now, &next) {
            return stopped;
        }
    } else if !may_go_on(record, verdict, pass, snapshot, policies, now, &mut next) {
        held_back = true;
    }
    let purpose = record.purpose();
    for (index, step) in record.steps.iter().enumerate() {
        if !(held_back && is_late(step, snapshot)) {
            next.step(index, step, &purpose, snapshot, now, record.expires + WAKES_WITHIN);
        }
    }
    next.conclude()
}

/// Whether a step of a plan that has begun has not: a write failed, or the operator died between two of them.
fn is_late(step: &RecordedStep, snapshot: &Snapshot) -> bool {
    step.outcome() == StepOutcome::Waiting && !has_begun(step, snapshot)
}

/// Whether the late steps of a plan that has begun may begin now. Nobody knows how long ago the others did, so these
/// are judged as a plan of their own: skipped if nobody wants or allows them any more, held back while they must wait.
fn may_go_on(
    record: &PlanRecord,
    verdict: Option<&ProposalVerdict>,
    pass: &mut Pass,
    snapshot: &Snapshot,
    policies: &Policies,
    now: Timestamp,
    next: &mut Next,
) -> bool {
    let late: Vec<RecordedStep> = record.steps.iter().filter(|step| is_late(step, snapshot)).cloned().collect();
    if late.is_empty() {
        return true;
    }
    let void = match verdict {
        Some(ProposalVerdict::Obsolete { message }) => Some(message.clone()),
        _ => (now >= record.expires).then(|| "it was not begun in time".to_owned()),
    };
    let void = match void {
        Some(message) => message,
        None if !record.is_cleared() => return false,
        None => {
            let rest = PlanRecord { steps: late, ..record.clone() };
            match stop_before_begin(&rest, pass, snapshot, policies, now, next) {
                None => return true,
                Some(Next { phase: PlanPhase::Refused, message, .. }) => message.unwrap_or_default(),
                Some(_) => return false,
            }
        }
    };
    for (_, state) in record.steps.iter().zip(&mut next.steps).filter(|(step, _)| is_late(step, snapshot)) {
        state.outcome = StepOutcome::Skipped;
        state.message = Some(void.clone());
    }
    true
}

/// The check just before acting. Some violations pass with time (slots, a pause, stale data): the plan then waits
/// until it expires. The others end it.
fn stop_before_begin(
    record: &PlanRecord,
    pass: &mut Pass,
    snapshot: &Snapshot,
    policies: &Policies,
    now: Timestamp,
    next: &Next,
) -> Option<Next> {
    let refused = |message| Some(Next { phase: PlanPhase::Refused, ..next.clone() }.skip_rest(message));
    let plan = match as_plan(record, snapshot, policies, now) {
        Ok(plan) => plan,
        Err(message) => return refused(message),
    };
    let before = pass.begun.steps.len();
    let together = Plan { steps: [&pass.begun.steps[..], &plan.steps].concat() };
    let mut violations = check::check(snapshot, policies, &together, now);
    violations.retain(|violation| violation.step.is_none_or(|step| step >= before));
    let Some(worst) = violations.iter().find(|found| !passes_with_time(found.rule())).or(violations.first()) else {
        pass.begun = together;
        return None;
    };
    if passes_with_time(worst.rule()) {
        return Some(Next { message: Some(worst.to_string()), ..next.clone() });
    }
    refused(worst.to_string())
}

/// Whether a violation of this rule may be over in a moment: capacity, switches, staleness, rollouts. The others
/// speak about the wish itself.
fn passes_with_time(rule: Rule) -> bool {
    matches!(rule, Rule::Reserve | Rule::NodeTraffic | Rule::Knowledge | Rule::Standstill)
}

/// The plan that a record stands for, with its figures as they are now.
///
/// # Errors
/// What it speaks of is no longer so.
fn as_plan(record: &PlanRecord, snapshot: &Snapshot, policies: &Policies, now: Timestamp) -> Result<Plan, String> {
    let policy = policies.policies.get(&record.policy).ok_or_else(|| format!("policy {} is gone", record.policy))?;
    let mut plan = Plan::default();
    for step in &record.steps {
        plan.steps.push(match step {
            RecordedStep::Unreadable { .. } => continue,
            RecordedStep::Wake { node, .. } => {
                Step::Wake(WakeStep { policy: policy.name.clone(), node: node.clone(), reason: WakeReason::Reserve })
            }
            RecordedStep::Suspend { node, reason, .. } => {
                Step::Suspend(SuspendStep { policy: policy.name.clone(), node: node.clone(), reason: *reason })
            }
            RecordedStep::Migrate { vm: key, uid, source, target, mode, migration, reason, .. } => {
                let vm = snapshot.vm(key, uid).ok_or_else(|| format!("{key} is gone"))?;
                let attempt = attempt(vm, snapshot);
                if vm.node.as_ref() != Some(source) || migration_name(vm, attempt) != *migration {
                    return Err(format!("{key} has moved since"));
                }
                let reason = renew(*reason, vm, source, record.decided, policy, (snapshot, policies, now))?.reason;
                Step::Migrate(MigrateStep {
                    policy: policy.name.clone(),
                    vm: key.clone(),
                    uid: uid.clone(),
                    source: source.clone(),
                    target: target.clone(),
                    mode: *mode,
                    migration: migration.clone(),
                    attempt,
                    reason,
                    users_policy: vm.user_migration_policy.clone(),
                })
            }
        });
    }
    Ok(plan)
}

fn state(step: &RecordedStep) -> StepState {
    let outcome = step.outcome();
    let (migration_uid, started, ended, taken_back) = match step {
        RecordedStep::Wake { started, .. } | RecordedStep::Suspend { started, .. } => (None, *started, None, None),
        RecordedStep::Unreadable { .. } => (None, None, None, None),
        RecordedStep::Migrate { migration_uid, started, ended, taken_back, .. } => {
            (migration_uid.clone(), *started, *ended, taken_back.clone())
        }
    };
    StepState { outcome, migration_uid, started, ended, reason: None, message: None, taken_back }
}

fn has_begun(step: &RecordedStep, snapshot: &Snapshot) -> bool {
    match step {
        RecordedStep::Wake { outcome, .. }
        | RecordedStep::Suspend { outcome, .. }
        | RecordedStep::Unreadable { outcome } => *outcome != StepOutcome::Waiting,
        RecordedStep::Migrate { outcome, migration, .. } => {
            *outcome != StepOutcome::Waiting || snapshot.migrations.contains_key(migration)
        }
    }
}

impl Next {
    fn skip_rest(mut self, message: String) -> Self {
        for step in self.steps.iter_mut().filter(|step| step.outcome == StepOutcome::Waiting) {
            step.outcome = StepOutcome::Skipped;
        }
        self.message = Some(message);
        self
    }

    /// Takes in that a deed of this step was refused. What was begun before it is followed to its end; what would
    /// have come after it is not begun.
    pub fn refuse(&mut self, record: &PlanRecord, step: usize, now: Timestamp, answer: &str) {
        for (index, (before, state)) in record.steps.iter().zip(&mut self.steps).enumerate().skip(step) {
            if index == step {
                state.started = None;
                state.end(StepOutcome::Failed, now, "Refused", answer.to_owned());
            } else if before.outcome() == StepOutcome::Waiting
                && state.outcome == StepOutcome::Running
                && state.migration_uid.is_none()
            {
                state.started = None;
                state.outcome = StepOutcome::Skipped;
            }
        }
        let open = |state: &StepState| matches!(state.outcome, StepOutcome::Waiting | StepOutcome::Running);
        self.phase = if self.steps.iter().any(open) { PlanPhase::Running } else { PlanPhase::Failed };
        self.message = Some(answer.to_owned());
    }

    fn step(
        &mut self,
        index: usize,
        step: &RecordedStep,
        purpose: &Purpose,
        snapshot: &Snapshot,
        now: Timestamp,
        awake_by: Timestamp,
    ) {
        let state = &mut self.steps[index];
        if !matches!(state.outcome, StepOutcome::Waiting | StepOutcome::Running) {
            return;
        }
        match step {
            RecordedStep::Unreadable { .. } => {
                let message = "the plan says too little to carry this step out".to_owned();
                state.end(StepOutcome::Failed, now, "Unreadable", message);
            }
            RecordedStep::Wake { node, .. } => {
                let Some(found) = snapshot.nodes.get(node) else {
                    return state.end(StepOutcome::Failed, now, "NodeGone", format!("{node} is gone"));
                };
                if found.is_usable() {
                    state.end(StepOutcome::Succeeded, now, "Awake", format!("{node} is awake and usable"));
                } else if found.power == PowerState::Quarantined || now >= awake_by {
                    state.end(StepOutcome::Failed, now, "NotAwake", format!("{node} did not become usable"));
                } else {
                    // The power sequence sees that it runs, and gives the order.
                    state.begin(now);
                }
            }
            RecordedStep::Suspend { node, .. } => state.follow_suspend(node, purpose, snapshot, now),
            RecordedStep::Migrate { vm, uid, target, mode, migration, .. } => {
                let found = snapshot.vm(vm, uid);
                if let Some(object) = snapshot.migrations.get(migration) {
                    state.migration_uid = Some(object.uid.clone());
                    state.started.get_or_insert(object.created);
                    state.follow(object, found, *mode, now);
                } else if state.outcome == StepOutcome::Waiting && state.migration_uid.is_none() {
                    let Some(found) = found else {
                        return state.end(StepOutcome::Failed, now, "VmGone", format!("{vm} is gone"));
                    };
                    let Some(hostname) = snapshot.nodes.get(target).and_then(Node::hostname) else {
                        let message = format!("{target} is gone, or its label kubernetes.io/hostname is");
                        return state.end(StepOutcome::Failed, now, "NodeGone", message);
                    };
                    // Also where the label seems to be there: it may be on its way off after the last move.
                    if found.user_migration_policy.is_none() {
                        let (vm, uid) = (vm.clone(), uid.clone());
                        self.deeds.push((index, Deed::LabelVm { vm, uid, mode: *mode }));
                    } else if found.mode_label.is_some() {
                        self.deeds.push((index, Deed::UnlabelVm { vm: vm.clone(), uid: uid.clone() }));
                    }
                    let (vm, uid, migration) = (vm.clone(), uid.clone(), migration.clone());
                    self.deeds.push((index, Deed::Migrate { vm, uid, migration, hostname: hostname.to_owned() }));
                    state.begin(now);
                } else {
                    state.judge_vanished(found, target, *mode, now);
                }
            }
        }
    }

    fn conclude(mut self) -> Self {
        let any = |outcome| self.steps.iter().any(|step| step.outcome == outcome);
        self.phase = if any(StepOutcome::Waiting) || any(StepOutcome::Running) {
            PlanPhase::Running
        } else if any(StepOutcome::Failed) {
            PlanPhase::Failed
        } else {
            PlanPhase::Succeeded
        };
        self.message = self.steps.iter().find_map(|step| step.message.clone());
        self
    }
}

impl StepState {
    fn begin(&mut self, now: Timestamp) {
        self.outcome = StepOutcome::Running;
        self.started.get_or_insert(now);
    }

    /// Ends the step.
    pub fn end(&mut self, outcome: StepOutcome, at: Timestamp, reason: &'static str, message: String) {
        self.outcome = outcome;
        self.ended = Some(at);
        self.reason = Some(reason);
        self.message = Some(message);
        self.taken_back = None;
    }

    /// Follows a suspend: the power sequence sees that it runs and leads the node on; what became of it is in the
    /// node's NodePower.
    fn follow_suspend(&mut self, node: &NodeName, purpose: &Purpose, snapshot: &Snapshot, now: Timestamp) {
        if !snapshot.nodes.contains_key(node) {
            return self.end(StepOutcome::Failed, now, "NodeGone", format!("{node} is gone"));
        }
        let taken_up = snapshot.powers.get(node).filter(|record| record.is_spent(purpose));
        let Some(record) = taken_up else {
            if self.started.is_some_and(|started| now.since(started) >= TAKEN_UP_WITHIN) {
                let message = format!("{node} was not taken up: something keeps it awake");
                return self.end(StepOutcome::Failed, now, "NotTakenUp", message);
            }
            return self.begin(now);
        };
        match record.phase {
            PowerState::Emptying | PowerState::Suspending => self.begin(now),
            _ if purpose.is_wake_test() => self.follow_wake_test(node, record, now),
            PowerState::Suspended => self.end(StepOutcome::Succeeded, now, "Suspended", format!("{node} sleeps")),
            _ if record.asleep_since.is_some() => {
                self.end(StepOutcome::Succeeded, now, "Suspended", format!("{node} slept"));
            }
            _ => {
                let why = record.message.clone().unwrap_or_else(|| "it was called off".to_owned());
                self.end(StepOutcome::Failed, now, "NotSuspended", format!("{node}: {why}"));
            }
        }
    }

    /// Follows a node that sleeps only to be woken.
    fn follow_wake_test(&mut self, node: &NodeName, record: &PowerRecord, now: Timestamp) {
        let since_begun = |at: Option<Timestamp>| at.zip(self.started).is_some_and(|(at, started)| at >= started);
        let (proved, failed) = (since_begun(record.wake_tested), since_begun(record.wake_failed));
        let message = record.message.clone().unwrap_or_default();
        match record.phase {
            PowerState::Suspended | PowerState::Waking if !failed => self.begin(now),
            PowerState::Awake if proved => {
                self.end(StepOutcome::Succeeded, now, "Woke", format!("{node} showed that it wakes: {message}"));
            }
            _ if failed => self.end(StepOutcome::Failed, now, "WakeFailed", format!("{node} did not wake: {message}")),
            _ => self.end(StepOutcome::Failed, now, "NotSuspended", format!("{node}: {message}")),
        }
    }
}
