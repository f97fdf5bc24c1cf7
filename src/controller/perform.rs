//! One pass, as far as it is acting: writes in their order, each one repeatable, none that needs a choice.

use super::Operator;
use super::pass::{Aborted, Carried, Thoughts, differs};
use super::stalled::Stalled;
use super::tell;
use crate::act::{ActError, Class, Event};
use crate::observe::convert;
use miyako_api::ConsolidationPlan;
use miyako_api::kubevirt::VirtualMachineInstanceMigration;
use miyako_core::model::{PlanName, PlanRecord, RecordedStep, StepOutcome, Uid};
use miyako_core::plan::{Deed, Next};

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

impl Operator {
    /// Carries out what was thought. Stops at once when we no longer lead.
    pub(super) async fn perform(&mut self, thoughts: &Thoughts) -> Vec<Written> {
        let mut written = Vec::new();
        for aborted in &thoughts.aborts {
            match self.abort(aborted).await {
                Ok(left) => written.extend(left.map(|migration| Written::Migration(Box::new(migration)))),
                Err(ActError::NotLeading) => return written,
                Err(error) => self.failed(&error),
            }
        }
        let wanted = |name: &str| thoughts.carried.iter().any(|carried| carried.record.name.as_str() == name);
        self.refusals.retain(PLAN, wanted);
        for carried in &thoughts.carried {
            let (name, policy) = (carried.record.name.as_str(), carried.record.policy.as_str());
            let now = self.clock.now();
            if !self.refusals.may_write(PLAN, name, now) {
                continue;
            }
            match self.lead_on(carried, &mut written).await {
                Ok(()) => self.refusals.accepted(PLAN, name),
                Err(ActError::NotLeading) => return written,
                Err(error) if error.class() == Class::Refused => {
                    self.refused(PLAN, name, Some(policy), &error, now);
                }
                Err(error) => self.failed(&error),
            }
        }
        written
    }

    /// Tells people about migrations that are stalled: at once, and again each time they have been for twice as long.
    pub(super) async fn tell_stalled(&mut self, stalled: &[Stalled]) {
        self.stalled_told.retain(|uid, _| stalled.iter().any(|one| one.uid == *uid));
        for one in stalled {
            if self.stalled_told.get(&one.uid).is_some_and(|told| *told >= one.doublings) {
                continue;
            }
            for event in tell::stalled(one) {
                match self.tell(&event).await {
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
    async fn lead_on(&self, carried: &Carried, written: &mut Vec<Written>) -> Result<(), ActError> {
        let Carried { record, next, new } = carried;
        let mut object = None;
        if let Some(new) = new {
            let plan = self.actor.write_plan(new).await?;
            written.push(Written::Plan(Box::new(plan.clone())));
            // A plan of this name that is over is over: its digest says that nothing has changed since. One that somebody
            // else began is led on when we see how it stands.
            if is_ahead(&plan, record) {
                return Ok(());
            }
            for event in tell::proposed(&plan) {
                self.tell(&event).await?;
            }
            object = Some(plan);
        }
        let mut next = next.clone();
        for (step, deed) in next.deeds.clone() {
            match self.carry_out(record, &deed).await {
                Ok(None) => {}
                Ok(Some(migration)) => {
                    let state = &mut next.steps[step];
                    state.migration_uid = migration.metadata.uid.as_ref().map(Uid::new);
                    let created = migration.metadata.creation_timestamp.as_ref().map(crate::time::from_api);
                    state.started = created.or(state.started);
                    written.push(Written::Migration(Box::new(migration)));
                }
                Err(error) if error.class() == Class::Refused => {
                    self.failed(&error);
                    next.refuse(record, step, self.clock.now(), &error.answer());
                    break;
                }
                Err(error) => return Err(error),
            }
        }
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
            written.push(Written::Plan(Box::new(plan)));
            return Ok(());
        }
        for event in tell::progress(&plan, record, &next) {
            self.tell(&event).await?;
        }
        if let Some(plan) = self.actor.note_plan(&plan, &next).await? {
            tracing::info!(plan = %record.name, phase = ?next.phase, detail = next.message, "plan");
            self.count(record, &next);
            written.push(Written::Plan(Box::new(plan)));
        }
        Ok(())
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

    async fn carry_out(
        &self,
        record: &PlanRecord,
        deed: &Deed,
    ) -> Result<Option<VirtualMachineInstanceMigration>, ActError> {
        match deed {
            Deed::LabelVm { vm, uid, mode } => {
                self.actor.ensure_migration_policy(*mode).await?;
                self.actor.label_vm(vm, uid, *mode).await?;
                Ok(None)
            }
            Deed::Migrate { vm, uid, migration, hostname } => {
                let (plan, policy): (&PlanName, _) = (&record.name, &record.policy);
                self.actor.migrate(migration, vm, uid, hostname, plan, policy).await.map(Some)
            }
        }
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
                self.metrics.migrations.with_label_values(&[tell::known_reason(reason), outcome]).inc();
            }
        }
    }
}
