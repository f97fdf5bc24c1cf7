//! Whether one VM may be moved at all (`SPECIFICATION.md`, rule 2).

use super::{StayReason, identity};
use crate::model::{Policy, Snapshot, Span, Timestamp, Vm, VmActivity, VmMoves};

/// Whether a VM that `policy` rules and that was moved so lately may be moved now; its load is looked at later.
///
/// # Errors
/// The reason why it stays, the most lasting first.
pub(super) fn movable(vm: &Vm, moves: Option<&VmMoves>, policy: &Policy, now: Timestamp) -> Result<(), StayReason> {
    if vm.marks.never_consolidate {
        return Err(StayReason::OptedOut);
    }
    if vm.marks.prefer_no_eviction {
        return Err(StayReason::PrefersNoEviction);
    }
    if vm.host_device {
        return Err(StayReason::HostDevice);
    }
    if let Some(unsupported) = &vm.unsupported {
        return Err(StayReason::Unsupported { field: unsupported.field.clone() });
    }
    if let Some(message) = &vm.not_migratable {
        return Err(StayReason::NotMigratable { message: message.clone() });
    }
    if let Some(activity) = vm.activity {
        return Err(StayReason::Busy { activity });
    }
    if !vm.running {
        return Err(StayReason::NoNode);
    }
    if let Some(last) = &vm.last_migration {
        match last.ended {
            // A migration that never ended is under way, whatever else is said about it.
            None if !last.completed && !last.failed => {
                return Err(StayReason::Busy { activity: VmActivity::Migrating });
            }
            None => {}
            Some(ended) => {
                let until = ended + policy.thresholds.settle;
                if now < until {
                    return Err(StayReason::Settling { until });
                }
            }
        }
    }
    if let Some((moves, until)) = moves.and_then(|moves| Some((moves, moves.back_off_until()?)))
        && now < until
    {
        let why = moves.failure.as_ref().map(|failure| failure.message.clone());
        return Err(StayReason::BackingOff { failures: moves.failures, until, why });
    }
    let today = moves.map_or(0, |moves| moves.within_a_day(now));
    if today >= usize::try_from(policy.budgets.moves_per_vm_per_day).unwrap_or(usize::MAX) {
        return Err(StayReason::BudgetSpent { moves: today });
    }
    Ok(())
}

/// Which try the next move of this VM is, a part of its migration's name: how many failed since its last success. Plans
/// are forgotten, by us after a day or by a person at any time, while KubeVirt still keeps their migrations, so a name
/// that is taken is passed over.
pub(crate) fn attempt(vm: &Vm, snapshot: &Snapshot) -> u32 {
    let failures = snapshot.history.of(&vm.uid).map_or(0, |moves| moves.failures);
    let is_free = |attempt: &u32| !snapshot.migrations.contains_key(&identity::migration_name(vm, *attempt));
    (failures..=u32::MAX).find(is_free).unwrap_or(failures)
}

/// Whether the last migration of a VM ended before a window of this length that ends now.
pub(super) fn measured_since_move(vm: &Vm, window: Span, now: Timestamp) -> bool {
    let ended = vm.last_migration.as_ref().and_then(|last| last.ended);
    ended.is_none_or(|ended| now.since(ended) >= window)
}
