//! ConsolidationPlans: written before anything is done, led to their end in status, deleted when nobody needs them.

use super::error::Attempt as _;
use super::statuses::Precondition;
use super::{ActError, Actor};
use crate::time::to_api;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams, Preconditions};
use miyako_api::ConsolidationPlan;
use miyako_api::answer::{Absent, absent};
use miyako_api::consolidation_plan::{
    ConsolidationPlanSpec, ConsolidationPlanStatus, FailoverProof, MigrationMode as ApiMode, PlanPhase as ApiPhase,
    PlanStep, PodReference, StepKind, StepPhase, StepStatus, VmReference,
};
use miyako_api::consolidation_policy::Mode;
use miyako_api::names::{manager, ours};
use miyako_core::carry::{Next, StepState};
use miyako_core::model::{
    LoadTable, MigrationMode, MoveReason, Plan, PlanName, PlanPhase, Policy, PolicyMode, Step, StepOutcome,
    SuspendReason, TakenBack, Timestamp, Uid, WakeReason,
};
use miyako_core::pass::NewPlan;
use miyako_core::plan::SuspendProof;
use std::collections::BTreeMap;

/// What a plan's summary and its reasons take.
const LONGEST: usize = 250;
/// What a step's message takes.
const LONGEST_MESSAGE: usize = 1024;

/// The object for a new plan of this policy.
#[must_use]
pub fn plan_object(new: &NewPlan, policy: Option<&Policy>, load: &LoadTable) -> ConsolidationPlan {
    let steps = new.plan.steps.iter().filter_map(|step| step_object(step, new, policy, load)).collect();
    ConsolidationPlan {
        metadata: ObjectMeta {
            name: Some(new.name.to_string()),
            labels: Some(BTreeMap::from([
                (ours::MANAGED_BY.into(), ours::MIYAKO.into()),
                (ours::POLICY.into(), new.policy.to_string()),
            ])),
            ..ObjectMeta::default()
        },
        spec: ConsolidationPlanSpec {
            policy: new.policy.to_string(),
            mode: match new.mode {
                PolicyMode::Automatic => Mode::Automatic,
                PolicyMode::Recommend => Mode::Recommend,
                PolicyMode::Off => Mode::Off,
            },
            created_for: crate::shortened(&reasons(&new.plan), LONGEST),
            summary: crate::shortened(&summary(&new.plan), LONGEST),
            steps,
            decided_at: to_api(new.decided),
            expires_at: to_api(new.expires),
            approved: false,
            approved_by: None,
        },
        status: None,
    }
}

fn step_object(step: &Step, new: &NewPlan, policy: Option<&Policy>, load: &LoadTable) -> Option<PlanStep> {
    let blank = PlanStep {
        kind: StepKind::Wake,
        vm: None,
        pod: None,
        source_node: None,
        target_node: String::new(),
        migration_mode: None,
        migration_name: None,
        attempt: 0,
        reason: String::new(),
        message: String::new(),
        source_load_percent: None,
        vm_load_millicores: None,
        idle_since: None,
        predicted: None,
        proof: None,
    };
    match step {
        Step::Migrate(step) => {
            let (source_load, idle_since) = match &step.reason {
                MoveReason::Overload { node_load, .. } => (Some(whole(node_load.value())), None),
                MoveReason::Idle { since, .. } => (None, Some(to_api(*since))),
            };
            let vm_load = load.vms.get(&step.vm).and_then(miyako_core::model::LoadHistory::latest);
            Some(PlanStep {
                kind: StepKind::Migrate,
                vm: Some(VmReference {
                    namespace: step.vm.namespace.to_string(),
                    name: step.vm.name.to_string(),
                    uid: step.uid.to_string(),
                }),
                source_node: Some(step.source.to_string()),
                target_node: step.target.to_string(),
                migration_mode: Some(match step.mode {
                    MigrationMode::PreCopy => ApiMode::PreCopy,
                    MigrationMode::PostCopy => ApiMode::PostCopy,
                }),
                migration_name: Some(step.migration.name.to_string()),
                attempt: step.attempt,
                reason: step.reason.name().into(),
                message: step.reason.to_string(),
                source_load_percent: source_load,
                vm_load_millicores: vm_load.map(|cores| whole(cores.value() * 1000.0)),
                idle_since,
                ..blank
            })
        }
        Step::Wake(step) => Some(PlanStep {
            pod: match &step.reason {
                WakeReason::PendingPod { pod, uid } => Some(PodReference {
                    namespace: pod.namespace.to_string(),
                    name: pod.name.to_string(),
                    uid: uid.to_string(),
                }),
                _ => None,
            },
            target_node: step.node.to_string(),
            reason: step.reason.name().into(),
            message: step.reason.to_string(),
            ..blank
        }),
        Step::Suspend(step) => {
            let proof = new.proofs.get(&step.node);
            let rests_on = proof.map(|proof| format!("; {proof}")).unwrap_or_default();
            Some(PlanStep {
                kind: StepKind::Suspend,
                target_node: step.node.to_string(),
                reason: step.reason.name().into(),
                message: crate::shortened(&format!("{}{rests_on}", step.reason), LONGEST_MESSAGE),
                proof: proof.zip(policy).map(|(proof, policy)| proof_object(proof, policy)),
                ..blank
            })
        }
        Step::Abort { .. } => None,
    }
}

fn proof_object(proof: &SuspendProof, policy: &Policy) -> miyako_api::consolidation_plan::SuspendProof {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).min(1_000_000);
    let failover = proof.failover.as_ref().map(|tried| FailoverProof {
        failures: policy.keep_awake_failures,
        per: policy.keep_awake_per.clone(),
        tried: count(tried.tried),
        worst_nodes: tried.worst.iter().map(ToString::to_string).collect(),
        worst_vms: count(tried.vms),
        homeless_vms: count(tried.homeless),
    });
    miyako_api::consolidation_plan::SuspendProof {
        empty_since: proof.empty_since.map(to_api),
        wake_tested_at: proof.wake_tested.map(to_api),
        awake_nodes: proof.awake,
        spare_nodes: proof.spare,
        failover,
    }
}

/// A figure for people, rounded; beyond what the field takes it is cut.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped first
fn whole(value: f64) -> u32 {
    value.round().clamp(0.0, 100_000.0) as u32
}

fn reasons(plan: &Plan) -> String {
    let mut names: Vec<&str> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Migrate(step) => Some(step.reason.name()),
            Step::Wake(step) => Some(step.reason.name()),
            Step::Suspend(step) => Some(step.reason.name()),
            Step::Abort { .. } => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

fn summary(plan: &Plan) -> String {
    let steps: Vec<String> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Migrate(step) => Some(format!("{} → {}", step.vm, step.target)),
            Step::Wake(step) => Some(format!("wake {}", step.node)),
            Step::Suspend(step) if step.reason == SuspendReason::WakeTest => Some(format!("wake-test {}", step.node)),
            Step::Suspend(step) => Some(format!("suspend {}", step.node)),
            Step::Abort { .. } => None,
        })
        .collect();
    steps.join(", ")
}

/// A plan's status after `next`.
#[must_use]
pub(super) fn status_of(
    current: Option<&ConsolidationPlanStatus>,
    next: &Next,
    now: Timestamp,
) -> ConsolidationPlanStatus {
    let current = current.cloned().unwrap_or_default();
    let began = next.steps.iter().filter_map(|step| step.started).min();
    ConsolidationPlanStatus {
        phase: Some(match next.phase {
            PlanPhase::Proposed => ApiPhase::Proposed,
            PlanPhase::Running => ApiPhase::Running,
            PlanPhase::Succeeded => ApiPhase::Succeeded,
            PlanPhase::Failed => ApiPhase::Failed,
            PlanPhase::Expired => ApiPhase::Expired,
            PlanPhase::Superseded => ApiPhase::Superseded,
            PlanPhase::Refused => ApiPhase::Refused,
        }),
        superseded_by: next.superseded_by.as_ref().map(PlanName::to_string).or(current.superseded_by),
        started_at: current.started_at.or(began.map(to_api)),
        ended_at: current.ended_at.or(next.phase.is_final().then(|| to_api(now))),
        steps: (0..).zip(&next.steps).map(|(index, step)| step_status(index, step, &current.steps)).collect(),
        message: next.message.clone().or(current.message).map(|text| text.chars().take(1000).collect()),
        ..current
    }
}

fn step_status(index: u32, step: &StepState, before: &[StepStatus]) -> StepStatus {
    let before = before.iter().find(|status| status.index == index);
    // What no longer holds is not said any more: a target came up after all.
    let was_taken_back = |status: &StepStatus| {
        let reason = status.reason.as_deref().unwrap_or_default();
        TakenBack::read(reason, "").is_some() && status.phase == StepPhase::Running
    };
    let before = before.filter(|status| step.taken_back.is_some() || !was_taken_back(status));
    let back = step.taken_back.as_ref();
    StepStatus {
        index,
        phase: match step.outcome {
            StepOutcome::Waiting => StepPhase::Waiting,
            StepOutcome::Running => StepPhase::Running,
            StepOutcome::Succeeded => StepPhase::Succeeded,
            StepOutcome::Failed => StepPhase::Failed,
            StepOutcome::Skipped => StepPhase::Skipped,
        },
        migration_uid: step.migration_uid.as_ref().map(Uid::to_string),
        started_at: step.started.map(to_api),
        ended_at: step.ended.map(to_api),
        reason: step
            .reason
            .or(back.map(|back| back.reason))
            .map(str::to_owned)
            .or_else(|| before.and_then(|status| status.reason.clone())),
        message: step
            .message
            .clone()
            .or_else(|| back.map(|back| back.message.clone()))
            .or_else(|| before.and_then(|status| status.message.clone()))
            .map(|text| text.chars().take(1000).collect()),
    }
}

impl Actor {
    /// Writes a plan. One of this name that is there already is the same wish, and is handed back as it is.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn write_plan(&self, plan: &ConsolidationPlan) -> Result<ConsolidationPlan, ActError> {
        let api: Api<ConsolidationPlan> = Api::all(self.writer()?);
        let name = plan.metadata.name.clone().unwrap_or_default();
        let params = PostParams { field_manager: Some(manager::OPERATOR.into()), ..PostParams::default() };
        match api.create(&params, plan).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                api.get(&name).await.attempt(|| format!("read ConsolidationPlan {name}"))
            }
            created => created.attempt(|| format!("create ConsolidationPlan {name}")),
        }
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn read_plan(&self, name: &PlanName) -> Result<ConsolidationPlan, ActError> {
        let api: Api<ConsolidationPlan> = Api::all(self.client.clone());
        api.get(name.as_str()).await.attempt(|| format!("read ConsolidationPlan {name}"))
    }

    /// Notes how a plan stands, if that differs from what is noted. Hands back the object if it was written.
    ///
    /// # Errors
    /// See [`ActError::class`]; `Conflict` if the plan has changed since it was read.
    pub async fn note_plan(
        &self,
        plan: &ConsolidationPlan,
        next: &Next,
    ) -> Result<Option<ConsolidationPlan>, ActError> {
        let status = status_of(plan.status.as_ref(), next, self.clock.now());
        if plan.status.as_ref() == Some(&status) {
            return Ok(None);
        }
        let name = plan.metadata.name.clone().unwrap_or_default();
        let read = Precondition {
            uid: plan.metadata.uid.as_deref(),
            resource_version: plan.metadata.resource_version.as_deref(),
        };
        self.apply_status(&name, read, &status).await.map(Some)
    }

    /// Deletes a plan that is over and that no budget needs any more.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn forget_plan(&self, name: &PlanName, uid: &Uid) -> Result<(), ActError> {
        let api: Api<ConsolidationPlan> = Api::all(self.writer()?);
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.to_string()), ..Preconditions::default() }),
            ..DeleteParams::default()
        };
        match api.delete(name.as_str(), &params).await {
            Err(error) if absent(&error) == Some(Absent::Object) => Ok(()),
            deleted => {
                deleted.attempt(|| format!("delete ConsolidationPlan {name}"))?;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::{Class, Fence};
    use crate::clock::SystemClock;
    use crate::sim::apiserver::{ApiServer, Options};
    use serde_json::json;
    use std::sync::Arc;
    use std::time::Duration;

    struct AlwaysHeld;

    impl Fence for AlwaysHeld {
        fn remaining(&self) -> Option<Duration> {
            Some(Duration::from_secs(5))
        }

        fn uptime(&self) -> Duration {
            Duration::ZERO
        }
    }

    fn next(phase: PlanPhase) -> Next {
        Next { deeds: Vec::new(), phase, steps: Vec::new(), message: None, superseded_by: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_plan_that_changed_since_it_was_read_is_not_noted() {
        let server = ApiServer::new(Options::default());
        for crd in miyako_api::crds() {
            server.add_crd(&json!(crd)).expect("our definitions are understood");
        }
        let hands = |name: &str| Actor::new(server.client(name), Arc::new(AlwaysHeld), Arc::new(SystemClock), name);
        let (old, new) = (hands("old"), hands("new"));
        let plan: ConsolidationPlan = serde_json::from_value(json!({
            "apiVersion": "miyako.dev/v1alpha1",
            "kind": "ConsolidationPlan",
            "metadata": {"name": "p"},
            "spec": {
                "policy": "pack", "mode": "Automatic", "createdFor": "Idle", "summary": "wake d0",
                "decidedAt": "2026-01-05T00:00:00Z", "expiresAt": "2026-01-05T00:01:00Z",
                "steps": [{"type": "Wake", "targetNode": "d0", "reason": "Reserve", "message": ""}],
            },
        }))
        .expect("a plan");
        let read = old.write_plan(&plan).await.expect("it is written");
        let noted = new.note_plan(&read, &next(PlanPhase::Succeeded)).await.expect("it is noted");
        let error = old.note_plan(&read, &next(PlanPhase::Running)).await.expect_err("it has changed");
        assert_eq!(error.class(), Class::Conflict, "{}", error.answer());
        let phase = old.read_plan(&PlanName::new("p")).await.expect("it is there").status.and_then(|told| told.phase);
        assert_eq!(phase, Some(ApiPhase::Succeeded));
        let again = new.note_plan(&noted.expect("it was written"), &next(PlanPhase::Failed)).await;
        again.expect("what was read last may be written");
    }
}
