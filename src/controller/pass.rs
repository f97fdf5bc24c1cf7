//! One pass, as far as it is thinking: what was decided, checked and is to be written. No client, no waiting.

use crate::act::{NewPlan, plan_object};
use crate::observe::convert;
use miyako_api::ConsolidationPlan;
use miyako_core::carry::{Next, Pass, carry, stray_labels};
use miyako_core::check::{self, Violation};
use miyako_core::model::{
    MigrationMode, MigrationName, Plan, PlanName, PlanRecord, Policies, PolicyMode, PolicyName, Snapshot, Span, Step,
    Timestamp, Uid, VmKey,
};
use miyako_core::plan::{Report, decide, plan_name};
use std::collections::BTreeMap;

/// A wish whose plan came to its end is not written again before this time has passed: whatever ended it may still
/// hold. The time doubles with each further plan that the same wish came to nothing with lately.
const RESPITE: Span = Span::from_secs(60);
/// The longest such time: what was in the way may be gone, and a node is overloaded.
const LONGEST_RESPITE: Span = Span::from_secs(8 * 60);
/// Ends longer ago than this no longer count.
const LATELY: Span = Span::from_secs(3600);

/// What else is known of plans and policies.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Who the policies are.
    pub(super) policies: BTreeMap<PolicyName, Uid>,
    /// Plans that are over, with when they ended.
    pub(super) over: BTreeMap<PlanName, Timestamp>,
}

/// A plan to lead on, and how.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    pub(super) record: PlanRecord,
    pub(super) next: Next,
    /// The object, if it is new and must be written first.
    pub(super) new: Option<ConsolidationPlan>,
}

/// A migration of ours to delete.
#[derive(Debug, Clone)]
pub(super) struct Aborted {
    pub(super) migration: MigrationName,
    pub(super) uid: Uid,
    pub(super) reason: String,
}

/// What a pass found to do.
#[derive(Debug, Default)]
pub(super) struct Thoughts {
    pub(super) aborts: Vec<Aborted>,
    pub(super) carried: Vec<Carried>,
    /// VMs to take our label off.
    pub(super) stray_labels: Vec<(VmKey, Uid)>,
    /// Modes whose MigrationPolicy of ours somebody changed.
    pub(super) drifted: Vec<MigrationMode>,
    pub(super) violations: Vec<Violation>,
    pub(super) report: Report,
}

/// Decides, checks, and works out what each plan needs next. Steps that the check refuses are dropped with their
/// whole policy's plan: a planner that broke a rule once is not to be trusted with the rest of that plan.
pub(super) fn think(snapshot: &Snapshot, policies: &Policies, known: &Known, now: Timestamp, seed: u64) -> Thoughts {
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
    let mut pass = Pass::default();
    let fresh = new_plans(snapshot, policies, known, now, (&plan, &thoughts.report), &violations);
    for (record, _) in &fresh {
        pass.newer.insert(record.policy.clone(), record.name.clone());
    }
    thoughts.violations = violations;
    let waiting = snapshot.plans.values().filter(|record| !record.phase.is_final());
    for record in waiting {
        let verdict = thoughts.report.proposals.get(&record.name);
        let next = carry(record, verdict, &mut pass, snapshot, policies, now);
        thoughts.carried.push(Carried { record: record.clone(), next, new: None });
    }
    for (record, object) in fresh {
        let next = carry(&record, None, &mut pass, snapshot, policies, now);
        thoughts.carried.push(Carried { record, next, new: Some(object) });
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
) -> Vec<(PlanRecord, ConsolidationPlan)> {
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
        let Some(round) = round(known, now, |round| plan_name(policy, uid, &plan, round)) else { continue };
        if snapshot.plans.contains_key(&plan_name(policy, uid, &plan, round)) {
            continue;
        }
        let new = NewPlan { policy, policy_uid: uid, plan, proofs: &report.proofs, round, decided: now };
        let object = plan_object(&new, &snapshot.load);
        fresh.push((convert::plan::convert(&object).value, object));
    }
    fresh
}

/// The first round of a wish whose plan is not over; none while the last one ended too short a time ago.
fn round(known: &Known, now: Timestamp, name: impl Fn(u32) -> PlanName) -> Option<u32> {
    let ends: Vec<Timestamp> = (0..).map_while(|round| known.over.get(&name(round)).copied()).collect();
    let latest = ends.iter().max().copied();
    let lately = ends.iter().filter(|&&ended| now.since(ended) < LATELY).count();
    let doublings = u32::try_from(lately.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
    let respite = RESPITE.saturating_mul(1 << doublings).min(LONGEST_RESPITE);
    let round = u32::try_from(ends.len()).ok()?;
    latest.is_none_or(|ended| now.since(ended) >= respite).then_some(round)
}

/// Whether a plan's noted state differs from what it is now.
pub(super) fn differs(record: &PlanRecord, next: &Next) -> bool {
    use miyako_core::model::RecordedStep::{Migrate, Suspend, Unreadable, Wake};
    record.phase != next.phase
        || record.steps.iter().zip(&next.steps).any(|(step, state)| match step {
            Wake { outcome, .. } | Suspend { outcome, .. } | Unreadable { outcome } => *outcome != state.outcome,
            Migrate { outcome, migration_uid, taken_back, .. } => {
                *outcome != state.outcome || *migration_uid != state.migration_uid || *taken_back != state.taken_back
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_that_stays_blocked_is_written_ever_more_seldom() {
        let name = |round| PlanName::new(format!("wish-{round}"));
        let mut known = Known::default();
        let (mut now, mut begun) = (Timestamp::from_secs(1_000_000), Vec::new());
        let start = now;
        while now.since(start) < Span::from_secs(2 * 3600) {
            if let Some(round) = round(&known, now, name) {
                begun.push(now.since(start).as_secs());
                // Each plan waits a minute and expires.
                known.over.insert(name(round), now + Span::from_secs(60));
                now = now + Span::from_secs(60);
            }
            now = now + Span::from_secs(1);
        }
        let waits: Vec<u64> = begun.windows(2).map(|pair| pair[1] - pair[0] - 60).collect();
        assert_eq!(waits[..4], [60, 120, 240, 480]);
        assert!(waits[4..].iter().all(|&wait| wait == 480), "{waits:?}");
        // A day later nobody remembers, and the first wait is short again.
        let later = now + Span::from_secs(24 * 3600);
        let last = u32::try_from(begun.len()).unwrap();
        assert_eq!(round(&known, later, name), Some(last));
        known.over.insert(name(last), later);
        assert_eq!(round(&known, later + Span::from_secs(59), name), None);
        assert_eq!(round(&known, later + Span::from_secs(60), name), Some(last + 1));
    }
}
