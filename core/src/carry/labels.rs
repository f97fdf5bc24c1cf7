//! Our one label on VMs, which says how the next migration moves them. While it is there it speaks to every migration:
//! a drain by somebody else would go by post-copy too, whatever the VM's owner has said since. So it is there only while
//! a migration of ours needs it.

use super::Deed;
use crate::model::{PlanPhase, PlanRecord, RecordedStep, Snapshot, StepOutcome, Uid, VmKey};
use std::collections::BTreeSet;

/// VMs that bear our label and that no migration of ours needs it for, whatever became of the one that did. `deeds` are
/// what this pass is about to do.
#[must_use]
pub fn stray_labels<'a>(snapshot: &Snapshot, deeds: impl IntoIterator<Item = &'a Deed>) -> Vec<(VmKey, Uid)> {
    if snapshot.incomplete.is_some() {
        // A plan or a migration may be there that is not seen.
        return Vec::new();
    }
    let labelled: Vec<_> = snapshot.vms.values().filter(|vm| vm.mode_label.is_some()).collect();
    if labelled.is_empty() {
        return Vec::new();
    }
    let mut needed: BTreeSet<&VmKey> = snapshot.plans.values().flat_map(wanted_by).collect();
    let ours = snapshot.migrations.values().filter(|migration| migration.plan.is_some() && migration.is_unfinished());
    needed.extend(ours.map(|migration| &migration.vm));
    needed.extend(deeds.into_iter().map(|deed| match deed {
        Deed::LabelVm { vm, .. } | Deed::UnlabelVm { vm, .. } | Deed::Migrate { vm, .. } => vm,
    }));
    let stray = labelled.into_iter().filter(|vm| !needed.contains(&vm.key));
    stray.map(|vm| (vm.key.clone(), vm.uid.clone())).collect()
}

/// VMs that a plan moves or is about to move. A plan that waits for a person needs no label yet; one that begins may
/// have died, or got no answer, between the label and what it notes.
fn wanted_by(plan: &PlanRecord) -> impl Iterator<Item = &VmKey> {
    let begins = plan.phase == PlanPhase::Running || (plan.phase == PlanPhase::Proposed && plan.is_cleared());
    plan.steps.iter().filter_map(move |step| match step {
        RecordedStep::Migrate { vm, outcome: StepOutcome::Running, .. } => Some(vm),
        RecordedStep::Migrate { vm, outcome: StepOutcome::Waiting, .. } if begins => Some(vm),
        _ => None,
    })
}
