//! One pass, as far as it is acting: writes in their order, each one repeatable, none that needs a choice.

use super::Operator;
use super::deadline::{Deadline, side_by_side};
use super::pass::{Carried, Thoughts};
use super::stalled::Stalled;
use super::tell;
use crate::act::{ActError, Class, Event};
use crate::observe::convert;
use miyako_api::ConsolidationPlan;
use miyako_api::kubevirt::VirtualMachineInstanceMigration;
use miyako_core::carry::{Deed, Next};
use miyako_core::model::{MigrationMode, PlanName, PlanRecord, RecordedStep, Span, StepOutcome, Timestamp, Uid};
use miyako_core::pass::{Aborted, differs};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// The kind of plans as refusals name it.
const PLAN: &str = "ConsolidationPlan";

/// What was written, for the cache that does not show it yet.
#[derive(Debug)]
pub(super) enum Written {
    Plan(Box<ConsolidationPlan>),
    Migration(Box<VirtualMachineInstanceMigration>),
}

/// Whether a plan as it is noted stands elsewhere than the record that was thought about.
fn is_ahead(plan: &ConsolidationPlan, record: &PlanRecord) -> bool {
    let noted = convert::plan::convert(plan).value;
    noted.phase != record.phase || noted.steps != record.steps
}

/// So many plans are led on at a time, …
const PLANS_AT_ONCE: usize = 4;
/// … and so many steps, or Events, of one plan, or VMs that lose our label.
const AT_ONCE: usize = 8;
/// So many VMs lose our label in one pass.
const MOST_UNLABELLED: usize = 100;
/// A VM whose label was taken off is left alone for so long: the watch may be behind, and whoever puts it there again
/// would do so each second.
const UNLABELLED_LATELY: Span = Span::from_secs(30);
/// As long is our MigrationPolicy left alone that was just mended.
const MENDED_LATELY: Span = Span::from_secs(5);

/// What steps that run side by side share.
#[derive(Default)]
struct Shared {
    /// What was written so far.
    written: Mutex<Vec<Written>>,
    /// Modes whose MigrationPolicy is as it must be.
    sure: tokio::sync::Mutex<BTreeSet<MigrationMode>>,
}

impl Shared {
    fn wrote(&self, object: Written) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).push(object);
    }

    fn into_written(self) -> Vec<Written> {
        self.written.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Operator {
    /// Carries out what was thought: what frees slots first, then the plans, then what only tidies up. Stops at once when
    /// we no longer lead, and begins nothing more when the pass's time is over.
    pub(super) async fn perform(&mut self, thoughts: &Thoughts, deadline: Deadline) -> Vec<Written> {
        let shared = Shared::default();
        let aborts: Vec<_> = thoughts.aborts.iter().map(|aborted| deadline.within(self.abort(aborted))).collect();
        for answer in side_by_side(AT_ONCE, aborts).await {
            match answer {
                Ok(left) => left.into_iter().for_each(|left| shared.wrote(Written::Migration(Box::new(left)))),
                Err(ActError::NotLeading) => return shared.into_written(),
                Err(error) => self.failed(&error),
            }
        }
        let wanted = |name: &str| thoughts.carried.iter().any(|carried| carried.record.name.as_str() == name);
        self.refusals.retain(PLAN, wanted);
        let now = self.clock.now();
        let may_write = |carried: &&Carried| self.refusals.may_write(PLAN, carried.record.name.as_str(), now);
        let due: Vec<&Carried> = thoughts.carried.iter().filter(may_write).collect();
        let writes: Vec<_> = due.iter().map(|carried| deadline.within(self.lead_on(carried, &shared))).collect();
        for (carried, answer) in due.iter().zip(side_by_side(PLANS_AT_ONCE, writes).await) {
            let (name, policy) = (carried.record.name.as_str(), carried.record.policy.as_str());
            match answer {
                Ok(()) => self.refusals.accepted(PLAN, name),
                Err(ActError::NotLeading) => return shared.into_written(),
                Err(error) if error.class() == Class::Refused => {
                    self.refused(PLAN, name, Some(policy), &error, now);
                }
                Err(error) => self.failed(&error),
            }
        }
        self.tidy_up(thoughts, deadline, now).await;
        shared.into_written()
    }

    /// Takes our label off VMs that do not need it any more, and mends MigrationPolicies of ours that somebody changed.
    async fn tidy_up(&mut self, thoughts: &Thoughts, deadline: Deadline, now: Timestamp) {
        let lately = |at: &Timestamp, span| now.since(*at) < span && *at <= now;
        self.mended.retain(|_, at| lately(at, MENDED_LATELY));
        for mode in thoughts.drifted.iter().filter(|mode| !self.mended.contains_key(mode)).copied().collect::<Vec<_>>()
        {
            match deadline.within(self.mend(mode)).await {
                Ok(()) => drop(self.mended.insert(mode, now)),
                Err(ActError::NotLeading) => return,
                Err(error) if error.class() == Class::Refused => {
                    self.mended.insert(mode, now);
                    self.failed(&error);
                }
                Err(error) => self.failed(&error),
            }
        }
        self.unlabelled.retain(|_, at| lately(at, UNLABELLED_LATELY));
        let mut stray: Vec<_> =
            thoughts.stray_labels.iter().filter(|(_, uid)| !self.unlabelled.contains_key(uid)).collect();
        stray.truncate(MOST_UNLABELLED);
        let writes: Vec<_> = stray.iter().map(|(vm, uid)| deadline.within(self.actor.unlabel_vm(vm, uid))).collect();
        for ((vm, uid), answer) in stray.into_iter().zip(side_by_side(AT_ONCE, writes).await) {
            match answer {
                Ok(()) => {
                    tracing::debug!(%vm, "took our label off");
                    self.unlabelled.insert(uid.clone(), now);
                }
                Err(ActError::NotLeading) => return,
                Err(error) => {
                    if error.class() == Class::Refused {
                        self.unlabelled.insert(uid.clone(), now);
                    }
                    self.failed(&error);
                }
            }
        }
    }

    async fn mend(&self, mode: MigrationMode) -> Result<(), ActError> {
        if self.actor.ensure_migration_policy(mode).await? {
            self.tell(&tell::policy_mended(mode, self.clock.now())).await?;
        }
        Ok(())
    }

    /// Tells people about migrations that are stalled: at once, and again each time they have been for twice as long.
    pub(super) async fn tell_stalled(&mut self, stalled: &[Stalled], deadline: Deadline) {
        self.stalled_told.retain(|uid, _| stalled.iter().any(|one| one.uid == *uid));
        for one in stalled {
            if self.stalled_told.get(&one.uid).is_some_and(|told| *told >= one.doublings) {
                continue;
            }
            for event in tell::stalled(one) {
                match deadline.within(self.tell(&event)).await {
                    Ok(()) => drop(self.stalled_told.insert(one.uid.clone(), one.doublings)),
                    Err(ActError::NotLeading) => return,
                    Err(error) => self.failed(&error),
                }
            }
        }
    }

    pub(super) fn failed(&self, error: &ActError) {
        self.metrics.failed_writes.with_label_values(&[error.class().name()]).inc();
        tracing::warn!(error = crate::error_chain(error), class = error.class().name(), "a write failed");
    }

    async fn abort(&self, aborted: &Aborted) -> Result<Option<VirtualMachineInstanceMigration>, ActError> {
        tracing::info!(migration = %aborted.migration, reason = aborted.reason, "deleting a migration of ours");
        self.actor.abort(&aborted.migration, &aborted.uid).await
    }

    /// Writes a new plan, does its next deeds, and notes how it stands.
    async fn lead_on(&self, carried: &Carried, shared: &Shared) -> Result<(), ActError> {
        let Carried { record, next, new } = carried;
        let mut object = None;
        if let Some(new) = new {
            let plan = self.actor.write_plan(new).await?;
            shared.wrote(Written::Plan(Box::new(plan.clone())));
            // A plan of this name that is over is over: its digest says that nothing has changed since. One that somebody
            // else began is led on when we see how it stands.
            if is_ahead(&plan, record) {
                return Ok(());
            }
            self.tell_all(&tell::proposed(&plan)).await?;
            object = Some(plan);
        }
        let mut next = next.clone();
        self.do_deeds(record, &mut next, shared).await?;
        // A new plan says at once how it stands, even if it only waits: `kubectl get cplan` shows its phase.
        let untold = object.as_ref().is_some_and(|plan| plan.status.is_none());
        if !differs(record, &next) && !untold {
            return Ok(());
        }
        let plan = match object {
            Some(plan) => plan,
            None => self.actor.read_plan(&record.name).await?,
        };
        if is_ahead(&plan, record) {
            // Somebody else led it on, and our cache does not show that yet: what we thought about it is old.
            shared.wrote(Written::Plan(Box::new(plan)));
            return Ok(());
        }
        self.tell_all(&tell::progress(&plan, record, &next)).await?;
        if let Some(plan) = self.actor.note_plan(&plan, &next).await? {
            tracing::info!(plan = %record.name, phase = ?next.phase, detail = next.message, "plan");
            self.count(record, &next);
            shared.wrote(Written::Plan(Box::new(plan)));
        }
        Ok(())
    }

    /// Does the deeds of a plan: those of one step in their order, several steps side by side. A refused one fails its
    /// step, and no further steps are begun.
    async fn do_deeds(&self, record: &PlanRecord, next: &mut Next, shared: &Shared) -> Result<(), ActError> {
        let mut steps: BTreeMap<usize, Vec<Deed>> = BTreeMap::new();
        for (step, deed) in &next.deeds {
            steps.entry(*step).or_default().push(deed.clone());
        }
        let steps: Vec<(usize, Vec<Deed>)> = steps.into_iter().collect();
        for some in steps.chunks(AT_ONCE) {
            let writes: Vec<_> = some.iter().map(|(_, deeds)| self.take_step(record, deeds, shared)).collect();
            let (mut refused, mut failed) = (None, None);
            for ((step, _), answer) in some.iter().zip(side_by_side(AT_ONCE, writes).await) {
                match answer {
                    Ok(None) => {}
                    Ok(Some(migration)) => {
                        let state = &mut next.steps[*step];
                        state.migration_uid = migration.metadata.uid.as_ref().map(Uid::new);
                        let created = migration.metadata.creation_timestamp.as_ref().map(crate::time::from_api);
                        state.started = created.or(state.started);
                    }
                    Err(error) if error.class() == Class::Refused => {
                        self.failed(&error);
                        refused.get_or_insert((*step, error));
                    }
                    Err(error) => drop(failed.get_or_insert(error)),
                }
            }
            if let Some(error) = failed {
                // What was begun is found by its name.
                return Err(error);
            }
            if let Some((step, error)) = refused {
                next.refuse(record, step, self.clock.now(), &error.answer());
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tells Events side by side.
    async fn tell_all(&self, events: &[Event]) -> Result<(), ActError> {
        let writes = events.iter().map(|event| self.tell(event)).collect();
        side_by_side(AT_ONCE, writes).await.into_iter().collect()
    }

    /// Tells an Event. One that is refused (its namespace is going, or is gone) is lost: it must not keep a plan from
    /// noting how it stands, for ever. One that may go through later is told before that is noted.
    pub(super) async fn tell(&self, event: &Event) -> Result<(), ActError> {
        match self.actor.tell(event).await {
            Err(error) if matches!(error.class(), Class::Refused | Class::Conflict) => {
                self.failed(&error);
                Ok(())
            }
            told => told,
        }
    }

    /// Does the deeds of one step, and hands back the migration that it began.
    async fn take_step(
        &self,
        record: &PlanRecord,
        deeds: &[Deed],
        shared: &Shared,
    ) -> Result<Option<VirtualMachineInstanceMigration>, ActError> {
        let mut begun = None;
        for deed in deeds {
            match deed {
                Deed::LabelVm { vm, uid, mode } => {
                    let mut sure = shared.sure.lock().await;
                    if !sure.contains(mode) {
                        self.actor.ensure_migration_policy(*mode).await?;
                        sure.insert(*mode);
                    }
                    drop(sure);
                    self.actor.label_vm(vm, uid, *mode).await?;
                }
                Deed::UnlabelVm { vm, uid } => self.actor.unlabel_vm(vm, uid).await?,
                Deed::Migrate { vm, uid, migration, hostname } => {
                    let (plan, policy): (&PlanName, _) = (&record.name, &record.policy);
                    let migration = self.actor.migrate(migration, vm, uid, hostname, plan, policy).await?;
                    shared.wrote(Written::Migration(Box::new(migration.clone())));
                    begun = Some(migration);
                }
            }
        }
        Ok(begun)
    }

    fn count(&self, record: &PlanRecord, next: &Next) {
        if next.phase.is_final() {
            self.metrics.plans.with_label_values(&[tell::phase_name(next.phase)]).inc();
        }
        for (step, state) in record.steps.iter().zip(&next.steps) {
            let RecordedStep::Migrate { reason, outcome, .. } = step else { continue };
            let ended = matches!(state.outcome, StepOutcome::Succeeded | StepOutcome::Failed);
            if ended && *outcome != state.outcome {
                let outcome = if state.outcome == StepOutcome::Succeeded { "Succeeded" } else { "Failed" };
                self.metrics.migrations.with_label_values(&[reason.name(), outcome]).inc();
            }
        }
    }
}
