//! The safety rules (`SPECIFICATION.md`) over any plan, whoever made it.
//!
//! The planner keeps these rules by itself; this module shares no decision with it and judges what comes out, in
//! every test and once more just before acting. It walks through the steps in order and keeps a simple state: moved
//! VMs count on both ends, a woken node is no target before it is usable. A step is judged by what it
//! adds, so a cluster that already breaks a rule is not wedged by it.

mod cause;
mod declared;
mod failover;
mod health_checks;
mod knowledge;
mod movable;
mod past_load;
mod pending;
mod placement;
mod post_copy;
mod reserve;
mod state;
mod suspend;
mod traffic;

#[cfg(test)]
mod tests;

pub use cause::{Cause, Immovable, NoFit};

use crate::model::{MigrateStep, Plan, Policies, Snapshot, Step, SuspendStep, Timestamp, WakeStep};
use serde::{Deserialize, Serialize};
use state::{Move, State};
use std::fmt;

/// The rules of `SPECIFICATION.md` by their numbers, and that a plan serves what was declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rule {
    /// Rule 1: a VM is placed only where it fits.
    Placement,
    /// Rule 2: only a VM that may and can move is moved.
    Movable,
    /// Rule 3: only a node that nobody needs is suspended.
    Suspendable,
    /// Rule 4: spare capacity, awake nodes and budgets are kept.
    Reserve,
    /// Rule 5: a dedicated node has a core for each vCPU.
    DedicatedCores,
    /// Rule 6: few migrations into or out of one node at once.
    NodeTraffic,
    /// Rule 7: a post-copy migration is never cut off.
    PostCopy,
    /// Rule 8: nothing irrevocable is done on what is unknown or stale.
    Knowledge,
    /// Rule 9: what is pending gets the node it needs.
    Pending,
    /// Rule 10: no move during a rollout, a hold or beside a rival.
    Standstill,
    /// The policy exists, is valid, acts, rules the nodes and selects the VM, and the step is what it asks for.
    Declared,
}

impl Rule {
    /// The rule's number in `SPECIFICATION.md`; none for what follows from the policies alone.
    #[must_use]
    pub fn number(self) -> Option<u8> {
        match self {
            Self::Placement => Some(1),
            Self::Movable => Some(2),
            Self::Suspendable => Some(3),
            Self::Reserve => Some(4),
            Self::DedicatedCores => Some(5),
            Self::NodeTraffic => Some(6),
            Self::PostCopy => Some(7),
            Self::Knowledge => Some(8),
            Self::Pending => Some(9),
            Self::Standstill => Some(10),
            Self::Declared => None,
        }
    }

    /// The rule's name in metrics and conditions.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Placement => "Placement",
            Self::Movable => "Movable",
            Self::Suspendable => "Suspendable",
            Self::Reserve => "Reserve",
            Self::DedicatedCores => "DedicatedCores",
            Self::NodeTraffic => "NodeTraffic",
            Self::PostCopy => "PostCopy",
            Self::Knowledge => "Knowledge",
            Self::Pending => "Pending",
            Self::Standstill => "Standstill",
            Self::Declared => "Declared",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => write!(f, "rule {number} ({})", self.name()),
            None => f.write_str(self.name()),
        }
    }
}

/// A step that must not be carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// The step's place in the plan, from 0; none if the plan as a whole is at fault.
    pub step: Option<usize>,
    /// What is wrong.
    pub cause: Cause,
}

impl Violation {
    /// The rule it breaks.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.cause.rule()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Some(step) => write!(f, "{}, step {step}: {}", self.rule(), self.cause),
            None => write!(f, "{}: {}", self.rule(), self.cause),
        }
    }
}

/// Gathers violations while the steps are walked through.
#[derive(Default)]
struct Findings {
    step: Option<usize>,
    violations: Vec<Violation>,
}

impl Findings {
    fn add(&mut self, cause: Cause) {
        self.violations.push(Violation { step: self.step, cause });
    }
}

/// Judges a plan for the cluster as it is. A plan without violations may be carried out; a violation names the rule
/// and the step.
#[must_use]
pub fn check(snapshot: &Snapshot, policies: &Policies, plan: &Plan, now: Timestamp) -> Vec<Violation> {
    if plan.steps.is_empty() {
        return Vec::new();
    }
    let mut found = Findings::default();
    let mut state = State::new(snapshot, policies, plan, now);
    walk(&mut state, plan, &mut found);
    if !state.suspended.is_empty() {
        failover::judge(&mut state, &mut found);
        health_checks::judge(&state, &mut found);
        pending::judge(&state, &mut found);
    }
    found.violations
}

/// Takes the steps one by one, each judged by what those before it lead to.
fn walk<'a>(state: &mut State<'a>, plan: &'a Plan, found: &mut Findings) {
    for (index, step) in plan.steps.iter().enumerate() {
        found.step = Some(index);
        match step {
            Step::Migrate(step) => migrate(state, step, found),
            Step::Wake(step) => wake(state, step, found),
            Step::Suspend(step) => suspend(state, step, index, found),
            Step::Abort { migration, uid, .. } => post_copy::abort(state, migration, uid, found),
        }
    }
}

fn migrate<'a>(state: &mut State<'a>, step: &'a MigrateStep, found: &mut Findings) {
    knowledge::migrations_are_possible(state, found);
    let Some(planned) = state.resolve(step, found) else { return };
    declared::migrate(state, &planned, found);
    movable::judge(state, &planned, found);
    knowledge::of_move(state, &planned, found);
    knowledge::standstill(state, planned.policy, found);
    placement::judge(state, &planned, found);
    placement::dedicated_cores(state, &planned, found);
    placement::admission(state, &planned, found);
    past_load::judge(state, &planned, found);
    traffic::judge(state, &planned, found);
    post_copy::may_use(&planned, found);
    state.begin(&planned);
}

fn wake<'a>(state: &mut State<'a>, step: &'a WakeStep, found: &mut Findings) {
    declared::policy(state, &step.policy, found);
    pending::wake(state, step, found);
    state.woken.insert(&step.node);
}

fn suspend<'a>(state: &mut State<'a>, step: &'a SuspendStep, index: usize, found: &mut Findings) {
    state.suspended.insert(&step.node, index);
    knowledge::complete(state, found);
    if let Some(policy) = declared::policy(state, &step.policy, found) {
        knowledge::standstill(state, policy, found);
        declared::suspend(state, policy, step, found);
        reserve::judge(state, policy, found);
    }
    suspend::judge(state, step, found);
    post_copy::suspend(state, step, found);
}
