//! What became of one move: from its VMIM while there is one, then from the VMI's own record of it.

use super::{MODE_IGNORED, StepState};
use crate::model::{
    AppliedPolicy, LastMigration, Migration, MigrationMode, MigrationPhase, NodeName, Span, StepOutcome, TakenBack,
    Timestamp, Vm,
};

/// A migration that was asked for and shows nowhere, neither as an object nor in the VM's state, is given up after
/// this time: caches are seconds behind, not minutes.
const VANISHED_AFTER: Span = Span::from_secs(60);

impl StepState {
    /// Follows the VMIM; the VMI's own record of it has the last word, because it outlives the VMIM.
    pub(super) fn follow(&mut self, migration: &Migration, vm: Option<&Vm>, mode: MigrationMode, now: Timestamp) {
        let last = vm.and_then(|vm| vm.last_migration.as_ref()).filter(|last| last.uid == migration.uid);
        match migration.phase {
            MigrationPhase::Succeeded => {
                let ended = last.and_then(|last| last.ended).unwrap_or(now);
                self.end(StepOutcome::Succeeded, ended, "Migrated", arrived(last, migration.target.as_ref()));
                self.verify(last, vm, mode);
            }
            MigrationPhase::Failed => {
                let ended = last.and_then(|last| last.ended).unwrap_or(now);
                let trouble = migration.trouble.as_ref().map(TakenBack::because_of);
                let why = last.and_then(|last| last.failure.clone());
                match self.taken_back.take().or(trouble) {
                    // KubeVirt has its own time-out for targets that don't come up, and then gives no reason.
                    Some(back) if why.is_none() => self.end(StepOutcome::Failed, ended, back.reason, back.message),
                    _ => {
                        let why = why.unwrap_or_else(|| "KubeVirt gives no reason".into());
                        self.end(StepOutcome::Failed, ended, "MigrationFailed", why);
                    }
                }
                self.verify(last, vm, mode);
            }
            _ => {
                self.begin(now);
                self.note_trouble(migration);
            }
        }
    }

    /// Notes why the VMIM is to be taken back, before it is: once it is gone, nothing else tells. What came up after
    /// all is not taken back.
    fn note_trouble(&mut self, migration: &Migration) {
        if migration.deleting {
            return;
        }
        let trouble = migration.trouble.as_ref().filter(|_| migration.waits_for_target());
        match (trouble, &self.taken_back) {
            // The scheduler's words change with every node; the first ones do.
            (Some(trouble), Some(noted)) if trouble.name() == noted.reason => {}
            _ => self.taken_back = trouble.map(TakenBack::because_of),
        }
    }

    /// Notes it if KubeVirt applied another MigrationPolicy than the one that was meant: ours for the mode, or the
    /// user's own. Policies replace each other, so none of what we asked for held then.
    fn verify(&mut self, last: Option<&LastMigration>, vm: Option<&Vm>, mode: MigrationMode) {
        let (Some(last), Some(vm)) = (last, vm) else { return };
        let meant = match &last.policy {
            AppliedPolicy::Ours(applied) => *applied == mode,
            AppliedPolicy::Other(name) => vm.user_migration_policy.as_ref() == Some(name),
            AppliedPolicy::None => false,
        };
        if !meant {
            let users = vm.user_migration_policy.as_ref().map(|name| AppliedPolicy::Other(name.clone()));
            let wanted = users.unwrap_or(AppliedPolicy::Ours(mode));
            let so_far = self.message.take().unwrap_or_default();
            self.message = Some(format!("{so_far}; KubeVirt applied {} instead of {wanted}", last.policy));
            self.reason = Some(MODE_IGNORED);
        }
    }

    /// The VMIM is gone: deleted by somebody, or swept away by KubeVirt after it was over.
    pub(super) fn judge_vanished(&mut self, vm: Option<&Vm>, target: &NodeName, mode: MigrationMode, now: Timestamp) {
        let Some(vm) = vm else {
            return self.end(StepOutcome::Failed, now, "VmGone", "the VM is gone".into());
        };
        let last = vm.last_migration.as_ref();
        let ours = last.filter(|last| Some(&last.uid) == self.migration_uid.as_ref());
        let started = self.started.unwrap_or(now);
        let since = |last: &&LastMigration| last.ended.is_some_and(|ended| ended >= started);
        match ours.or(last.filter(since)) {
            Some(last) if last.failed => {
                let ended = last.ended.unwrap_or(now);
                match self.taken_back.take() {
                    Some(back) => self.end(StepOutcome::Failed, ended, back.reason, back.message),
                    None => {
                        let why = last.failure.clone().unwrap_or_else(|| "it was aborted".into());
                        self.end(StepOutcome::Failed, ended, "MigrationFailed", why);
                    }
                }
                self.verify(ours, Some(vm), mode);
            }
            Some(last) if last.completed || vm.node.as_ref() == Some(target) => {
                let ended = last.ended.unwrap_or(now);
                self.end(StepOutcome::Succeeded, ended, "Migrated", arrived(Some(last), Some(target)));
                self.verify(ours, Some(vm), mode);
            }
            // KubeVirt is still at it.
            Some(last) if last.ended.is_none() => {}
            _ if now.since(started) < VANISHED_AFTER && self.migration_uid.is_none() => {}
            _ => match self.taken_back.take() {
                Some(back) => self.end(StepOutcome::Failed, now, back.reason, back.message),
                // We note why before we delete, so it was not us.
                None => {
                    let message = "somebody deleted its VirtualMachineInstanceMigration before it began to move memory";
                    self.end(StepOutcome::Failed, now, "MigrationDeleted", message.into());
                }
            },
        }
    }
}

fn arrived(last: Option<&LastMigration>, target: Option<&NodeName>) -> String {
    let target = last.and_then(|last| last.target.as_ref()).or(target);
    let mode = match last.and_then(|last| last.mode) {
        Some(MigrationMode::PostCopy) => " by post-copy",
        Some(MigrationMode::PreCopy) => " by pre-copy",
        None => "",
    };
    target.map_or_else(|| format!("moved{mode}"), |target| format!("moved to {target}{mode}"))
}
