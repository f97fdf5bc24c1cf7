//! Which Events a transition is worth: on the VM that moves, on its VirtualMachine, and on the policy.

use super::stalled::Stalled;
use crate::act::{Event, EventKind, Subject};
use miyako_api::ConsolidationPlan;
use miyako_api::consolidation_plan::{PlanStep, StepKind, VmReference};
use miyako_api::consolidation_policy::Mode;
use miyako_api::names::{ours, reason};
use miyako_core::carry::{MODE_IGNORED, Next};
use miyako_core::model::{MigrationMode, PlanPhase, PlanRecord, StepOutcome, Timestamp, Uid, WakeKind};

const KUBEVIRT: &str = "kubevirt.io/v1";

/// A phase's name in metrics.
pub(super) fn phase_name(phase: PlanPhase) -> &'static str {
    match phase {
        PlanPhase::Proposed => "Proposed",
        PlanPhase::Running => "Running",
        PlanPhase::Succeeded => "Succeeded",
        PlanPhase::Failed => "Failed",
        PlanPhase::Expired => "Expired",
        PlanPhase::Superseded => "Superseded",
        PlanPhase::Refused => "Refused",
    }
}

/// A new plan that waits for a person.
pub(super) fn proposed(plan: &ConsolidationPlan) -> Vec<Event> {
    let asks_nobody = |step: &PlanStep| step.kind == StepKind::Wake && WakeKind::of_name(&step.reason).is_due();
    if plan.spec.mode == Mode::Automatic || plan.spec.steps.iter().all(asks_nobody) {
        return Vec::new();
    }
    let name = plan.metadata.name.clone().unwrap_or_default();
    let note = format!(
        "plan {name} ({}: {}) waits for approval; look at it with `kubectl get cplan {name} -o yaml`",
        plan.spec.created_for, plan.spec.summary
    );
    vec![on_policy(plan, EventKind::Normal, reason::PLAN_PROPOSED, note)]
}

/// What changed between a plan's noted state and `next`.
pub(super) fn progress(plan: &ConsolidationPlan, record: &PlanRecord, next: &Next) -> Vec<Event> {
    let mut events = Vec::new();
    for ((index, step), (before, after)) in (0..).zip(&plan.spec.steps).zip(record.steps.iter().zip(&next.steps)) {
        if before.outcome() == after.outcome {
            continue;
        }
        let to = &step.target_node;
        let from = step.source_node.as_deref().unwrap_or("?");
        let (kind, why, action, note) = match after.outcome {
            StepOutcome::Running => (
                EventKind::Normal,
                reason::MIGRATING,
                "Migrate",
                format!("moving from {from} to {to}: {}", step.message),
            ),
            StepOutcome::Succeeded => {
                (EventKind::Normal, reason::MIGRATED, "Migrate", after.message.clone().unwrap_or_default())
            }
            StepOutcome::Failed => {
                let message = after.message.clone().unwrap_or_default();
                let note = format!("the move from {from} to {to} failed: {message}");
                (EventKind::Warning, failure(after.reason), "Migrate", note)
            }
            StepOutcome::Waiting | StepOutcome::Skipped => continue,
        };
        let once = format!("{}/{index}/{:?}", record.name, after.outcome);
        events.extend(step.vm.iter().flat_map(|vm| on_vm(vm, kind, why, action, &note, &once)));
        if after.reason == Some(MODE_IGNORED) {
            let note = format!("the move from {from} to {to}: {}", after.message.as_deref().unwrap_or_default());
            let (kind, why) = (EventKind::Warning, reason::MODE_IGNORED);
            events.extend(step.vm.iter().flat_map(|vm| on_vm(vm, kind, why, action, &note, &once)));
        }
    }
    if record.phase != next.phase {
        let message = next.message.clone().unwrap_or_default();
        let note = format!("plan {} ({}): {message}", record.name, plan.spec.summary);
        let event = match next.phase {
            PlanPhase::Proposed => None,
            PlanPhase::Running => {
                let by = plan.spec.approved_by.as_deref();
                by.map(|by| {
                    let note = format!("plan {} ({}) was approved by {by}", record.name, plan.spec.summary);
                    (EventKind::Normal, reason::PLAN_APPROVED, note)
                })
            }
            PlanPhase::Succeeded => Some((EventKind::Normal, reason::PLAN_SUCCEEDED, note)),
            PlanPhase::Failed => Some((EventKind::Warning, reason::PLAN_FAILED, note)),
            PlanPhase::Expired => Some((EventKind::Normal, reason::PLAN_EXPIRED, note)),
            PlanPhase::Superseded => Some((EventKind::Normal, reason::PLAN_SUPERSEDED, note)),
            PlanPhase::Refused => Some((EventKind::Warning, reason::PLAN_REFUSED, note)),
        };
        events.extend(event.map(|(kind, why, note)| on_policy(plan, kind, why, note)));
    }
    events
}

/// The reason of the Event about a failed move: why it was taken back, if we did that.
fn failure(why: Option<&'static str>) -> &'static str {
    match why {
        Some(why @ (reason::TARGET_UNSCHEDULABLE | reason::QUOTA_REFUSED | reason::TARGET_NOT_CREATED)) => why,
        _ => reason::MIGRATION_FAILED,
    }
}

/// A migration that makes no progress.
pub(super) fn stalled(one: &Stalled) -> Vec<Event> {
    let (namespace, name) = (one.vm.namespace.to_string(), one.vm.name.to_string());
    let vm = VmReference { namespace, name, uid: one.vm_uid.to_string() };
    let (kind, why) = (EventKind::Warning, reason::MIGRATION_STALLED);
    let (note, once) = (one.to_string(), format!("{}/{}", one.uid, one.doublings));
    let mut events = on_vm(&vm, kind, why, "Migrate", &note, &once);
    events.push(about_policy(one.policy.as_str(), kind, why, note, once));
    events
}

/// A MigrationPolicy of ours that somebody changed is as it must be again.
pub(super) fn policy_mended(mode: MigrationMode, now: Timestamp) -> Event {
    let name = match mode {
        MigrationMode::PostCopy => ours::POST_COPY_POLICY,
        MigrationMode::PreCopy => ours::PRE_COPY_POLICY,
    };
    Event {
        subject: Subject {
            api_version: "migrations.kubevirt.io/v1alpha1".into(),
            kind: "MigrationPolicy".into(),
            namespace: None,
            name: name.into(),
            uid: None,
        },
        kind: EventKind::Warning,
        reason: reason::MIGRATION_POLICY_MENDED,
        action: "Replace",
        note:
            "somebody changed this MigrationPolicy of Miyako's, and it was replaced: write one of your own instead; it \
               goes before ours where it matches a VM"
                .into(),
        once: now.second().to_string(),
    }
}

/// VMIs vanish, so their VirtualMachine, which has the same name, is told as well.
fn on_vm(
    vm: &VmReference,
    kind: EventKind,
    why: &'static str,
    action: &'static str,
    note: &str,
    once: &str,
) -> Vec<Event> {
    let on = |object: &str, uid: Option<Uid>| Event {
        subject: Subject {
            api_version: KUBEVIRT.into(),
            kind: object.into(),
            namespace: Some(vm.namespace.clone()),
            name: vm.name.clone(),
            uid,
        },
        kind,
        reason: why,
        action,
        note: note.to_owned(),
        once: once.to_owned(),
    };
    vec![on("VirtualMachineInstance", Some(Uid::new(&vm.uid))), on("VirtualMachine", None)]
}

fn on_policy(plan: &ConsolidationPlan, kind: EventKind, why: &'static str, note: String) -> Event {
    let once = format!("{}/{why}", plan.metadata.name.as_deref().unwrap_or_default());
    about_policy(&plan.spec.policy, kind, why, note, once)
}

fn about_policy(policy: &str, kind: EventKind, why: &'static str, note: String, once: String) -> Event {
    Event {
        subject: Subject {
            api_version: "miyako.dev/v1alpha1".into(),
            kind: "ConsolidationPolicy".into(),
            namespace: None,
            name: policy.to_owned(),
            uid: None,
        },
        kind,
        reason: why,
        action: "Plan",
        note,
        once,
    }
}
