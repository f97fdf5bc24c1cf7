//! What one pass decides beyond [`decide`]: which steps become which plans, when a wish may be written again, and what each
//! plan needs next. The operator and a simulator call it alike.

mod new_plan;
mod respite;

pub use new_plan::NewPlan;

use crate::{
    carry::{self, Next, carry, stray_labels},
    check::{self, Violation},
    model::{
        MigrationName, Plan, PlanName, PlanRecord, Policies, PolicyMode, PolicyName, RecordedStep, Snapshot, Step,
        Timestamp, Uid, VmKey,
    },
    plan::{Report, decide, plan_name},
};
use std::collections::BTreeMap;

/// What else is known of plans and policies.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Who the policies are: one that was deleted and made again is another one.
    pub policies: BTreeMap<PolicyName, Uid>,
    /// Plans that are over, with when they ended.
    pub over: BTreeMap<PlanName, Timestamp>,
}

/// A plan to lead on, and how.
#[derive(Debug, Clone)]
pub struct Carried {
    /// The plan.
    pub record: PlanRecord,
    /// What it needs next.
    pub next: Next,
    /// It is new, and must be written first.
    pub new: Option<NewPlan>,
}

/// A migration of ours to delete.
#[derive(Debug, Clone)]
pub struct Aborted {
    /// Its name.
    pub migration: MigrationName,
    /// Its uid.
    pub uid: Uid,
    /// Why.
    pub reason: String,
}

/// What a pass found to do.
#[derive(Debug, Default)]
pub struct Thoughts {
    /// Migrations of ours to delete.
    pub aborts: Vec<Aborted>,
    /// Plans to lead on: those that wait or run, then the new ones.
    pub carried: Vec<Carried>,
    /// VMs to take our label off.
    pub stray_labels: Vec<(VmKey, Uid)>,
    /// Steps that the check refused.
    pub violations: Vec<Violation>,
    /// Why things are as they are.
    pub report: Report,
}

/// Decides, checks, and works out what each plan needs next. Steps that the check refuses are dropped with their
/// whole policy's plan: a planner that broke a rule once is not to be trusted with the rest of that plan.
#[must_use]
pub fn think(snapshot: &Snapshot, policies: &Policies, known: &Known, now: Timestamp, seed: u64) -> Thoughts {
    let (plan, report) = decide(snapshot, policies, now, seed);
    let violations = check::check(snapshot, policies, &plan, now);
    let mut thoughts = Thoughts { report, ..Thoughts::default() };
    for (step, found) in plan.steps.iter().enumerate() {
        let Step::Abort { migration, uid, reason } = found else { continue };
        if !violations.iter().any(|violation| violation.step == Some(step)) {
            let (migration, uid, reason) = (migration.clone(), uid.clone(), reason.clone());
            thoughts.aborts.push(Aborted { migration, uid, reason });
        }
    }
    let fresh = new_plans(snapshot, policies, known, now, (&plan, &thoughts.report), &violations);
    let mut pass = carry::Pass::default();
    for new in &fresh {
        pass.newer.insert(new.policy.clone(), new.name.clone());
    }
    thoughts.violations = violations;
    let waiting = snapshot.plans.values().filter(|record| !record.phase.is_final());
    for record in waiting {
        let verdict = thoughts.report.proposals.get(&record.name);
        let next = carry(record, verdict, &mut pass, snapshot, policies, now);
        thoughts.carried.push(Carried { record: record.clone(), next, new: None });
    }
    for new in fresh {
        let record = new.record();
        let next = carry(&record, None, &mut pass, snapshot, policies, now);
        thoughts.carried.push(Carried { record, next, new: Some(new) });
    }
    let deeds = thoughts.carried.iter().flat_map(|carried| &carried.next.deeds).map(|(_, deed)| deed);
    thoughts.stray_labels = stray_labels(snapshot, deeds);
    thoughts
}

/// The decision's steps by policy, each as a new plan, unless the same wish is recorded already.
fn new_plans(
    snapshot: &Snapshot,
    policies: &Policies,
    known: &Known,
    now: Timestamp,
    (plan, report): (&Plan, &Report),
    violations: &[Violation],
) -> Vec<NewPlan> {
    let mut by_policy: BTreeMap<&PolicyName, Plan> = BTreeMap::new();
    for step in &plan.steps {
        if let Some(policy) = Plan::policy_of(step) {
            by_policy.entry(policy).or_default().steps.push(step.clone());
        }
    }
    let broken: Vec<&PolicyName> =
        violations.iter().filter_map(|violation| Plan::policy_of(plan.steps.get(violation.step?)?)).collect();
    let whole_plan_broken = violations.iter().any(|violation| violation.step.is_none());
    let mut fresh = Vec::new();
    for (name, plan) in by_policy {
        let Some(policy) = policies.policies.get(name).filter(|policy| policy.mode != PolicyMode::Off) else {
            continue;
        };
        if whole_plan_broken || broken.contains(&name) {
            continue;
        }
        let uid = known.policies.get(name);
        let named = |round| plan_name(policy, uid, &plan, round);
        let Some(round) = respite::round(&known.over, now, named) else { continue };
        let name = named(round);
        if !snapshot.plans.contains_key(&name) {
            fresh.push(NewPlan::of(policy, name, plan, report, now));
        }
    }
    fresh
}

/// Whether a plan's noted state differs from what it is now.
#[must_use]
pub fn differs(record: &PlanRecord, next: &Next) -> bool {
    use RecordedStep::{Migrate, Suspend, Unreadable, Wake};
    record.phase != next.phase
        || record.steps.iter().zip(&next.steps).any(|(step, state)| match step {
            Wake { outcome, .. } | Suspend { outcome, .. } | Unreadable { outcome } => *outcome != state.outcome,
            Migrate { outcome, migration_uid, taken_back, .. } => {
                *outcome != state.outcome || *migration_uid != state.migration_uid || *taken_back != state.taken_back
            }
        })
}
