//! ConsolidationPlans as the API server holds them: what was wished, approved and done.

use super::{
    MigrationMode, MigrationName, MoveFailure, MoveKind, NodeName, PlanName, PolicyName, Purpose, Step, TakenBack,
    Timestamp, Uid, VmKey, WakeKind, WakeReason,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How far a plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PlanPhase {
    /// Written, not begun: waiting for approval, or for its first step.
    Proposed,
    /// Being carried out.
    Running,
    /// All steps done.
    Succeeded,
    /// A step failed.
    Failed,
    /// Not begun in time.
    Expired,
    /// A newer wish took its place.
    Superseded,
    /// The check just before acting said no.
    Refused,
}

impl PlanPhase {
    /// Nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Proposed | Self::Running)
    }
}

/// How one step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StepOutcome {
    /// Not begun.
    Waiting,
    /// Begun.
    Running,
    /// Done.
    Succeeded,
    /// Tried, in vain.
    Failed,
    /// Given up before it began.
    Skipped,
}

/// Why a node is suspended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SuspendReason {
    /// Nothing needs it.
    #[default]
    Empty,
    /// It is to show that it wakes, and is woken as soon as it sleeps.
    WakeTest,
}

impl SuspendReason {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Empty, Self::WakeTest];

    /// The reason's name in objects, Events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::WakeTest => "WakeTest",
        }
    }

    /// Reads a name; whatever is no wake test is a suspend like any other.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.name() == name).unwrap_or_default()
    }
}

impl fmt::Display for SuspendReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "nothing keeps it awake: no VM, no other pod, no volume, spare capacity stays",
            Self::WakeTest => "it is to show that it wakes; nothing is on it, and it is woken as soon as it sleeps",
        })
    }
}

/// One step of a recorded plan.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all steps are moves")]
pub enum RecordedStep {
    /// Move a VM.
    Migrate {
        /// The VM.
        vm: VmKey,
        /// The VMI's uid when it was decided.
        uid: Uid,
        /// From where.
        source: NodeName,
        /// To where.
        target: NodeName,
        /// How.
        mode: MigrationMode,
        /// The VMIM that carries it out.
        migration: MigrationName,
        /// Why.
        reason: MoveKind,
        /// The VMIM's uid, once it was seen.
        migration_uid: Option<Uid>,
        /// When it began.
        started: Option<Timestamp>,
        /// When it ended.
        ended: Option<Timestamp>,
        /// How it went.
        outcome: StepOutcome,
        /// KubeVirt applied another MigrationPolicy than the one that was meant.
        mode_ignored: bool,
        /// Why its VMIM is taken back. Noted while it runs, before the VMIM is deleted.
        taken_back: Option<TakenBack>,
        /// Why it failed.
        failure: Option<MoveFailure>,
    },
    /// Wake a node.
    Wake {
        /// The node.
        node: NodeName,
        /// Why.
        reason: WakeKind,
        /// The uid of the pending pod that it is for.
        pod: Option<Uid>,
        /// When it began.
        started: Option<Timestamp>,
        /// How it went.
        outcome: StepOutcome,
    },
    /// Suspend a node.
    Suspend {
        /// The node.
        node: NodeName,
        /// Why.
        reason: SuspendReason,
        /// When it began.
        started: Option<Timestamp>,
        /// How it went.
        outcome: StepOutcome,
    },
    /// Too little is said to carry it out; it keeps its place, so that the others keep theirs.
    Unreadable {
        /// How it went.
        outcome: StepOutcome,
    },
}

impl RecordedStep {
    /// What a step is once its plan is written, before anything of it is done; none of an abort, which no plan records.
    #[must_use]
    pub fn of(step: &Step) -> Option<Self> {
        let (started, outcome) = (None, StepOutcome::Waiting);
        match step {
            Step::Migrate(step) => Some(Self::Migrate {
                vm: step.vm.clone(),
                uid: step.uid.clone(),
                source: step.source.clone(),
                target: step.target.clone(),
                mode: step.mode,
                migration: step.migration.clone(),
                reason: step.reason.kind(),
                migration_uid: None,
                started,
                ended: None,
                outcome,
                mode_ignored: false,
                taken_back: None,
                failure: None,
            }),
            Step::Wake(step) => {
                let pod = match &step.reason {
                    WakeReason::PendingPod { uid, .. } => Some(uid.clone()),
                    _ => None,
                };
                Some(Self::Wake { node: step.node.clone(), reason: step.reason.kind(), pod, started, outcome })
            }
            Step::Suspend(step) => {
                Some(Self::Suspend { node: step.node.clone(), reason: step.reason, started, outcome })
            }
            Step::Abort { .. } => None,
        }
    }

    /// A wake that nobody is asked about.
    fn is_due(&self) -> bool {
        matches!(self, Self::Wake { reason, .. } if reason.is_due())
    }

    /// How it went so far.
    #[must_use]
    pub fn outcome(&self) -> StepOutcome {
        match self {
            Self::Migrate { outcome, .. }
            | Self::Wake { outcome, .. }
            | Self::Suspend { outcome, .. }
            | Self::Unreadable { outcome } => *outcome,
        }
    }
}

/// A ConsolidationPlan.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanRecord {
    /// Its name, a digest of its content.
    pub name: PlanName,
    /// The policy it serves.
    pub policy: PolicyName,
    /// It waits for a person's approval.
    pub needs_approval: bool,
    /// A person approved it.
    pub approved: bool,
    /// When it was decided.
    pub decided: Timestamp,
    /// When it is void unless begun.
    pub expires: Timestamp,
    /// When it was over.
    pub ended: Option<Timestamp>,
    /// How far it is.
    pub phase: PlanPhase,
    /// What it does.
    pub steps: Vec<RecordedStep>,
    /// Targets of its moves that the scheduler refused.
    pub refusals: Vec<Refusal>,
}

/// A node that the scheduler refused as the target of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The VMI's uid.
    pub vm: Uid,
    /// The node.
    pub node: NodeName,
    /// When the move was given up.
    pub at: Timestamp,
}

impl PlanRecord {
    /// May be carried out now, as far as people are concerned. Nobody is asked before a node is woken for what waits:
    /// a pod that only a sleeping node could take (rule 9), the reserve (rule 4), a hold.
    #[must_use]
    pub fn is_cleared(&self) -> bool {
        !self.needs_approval || self.approved || self.is_due()
    }

    /// It holds nothing but wakes that nobody is asked about, in whatever mode.
    #[must_use]
    pub fn is_due(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(RecordedStep::is_due)
    }

    /// What the suspends of this plan are for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        let tests = |step: &RecordedStep| matches!(step, RecordedStep::Suspend { reason: SuspendReason::WakeTest, .. });
        Purpose::of_plan(&self.name, self.steps.iter().any(tests))
    }
}
