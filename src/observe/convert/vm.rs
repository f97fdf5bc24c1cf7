//! VirtualMachines: people's marks, and snapshots that run.

use super::{Converted, Problems, vmi};
use miyako_api::kubevirt::VirtualMachine;
use miyako_core::model::{Marks, VmActivity};

/// What a VirtualMachine adds to its VMI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedVirtualMachine {
    /// People's marks.
    pub marks: Marks,
    /// A snapshot or restore that must end before the VM may move.
    pub activity: Option<VmActivity>,
}

/// Converts a VirtualMachine.
#[must_use]
pub fn convert(vm: &VirtualMachine) -> Converted<ObservedVirtualMachine> {
    let mut problems = Problems::default();
    let marks = vmi::read_marks(&vm.metadata, &mut problems);
    let activity = vm.status.as_ref().and_then(|status| {
        let dumping = status.memory_dump_request.as_ref().and_then(|request| request.get("phase")?.as_str());
        let dumping = dumping.is_some_and(|phase| matches!(phase, "Associating" | "InProgress" | "Unmounting"));
        let running = |name: &Option<String>| name.as_deref().is_some_and(|name| !name.is_empty());
        (running(&status.snapshot_in_progress) || running(&status.restore_in_progress) || dumping)
            .then_some(VmActivity::BackingUp)
    });
    Converted::new(ObservedVirtualMachine { marks, activity }, problems)
}

/// The marks of a VMI and its VirtualMachine together: the stricter word wins.
#[must_use]
pub fn together(vmi: &Marks, vm: &Marks) -> Marks {
    use miyako_core::model::PostCopyMark::Never;
    let never = vmi.post_copy == Some(Never) || vm.post_copy == Some(Never);
    Marks {
        never_consolidate: vmi.never_consolidate || vm.never_consolidate,
        prefer_no_eviction: vmi.prefer_no_eviction || vm.prefer_no_eviction,
        post_copy: if never { Some(Never) } else { vmi.post_copy.or(vm.post_copy) },
    }
}
