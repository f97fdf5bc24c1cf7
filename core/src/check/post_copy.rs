//! Rule 7: post-copy is used only where it is allowed, and never cut off.

use super::{Cause, Findings, Move, State};
use crate::model::{
    Migration, MigrationChoice, MigrationMode, MigrationName, MigrationPhase, PostCopyMark, PostCopyUse, SuspendStep,
    Uid,
};

/// Whether policy and marks let this VM be moved by post-copy: a failed one loses it.
pub(super) fn may_use(planned: &Move<'_>, found: &mut Findings) {
    if !planned.is_post_copy() {
        return;
    }
    let mark = planned.vm.marks.post_copy;
    let allowed = match planned.policy.post_copy {
        PostCopyUse::Never => false,
        PostCopyUse::OptIn => mark == Some(PostCopyMark::Allow),
        PostCopyUse::Allow => mark != Some(PostCopyMark::Never),
    };
    if !allowed || planned.policy.migration == MigrationChoice::PreCopy {
        found.add(Cause::NoPostCopy { vm: planned.vm.key.clone() });
    }
}

/// May have switched to the target already: then its memory is in two places and neither must go. KubeVirt begins
/// with pre-copy, so one that is to become post-copy may switch at any moment.
fn may_have_switched(state: &State<'_>, migration: &Migration) -> bool {
    let label = || state.snapshot.vms.get(&migration.vm).and_then(|vm| vm.mode_label);
    migration.mode == Some(MigrationMode::PostCopy)
        || migration.phase == MigrationPhase::Running
            && (migration.mode.is_none() || label() == Some(MigrationMode::PostCopy))
}

/// An abort is for migrations of ours that have not switched.
pub(super) fn abort(state: &State<'_>, name: &MigrationName, uid: &Uid, found: &mut Findings) {
    let Some(migration) = state.snapshot.migrations.get(name).filter(|migration| migration.uid == *uid) else {
        found.add(Cause::NoMigration { migration: name.clone(), uid: uid.clone() });
        return;
    };
    if migration.plan.is_none() || migration.system {
        found.add(Cause::NotOurs { migration: name.clone() });
    }
    if !migration.is_unfinished() {
        found.add(Cause::Over { migration: name.clone() });
    } else if may_have_switched(state, migration) {
        found.add(Cause::MayHaveSwitched { migration: name.clone() });
    }
}

/// Both ends of a post-copy migration stay awake until it ends.
pub(super) fn suspend(state: &State<'_>, step: &SuspendStep, found: &mut Findings) {
    for migration in state.snapshot.migrations.values().filter(|migration| migration.is_unfinished()) {
        let at_node = [&migration.source, &migration.target].into_iter().flatten().any(|end| *end == step.node);
        if at_node && may_have_switched(state, migration) {
            found.add(Cause::EndOfPostCopy { node: step.node.clone(), migration: migration.name.clone() });
        }
    }
}
