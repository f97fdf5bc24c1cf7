//! States that hold something for as long as they last: whom they concern, since when, and when they have lasted too long.
//!
//! A hold is meant for what passes. One that has grown too old is `overdue`: from then on it holds only what it concerns,
//! and people are told its name and its cure.

use super::{NodeName, Timestamp, VmKey};
use serde::Serialize;
use std::fmt;

/// What holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum HoldKind {
    /// KubeVirt wants a VM off its node.
    Evacuation,
    /// KubeVirt or virt-handler is being rolled out.
    KubeVirtRollout,
    /// Kubelets of several versions run.
    ClusterUpgrade,
    /// A backup, snapshot, restore or memory dump of a VM runs.
    Backup,
}

impl HoldKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Evacuation, Self::KubeVirtRollout, Self::ClusterUpgrade, Self::Backup];

    /// The name in statuses and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Evacuation => "Evacuation",
            Self::KubeVirtRollout => "KubeVirtRollout",
            Self::ClusterUpgrade => "ClusterUpgrade",
            Self::Backup => "Backup",
        }
    }

    /// The name once it has lasted too long: a reason in conditions.
    #[must_use]
    pub fn overdue_name(self) -> &'static str {
        match self {
            Self::Evacuation => "EvacuationStuck",
            Self::KubeVirtRollout => "KubeVirtRolloutStuck",
            Self::ClusterUpgrade => "ClusterUpgradeStuck",
            Self::Backup => "BackupStuck",
        }
    }
}

/// Whom a hold concerns, whatever else it holds while it is young.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Concern {
    /// One VM.
    Vm(VmKey),
    /// Some nodes; none of them is known where nobody can say which.
    Nodes(Vec<NodeName>),
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// So many nodes are named.
        const NAMED: usize = 3;
        match self {
            Self::Vm(vm) => write!(f, "VM {vm}"),
            Self::Nodes(nodes) if nodes.is_empty() => write!(f, "the cluster"),
            Self::Nodes(nodes) => {
                let named: Vec<&str> = nodes.iter().take(NAMED).map(NodeName::as_str).collect();
                write!(f, "nodes {}", named.join(", "))?;
                match nodes.len().saturating_sub(NAMED) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
        }
    }
}

/// One hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// What holds.
    pub kind: HoldKind,
    /// What tells it from others of its kind, and from itself before it last made progress.
    pub key: String,
    /// Whom it concerns.
    pub concerns: Concern,
    /// Since when it lasts, or has made no progress.
    pub since: Timestamp,
    /// It holds policies as a whole, not only what it concerns.
    pub holds_all: bool,
    /// It has lasted longer than such a thing takes.
    pub overdue: bool,
    /// What is seen, in a sentence without a full stop.
    pub detail: String,
    /// What ends it.
    pub cure: String,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, since {}: {}", self.concerns, self.since, self.detail)
    }
}
