//! What virt-controller makes of one VirtualMachineInstanceMigration, as pure functions: first what it does (`sync`),
//! then what it writes into the status (`updateStatus`). Source: `pkg/virt-controller/watch/migration/migration.go`.
//!
//! ```text
//! (unset) → Pending → Scheduling → Scheduled → PreparingTarget → TargetReady → Running → Succeeded
//!              │ target pod   │ ready   │ handed off     │ address       │ started         └→ Failed (from anywhere)
//! ```

use super::names::phase;
use k8s_openapi::api::core::v1::Pod;
use miyako_api::kubevirt::{MigrationState, VirtualMachineInstance, VirtualMachineInstanceMigration as Migration};

pub(super) const ABORT_REQUESTED: &str = "migrationAbortRequested";
pub(super) const QUOTA_REFUSED: &str = "migrationRejectedByResourceQuota";

/// The phase of a VMIM; empty while unset.
pub(super) fn phase_of(migration: &Migration) -> &str {
    migration.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(super) fn is_final(migration: &Migration) -> bool {
    matches!(phase_of(migration), phase::SUCCEEDED | phase::FAILED)
}

pub(super) fn is_deleting(migration: &Migration) -> bool {
    migration.metadata.deletion_timestamp.is_some()
}

pub(super) fn has_condition(migration: &Migration, kind: &str) -> bool {
    migration.status.iter().flat_map(|status| &status.conditions).any(|condition| condition.kind == kind)
}

/// The VMI's migration state, if it tells about this migration.
pub(super) fn own_state<'a>(vmi: &'a VirtualMachineInstance, migration: &Migration) -> Option<&'a MigrationState> {
    let state = vmi.status.as_ref()?.migration_state.as_ref()?;
    (state.migration_uid.is_some() && state.migration_uid == migration.metadata.uid).then_some(state)
}

pub(super) fn vmi_phase(vmi: &VirtualMachineInstance) -> &str {
    vmi.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(super) fn is_down(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let running = status.and_then(|status| status.phase.as_deref()) == Some("Running");
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    running && ready && pod.metadata.deletion_timestamp.is_none()
}

/// The scheduler found no place for it.
pub(super) fn is_unschedulable(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let pending = status.and_then(|status| status.phase.as_deref()).is_none_or(|phase| phase == "Pending");
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pending
        && pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.reason.as_deref() == Some("Unschedulable")
        })
}

/// What is to be done for a VMIM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// It was cancelled before the hand-off: the target pod goes.
    DeleteTarget,
    /// It is its turn, if there is a slot.
    CreateTarget,
    /// The target pod is not up yet: tell if it is unschedulable, and give up when time is up.
    AwaitTarget,
    /// The target runs: tell the virt-handlers.
    HandOff,
    /// The target vanished before memory moved.
    MarkFailed,
    /// It was cancelled while memory moves: tell the source's virt-handler.
    RequestAbort,
}

/// What is to be done for a VMIM, given its VMI and its target pod.
pub(super) fn act(migration: &Migration, vmi: &VirtualMachineInstance, target: Option<&Pod>) -> Act {
    let state = own_state(vmi, migration);
    if vmi.metadata.deletion_timestamp.is_some() || state.is_some_and(|state| state.completed) {
        return Act::Nothing;
    }
    let deleting = is_deleting(migration);
    let ready = target.is_some_and(is_ready);
    match phase_of(migration) {
        phase::PENDING | phase::SCHEDULING if deleting && target.is_some() => Act::DeleteTarget,
        phase::PENDING if !deleting && target.is_none() => Act::CreateTarget,
        phase::PENDING | phase::SCHEDULING if !deleting && target.is_some() && !ready => Act::AwaitTarget,
        phase::SCHEDULED if deleting && state.is_none() && target.is_some() => Act::DeleteTarget,
        phase::SCHEDULED if !deleting && state.is_none() && ready => Act::HandOff,
        phase::PREPARING_TARGET | phase::TARGET_READY
            if target.is_none_or(is_down)
                && state.is_some_and(|state| state.start_timestamp.is_none() && !state.failed) =>
        {
            Act::MarkFailed
        }
        phase::FAILED if state.is_some_and(|state| !state.failed) => Act::MarkFailed,
        phase::RUNNING if deleting && state.is_some_and(|state| !state.abort_requested) => Act::RequestAbort,
        _ => Act::Nothing,
    }
}

/// What the status becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Stay,
    /// It moves on.
    Phase(&'static str),
    /// It failed, and the Event says so.
    Fail {
        event: &'static str,
        aborted: bool,
    },
    /// Its abort was asked for.
    NoteAbort,
    /// It is over: the state is copied and the finalizer goes.
    Finish,
}

fn fail(event: &'static str) -> Verdict {
    Verdict::Fail { event, aborted: false }
}

/// What the status becomes, given the VMI and the target pod.
pub(super) fn verdict(migration: &Migration, vmi: &VirtualMachineInstance, target: Option<&Pod>) -> Verdict {
    let state = own_state(vmi, migration);
    let now = phase_of(migration);
    let target_created = !matches!(now, "" | phase::PENDING);
    let handed_off = matches!(now, phase::PREPARING_TARGET | phase::TARGET_READY | phase::RUNNING);
    if is_final(migration) {
        return Verdict::Finish;
    }
    if matches!(vmi_phase(vmi), "Succeeded" | "Failed") {
        return fail("Migration failed vmi shutdown during migration.");
    }
    if is_deleting(migration) && state.is_none() {
        return Verdict::Fail { event: "Migration failed due to being canceled", aborted: true };
    }
    if target.is_some_and(is_down) && state.is_none_or(|state| !state.completed) {
        return fail("Migration failed because target pod shutdown during migration");
    }
    if target_created && target.is_none() {
        return fail("Migration target pod was removed during active migration.");
    }
    if handed_off && state.is_none() {
        return fail("VMI's migration state was taken over by another migration job during active migration.");
    }
    if state.is_some_and(|state| state.failed) {
        return fail("source node reported migration failed");
    }
    if is_deleting(migration) && !has_condition(migration, ABORT_REQUESTED) {
        return Verdict::NoteAbort;
    }
    let next = match now {
        "" => phase::PENDING,
        phase::PENDING if target.is_some() => phase::SCHEDULING,
        phase::SCHEDULING if target.is_some_and(is_ready) => phase::SCHEDULED,
        phase::SCHEDULED if state.is_some() => phase::PREPARING_TARGET,
        phase::PREPARING_TARGET if state.is_some_and(|state| state.target_node_address.is_some()) => {
            phase::TARGET_READY
        }
        phase::TARGET_READY if state.is_some_and(|state| state.start_timestamp.is_some()) => phase::RUNNING,
        phase::RUNNING if state.is_some_and(|state| state.completed) => phase::SUCCEEDED,
        _ => return Verdict::Stay,
    };
    Verdict::Phase(next)
}

/// The place in the queue: higher goes first (`pkg/util/migrations`).
pub(super) fn priority(migration: &Migration) -> u32 {
    match migration.spec.priority.as_deref() {
        Some("system-critical") => 100,
        Some("user-triggered") => 50,
        Some("system-maintenance") => 20,
        _ => 0,
    }
}

/// After how many seconds a waiting VMIM is looked at again.
pub(super) fn look_again_after(priority: u32) -> u64 {
    match priority {
        100.. => 1,
        50.. => 3,
        _ => 5,
    }
}
