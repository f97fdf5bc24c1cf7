//! A recorded move names its reason; here it gets the figures of now.

use crate::model::{Cores, MoveKind, MoveReason, NodeName, Percent, Policies, Policy, Snapshot, Timestamp, Vm};

/// Why a recorded move was wanted, measured again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Renewed {
    /// The reason; a load that is not known counts as none.
    pub(crate) reason: MoveReason,
    /// Its load is known.
    pub(crate) is_known: bool,
}

/// The reason of this kind for a VM that leaves `source`, which waits since then.
///
/// # Errors
/// What it speaks of is gone.
pub(crate) fn renew(
    kind: MoveKind,
    vm: &Vm,
    source: &NodeName,
    since: Timestamp,
    policy: &Policy,
    (snapshot, policies, now): (&Snapshot, &Policies, Timestamp),
) -> Result<Renewed, String> {
    let thresholds = &policy.thresholds;
    let (history, window, whole) = if kind == MoveKind::Overload {
        let node = snapshot.nodes.get(source).ok_or_else(|| format!("{source} is gone"))?;
        let class = policies.class_of(node).ok().flatten();
        let capacity = class.map_or(node.allocatable.cpu.cores(), |class| class.cpu_of(node));
        (snapshot.load.nodes.get(source), thresholds.overload_window, capacity)
    } else {
        let vcpus = Cores::new(f64::from(vm.vcpus)).unwrap_or_default();
        (snapshot.load.vms.get(&vm.key), thresholds.idle_window, vcpus)
    };
    let measured = history.and_then(|history| history.average(now, window).full());
    let load: Percent = measured.unwrap_or_default().percent_of(whole);
    let reason = if kind == MoveKind::Overload {
        MoveReason::Overload { node_load: load, threshold: thresholds.overload }
    } else {
        MoveReason::Idle { vm_load: load, threshold: thresholds.idle, since }
    };
    Ok(Renewed { reason, is_known: measured.is_some() })
}
