//! A VM: a VirtualMachineInstance with what its launcher pod tells about placement.

use super::{Bytes, Labels, MigrationMode, NodeName, Scheduling, Timestamp, Uid, VmKey};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// Something that must end before a VM may be moved (rule 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VmActivity {
    /// A migration runs, whoever asked for it.
    Migrating,
    /// Its VMI tells of a migration without an end, whose object is gone; for a moment it may still be so.
    MigrationVanished,
    /// KubeVirt evacuates it from its node.
    Evacuating,
    /// CPU, memory, a disk or an interface is being hot-plugged.
    Hotplugging,
    /// Its volumes are being changed or moved.
    ChangingVolumes,
    /// A backup or snapshot runs.
    BackingUp,
    /// More than one of its launcher pods is active: the old source has not gone yet.
    OldLauncherLeaving,
    /// Paused or frozen.
    Paused,
    /// Being deleted or shut down.
    Stopping,
}

/// A constraint that we do not model: the VM is left alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unsupported {
    /// The field, as in the pod or VMI (`spec.topologySpreadConstraints[0].matchLabelKeys`).
    pub field: String,
}

/// A person's word about post-copy on one VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PostCopyMark {
    /// `miyako.dev/post-copy: allow`
    Allow,
    /// `miyako.dev/post-copy: never`
    Never,
}

/// What people wrote on a VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// `miyako.dev/consolidate: never`
    pub never_consolidate: bool,
    /// `descheduler.alpha.kubernetes.io/prefer-no-eviction`
    pub prefer_no_eviction: bool,
    /// `miyako.dev/post-copy`
    pub post_copy: Option<PostCopyMark>,
}

/// Which MigrationPolicy KubeVirt applied to a migration: the one that matched best when it began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppliedPolicy {
    /// No policy matched, so the cluster's settings held.
    #[default]
    None,
    /// Ours for this mode.
    Ours(MigrationMode),
    /// Somebody else's.
    Other(String),
}

impl fmt::Display for AppliedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "no MigrationPolicy"),
            Self::Ours(mode) => write!(f, "our MigrationPolicy for {mode}"),
            Self::Other(name) => write!(f, "MigrationPolicy {name}"),
        }
    }
}

/// The newest migration of a VM, ours or not, from the VMI's `status.migrationState`, which outlives the VMIM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastMigration {
    /// The VMIM's uid.
    pub uid: Uid,
    /// From where.
    pub source: Option<NodeName>,
    /// To where.
    pub target: Option<NodeName>,
    /// When it began to move.
    pub started: Option<Timestamp>,
    /// When it was over.
    pub ended: Option<Timestamp>,
    /// It is over.
    pub completed: bool,
    /// It failed or was aborted.
    pub failed: bool,
    /// Why it failed.
    pub failure: Option<String>,
    /// How it moved.
    pub mode: Option<MigrationMode>,
    /// The MigrationPolicy that decided about it.
    pub policy: AppliedPolicy,
}

/// A VirtualMachineInstance.
#[derive(Debug, Clone, PartialEq)]
pub struct Vm {
    /// Namespace and name.
    pub key: VmKey,
    /// The VMI's uid.
    pub uid: Uid,
    /// The VMI's labels (MigrationPolicies and policies select by them).
    pub labels: Labels,
    /// Where it runs; none while it is being started, or when its node is gone.
    pub node: Option<NodeName>,
    /// The VMI's phase is `Running`.
    pub running: bool,
    /// Virtual CPUs: on a dedicated node each owns a core.
    pub vcpus: u32,
    /// Guest memory.
    pub memory: Bytes,
    /// Why KubeVirt calls it not migratable (`LiveMigratable` is False), if it does.
    pub not_migratable: Option<String>,
    /// What keeps it from moving just now.
    pub activity: Option<VmActivity>,
    /// It holds a host device (VFIO, GPU, SR-IOV).
    pub host_device: bool,
    /// Marks of people.
    pub marks: Marks,
    /// The newest migration.
    pub last_migration: Option<LastMigration>,
    /// The constraints of its next target launcher pod, without any node that we once added.
    pub target: Arc<Scheduling>,
    /// A constraint on it that we do not understand.
    pub unsupported: Option<Unsupported>,
    /// The labels of its launcher pod, which other pods' affinities see.
    pub launcher_labels: Labels,
    /// What our `miyako.dev/migration-mode` label says now.
    pub mode_label: Option<MigrationMode>,
    /// A user's own MigrationPolicy that matches this VM, which decides its mode unless our policy overrides.
    pub user_migration_policy: Option<String>,
    /// Others of users that match it as well as that one, which KubeVirt prefers by its name alone.
    pub equal_migration_policies: Vec<String>,
}
