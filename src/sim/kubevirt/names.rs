//! What KubeVirt calls its accounts, and names that only KubeVirt itself uses. The rest is in `miyako_api::names`.

use miyako_api::names::kubevirt as shared;

/// The namespace that KubeVirt is installed in.
pub const NAMESPACE: &str = "kubevirt";

/// The user name of virt-api's ServiceAccount.
pub const VIRT_API: &str = "system:serviceaccount:kubevirt:kubevirt-apiserver";
/// The user name of virt-controller's ServiceAccount.
pub const VIRT_CONTROLLER: &str = "system:serviceaccount:kubevirt:kubevirt-controller";
/// The user name of virt-handler's ServiceAccount.
pub const VIRT_HANDLER: &str = "system:serviceaccount:kubevirt:kubevirt-handler";
/// The user name of virt-operator's ServiceAccount.
pub const VIRT_OPERATOR: &str = "system:serviceaccount:kubevirt:kubevirt-operator";

/// Whether virt-api counts this user among KubeVirt's own accounts.
#[must_use]
pub fn is_kubevirt_account(user: &str) -> bool {
    [VIRT_API, VIRT_CONTROLLER, VIRT_HANDLER, VIRT_OPERATOR].contains(&user)
}

/// Kept on a VMI until its launchers have gone.
pub(super) const VMI_FINALIZER: &str = "kubevirt.io/foregroundDeleteVirtualMachine";
/// On a VMI (condition): somebody evicted its launcher, and the mark stands.
pub(super) const EVICTION_REQUESTED: &str = "EvictionRequested";
/// On a VMIM (annotation): seconds a target may stay pending for other reasons than its schedule (900 by default).
pub(super) const PENDING_TIMEOUT: &str = "kubevirt.io/migrationPendingPodTimeoutSeconds";
/// On a node (label): its host model is one that KubeVirt does not use any more.
pub(super) const OBSOLETE_HOST_MODEL: &str = "node-labeller.kubevirt.io/obsolete-host-model";
/// On a launcher pod (annotation): it migrates through virt-handler's unix sockets.
pub(super) const TRANSPORT_UNIX: &str = "kubevirt.io/migrationTransportUnix";

/// Labels of a VMI that only KubeVirt's own accounts may change.
pub(super) const RESERVED_VMI_LABELS: [&str; 6] = [
    shared::CREATED_BY,
    shared::MIGRATION_JOB_UID,
    shared::NODE_NAME,
    shared::MIGRATION_TARGET_NODE,
    shared::SCHEDULABLE,
    "kubevirt.io/install-strategy",
];

/// Phases of a VirtualMachineInstanceMigration.
pub(super) mod phase {
    pub(crate) const PENDING: &str = "Pending";
    pub(crate) const SCHEDULING: &str = "Scheduling";
    pub(crate) const SCHEDULED: &str = "Scheduled";
    pub(crate) const PREPARING_TARGET: &str = "PreparingTarget";
    pub(crate) const TARGET_READY: &str = "TargetReady";
    pub(crate) const RUNNING: &str = "Running";
    pub(crate) const SUCCEEDED: &str = "Succeeded";
    pub(crate) const FAILED: &str = "Failed";
}
