//! A VirtualMachineInstanceMigration.

use super::{MigrationName, NodeName, PlanName, Timestamp, Uid, VmKey};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a VM is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MigrationMode {
    /// Memory first, then the switch of hosts.
    PreCopy,
    /// The switch as early as KubeVirt can, then memory (KubeVirt always begins with pre-copy).
    PostCopy,
}

impl fmt::Display for MigrationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PreCopy => "pre-copy",
            Self::PostCopy => "post-copy",
        })
    }
}

/// KubeVirt's phases, from the VMIM's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MigrationPhase {
    /// Created, waiting for one of the cluster's slots.
    Pending,
    /// Its target pod is being scheduled, started or prepared.
    Preparing,
    /// Memory is moving.
    Running,
    /// Over, well.
    Succeeded,
    /// Over, not well.
    Failed,
}

/// Why a target pod will not come up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetTrouble {
    /// The scheduler finds no place for it.
    Unschedulable(String),
    /// A quota refuses it.
    QuotaRefused(String),
}

/// A VirtualMachineInstanceMigration.
#[derive(Debug, Clone, PartialEq)]
pub struct Migration {
    /// Namespace and name.
    pub name: MigrationName,
    /// Its uid.
    pub uid: Uid,
    /// The VM it moves.
    pub vm: VmKey,
    /// How far it is.
    pub phase: MigrationPhase,
    /// The plan of ours that asked for it; none if somebody else did.
    pub plan: Option<PlanName>,
    /// Asked for by an evacuation or upgrade (KubeVirt's own, which go first).
    pub system: bool,
    /// From where, once known.
    pub source: Option<NodeName>,
    /// To where: the node we asked for, or the one it got.
    pub target: Option<NodeName>,
    /// How it moves, once it is running.
    pub mode: Option<MigrationMode>,
    /// When it was created.
    pub created: Timestamp,
    /// What keeps its target from coming up.
    pub trouble: Option<TargetTrouble>,
    /// Being deleted, i.e. aborted.
    pub deleting: bool,
}

impl Migration {
    /// Not over yet.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        !matches!(self.phase, MigrationPhase::Succeeded | MigrationPhase::Failed)
    }

    /// Holds one of KubeVirt's slots: it got its target pod and is not over (`KUBEVIRT.md`, "The five slots").
    #[must_use]
    pub fn holds_slot(&self) -> bool {
        matches!(self.phase, MigrationPhase::Preparing | MigrationPhase::Running)
    }
}
