//! Migrations of ours whose target will not come up: each would hold one of KubeVirt's slots for up to five minutes,
//! and five of them would block every evacuation of the cluster (`KUBEVIRT.md`, "The five slots").

use super::Step;
use super::draft::Draft;
use crate::model::{MigrationPhase, TargetTrouble};

/// Asks for the deletion of every such migration that has not begun to move memory.
pub(super) fn abort(draft: &mut Draft<'_>) {
    for migration in draft.snapshot.migrations.values() {
        let waits = matches!(migration.phase, MigrationPhase::Pending | MigrationPhase::Preparing);
        let Some(trouble) = &migration.trouble else { continue };
        if migration.plan.is_none() || !waits || migration.deleting {
            continue;
        }
        let reason = match trouble {
            TargetTrouble::Unschedulable(message) => format!("its target is unschedulable: {message}"),
            TargetTrouble::QuotaRefused(message) => format!("a quota refuses its target: {message}"),
        };
        let (migration, uid) = (migration.name.clone(), migration.uid.clone());
        draft.plan.steps.push(Step::Abort { migration, uid, reason });
    }
}
