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
    /// The API server refuses to create it: a LimitRange, PodSecurity, somebody's webhook. Its own words.
    NotCreated(String),
}

impl TargetTrouble {
    /// The trouble's name in objects, conditions and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unschedulable(_) => "TargetUnschedulable",
            Self::QuotaRefused(_) => "QuotaRefused",
            Self::NotCreated(_) => "TargetNotCreated",
        }
    }
}

impl fmt::Display for TargetTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unschedulable(words) => write!(f, "its target pod is unschedulable: {words}"),
            Self::QuotaRefused(words) => write!(f, "a quota refuses its target pod: {words}"),
            Self::NotCreated(words) => write!(f, "its target pod can't be created: {words}"),
        }
    }
}

/// Why a migration of ours is taken back, as its plan notes it before the migration is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenBack {
    /// The name of the trouble.
    pub reason: &'static str,
    /// The trouble in a sentence.
    pub message: String,
}

impl TakenBack {
    const REASONS: [&'static str; 3] = ["TargetUnschedulable", "QuotaRefused", "TargetNotCreated"];

    /// The reason to take a migration back whose target is in this trouble.
    #[must_use]
    pub fn because_of(trouble: &TargetTrouble) -> Self {
        Self { reason: trouble.name(), message: trouble.to_string() }
    }

    /// Reads what a plan noted; none if its reason is another one.
    #[must_use]
    pub fn read(reason: &str, message: &str) -> Option<Self> {
        let reason = Self::REASONS.into_iter().find(|known| *known == reason)?;
        Some(Self { reason, message: message.to_owned() })
    }
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

    /// Its target pod is not up yet, so taking it back costs nothing.
    #[must_use]
    pub fn waits_for_target(&self) -> bool {
        matches!(self.phase, MigrationPhase::Pending | MigrationPhase::Preparing)
    }

    /// Holds one of KubeVirt's slots: it got its target pod and is not over
    /// (`docs/design/0001-kubevirt-facts.md`, "The five slots").
    #[must_use]
    pub fn holds_slot(&self) -> bool {
        matches!(self.phase, MigrationPhase::Preparing | MigrationPhase::Running)
    }
}
