//! What a plan consists of. It is so specific that carrying it out leaves no choice to make.

use super::{
    MigrationMode, MigrationName, NodeName, Percent, PodKey, PolicyName, SuspendReason, Timestamp, Uid, VmKey,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a VM is moved.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum MoveReason {
    /// Its shared node reached the overload threshold and it uses the most CPU there (Reactive Cloud §3.3.2,
    /// overloading detection).
    Overload {
        /// The node's average over the window.
        node_load: Percent,
        /// The threshold it reached.
        threshold: Percent,
    },
    /// It idles on a dedicated node (Reactive Cloud §3.3.2, idling detection).
    Idle {
        /// The VM's average over the window, of its vCPUs.
        vm_load: Percent,
        /// The threshold it stays below.
        threshold: Percent,
        /// Since when: the order of admission to shared nodes.
        since: Timestamp,
    },
}

/// What kind of reason moves a VM: what a ConsolidationPlan records of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MoveKind {
    /// See [`MoveReason::Overload`].
    Overload,
    /// See [`MoveReason::Idle`].
    Idle,
    /// Another version's; it is carried out like a return.
    Other,
}

impl MoveKind {
    /// Its name in objects, Events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Overload => "Overload",
            Self::Idle => "Idle",
            Self::Other => "Other",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        [Self::Overload, Self::Idle].into_iter().find(|kind| kind.name() == name).unwrap_or(Self::Other)
    }
}

impl MoveReason {
    /// The kind of reason.
    #[must_use]
    pub fn kind(&self) -> MoveKind {
        match self {
            Self::Overload { .. } => MoveKind::Overload,
            Self::Idle { .. } => MoveKind::Idle,
        }
    }

    /// The reason's name in objects, Events and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }
}

impl fmt::Display for MoveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overload { node_load, threshold } => {
                write!(f, "its node is at {node_load}, overloaded from {threshold}; no VM there uses more CPU")
            }
            Self::Idle { vm_load, threshold, .. } => {
                write!(f, "it uses {vm_load} of its vCPUs, idle below {threshold}, and a shared node has room")
            }
        }
    }
}

/// Move one VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrateStep {
    /// The policy that wants it.
    pub policy: PolicyName,
    /// The VM.
    pub vm: VmKey,
    /// Its VMI's uid: a VM of the same name that came later is not moved.
    pub uid: Uid,
    /// From where.
    pub source: NodeName,
    /// To where.
    pub target: NodeName,
    /// How.
    pub mode: MigrationMode,
    /// The VMIM to create: named by VMI uid, last migration and attempt, so that the same wish has the same name.
    pub migration: MigrationName,
    /// Which try this is since the VM's last migration; the first is 0.
    pub attempt: u32,
    /// Why.
    pub reason: MoveReason,
    /// A user's own MigrationPolicy that matches this VM: mode and bandwidth are then the user's, and we set no label.
    pub users_policy: Option<String>,
}

/// Why a node is woken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum WakeReason {
    /// A VM must move and no awake node has room.
    ForMove {
        /// The VM.
        vm: VmKey,
    },
    /// A pod is pending that fits no awake node (rule 9).
    PendingPod {
        /// The pod.
        pod: PodKey,
        /// Its uid: one of the same name that came later is another one.
        uid: Uid,
    },
    /// Spare capacity or the least number of awake nodes is not met (rule 4).
    Reserve,
    /// A person holds everything awake.
    Hold,
    /// It has slept for as long as its class lets it.
    MaxAsleep,
}

/// What kind of reason wakes a node: what a ConsolidationPlan records of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WakeKind {
    /// See [`WakeReason::ForMove`].
    ForMove,
    /// See [`WakeReason::PendingPod`].
    PendingPod,
    /// See [`WakeReason::Reserve`].
    Reserve,
    /// See [`WakeReason::Hold`].
    Hold,
    /// See [`WakeReason::MaxAsleep`].
    MaxAsleep,
    /// Another version's.
    Other,
}

impl WakeKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::ForMove, Self::PendingPod, Self::Reserve, Self::Hold, Self::MaxAsleep, Self::Other];

    /// Its name in objects, Events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ForMove => "ForMove",
            Self::PendingPod => "PendingPod",
            Self::Reserve => "Reserve",
            Self::Hold => "Hold",
            Self::MaxAsleep => "MaxAsleep",
            Self::Other => "Other",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.name() == name).unwrap_or(Self::Other)
    }

    /// Nobody is asked about such a wake, in whatever mode.
    #[must_use]
    pub fn is_due(self) -> bool {
        self != Self::ForMove
    }

    /// A VM or a pod waits for the node.
    #[must_use]
    pub fn is_awaited(self) -> bool {
        matches!(self, Self::ForMove | Self::PendingPod)
    }
}

impl WakeReason {
    /// The kind of reason.
    #[must_use]
    pub fn kind(&self) -> WakeKind {
        match self {
            Self::ForMove { .. } => WakeKind::ForMove,
            Self::PendingPod { .. } => WakeKind::PendingPod,
            Self::Reserve => WakeKind::Reserve,
            Self::Hold => WakeKind::Hold,
            Self::MaxAsleep => WakeKind::MaxAsleep,
        }
    }

    /// The reason's name in objects, Events and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }
}

impl fmt::Display for WakeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForMove { vm } => write!(f, "{vm} must move and no awake node has room for it"),
            Self::PendingPod { pod, .. } => write!(f, "pod {pod} is pending and fits no awake node"),
            Self::Reserve => write!(f, "fewer nodes are awake than the policy keeps in reserve"),
            Self::Hold => write!(f, "everything is held awake"),
            Self::MaxAsleep => write!(f, "it has slept as long as its class lets it (spec.suspend.maxAsleep)"),
        }
    }
}

/// Wake one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WakeStep {
    /// The policy that wants it.
    pub policy: PolicyName,
    /// The node.
    pub node: NodeName,
    /// Why.
    pub reason: WakeReason,
}

/// Suspend one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuspendStep {
    /// The policy that wants it.
    pub policy: PolicyName,
    /// The node.
    pub node: NodeName,
    /// Why.
    pub reason: SuspendReason,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step")]
pub enum Step {
    /// Move a VM.
    Migrate(MigrateStep),
    /// Wake a node.
    Wake(WakeStep),
    /// Suspend a node.
    Suspend(SuspendStep),
    /// Delete a VMIM of ours whose target will not come up: it would hold a slot of KubeVirt's for minutes.
    Abort {
        /// The VMIM.
        migration: MigrationName,
        /// Its uid.
        uid: Uid,
        /// Why.
        reason: String,
    },
}

/// What to do now, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The steps. They hold together: later ones count on earlier ones.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The moves among the steps.
    pub fn migrations(&self) -> impl Iterator<Item = &MigrateStep> {
        self.steps.iter().filter_map(|step| match step {
            Step::Migrate(step) => Some(step),
            _ => None,
        })
    }

    /// The policy a step serves; aborts serve none.
    #[must_use]
    pub fn policy_of(step: &Step) -> Option<&PolicyName> {
        match step {
            Step::Migrate(MigrateStep { policy, .. })
            | Step::Wake(WakeStep { policy, .. })
            | Step::Suspend(SuspendStep { policy, .. }) => Some(policy),
            Step::Abort { .. } => None,
        }
    }
}
