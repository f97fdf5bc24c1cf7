//! What keeps a whole policy from starting moves.

use crate::model::{Hold, HoldKind, KubeVirtProblem, Policy, PolicyMode, Snapshot, Timestamp};
use serde::Serialize;
use std::fmt;

/// What keeps a whole policy from starting moves.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum Gate {
    /// `mode: Off`.
    Off,
    /// The policy can't be served.
    Invalid {
        /// Why, and what to write instead.
        message: String,
    },
    /// `miyako pause`.
    Paused {
        /// Who and why.
        by: String,
    },
    /// `miyako hold`, or the policy's `holdWhen`.
    Held {
        /// Who or what, and why.
        by: String,
    },
    /// Outside its schedules.
    OutsideSchedule {
        /// When one opens.
        opens: Option<Timestamp>,
    },
    /// The picture of the cluster is not complete.
    Incomplete {
        /// What is missing.
        message: String,
    },
    /// KubeVirt can't be used.
    KubeVirt {
        /// Why.
        problem: KubeVirtProblem,
    },
    /// A backup of one of its VMs runs (the policy's `holdWhen`).
    Backup {
        /// Which.
        of: String,
    },
    /// virt-handler is being rolled out or KubeVirt upgraded.
    RollingOut {
        /// What, and since when.
        what: Option<String>,
    },
    /// KubeVirt's own evacuations wait for a migration slot and go first.
    EvacuationsWaiting {
        /// How many.
        vms: u32,
        /// The one that has waited longest.
        first: Option<String>,
    },
    /// A descheduler would spread what we pack.
    Rival {
        /// Which.
        message: String,
    },
    /// The moves of this hour are used up.
    HourSpent {
        /// The budget.
        budget: u32,
    },
}

impl Gate {
    /// The reason's name in conditions and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Off => "Off",
            Self::Invalid { .. } => "Invalid",
            Self::Paused { .. } => "Paused",
            Self::Held { .. } => "Held",
            Self::OutsideSchedule { .. } => "OutsideSchedule",
            Self::Incomplete { .. } => "Incomplete",
            Self::KubeVirt { .. } => "KubeVirtUnusable",
            Self::Backup { .. } => "BackupRunning",
            Self::RollingOut { .. } => "RollingOut",
            Self::EvacuationsWaiting { .. } => "EvacuationsWaiting",
            Self::Rival { .. } => "RivalDescheduler",
            Self::HourSpent { .. } => "HourSpent",
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => write!(f, "the policy's mode is Off; set spec.mode to Recommend or Automatic"),
            Self::Invalid { message } => write!(f, "{message}"),
            Self::Paused { by } => write!(f, "paused ({by}); `miyako resume` goes on"),
            Self::Held { by } => write!(f, "held ({by})"),
            Self::OutsideSchedule { opens: Some(opens) } => {
                write!(f, "outside its schedules; the next opens at {opens}")
            }
            Self::OutsideSchedule { opens: None } => write!(f, "outside its schedules, and none opens again"),
            Self::Incomplete { message } => write!(f, "the picture of the cluster is not complete: {message}"),
            Self::KubeVirt { problem } => write!(f, "{problem}"),
            Self::Backup { of } => write!(f, "it waits for a backup: {of}"),
            Self::RollingOut { what: None } => write!(f, "KubeVirt or virt-handler is being rolled out"),
            Self::RollingOut { what: Some(what) } => write!(f, "KubeVirt is being rolled out: {what}"),
            Self::EvacuationsWaiting { vms, first } => {
                write!(f, "{vms} evacuations wait for a migration slot and go first")?;
                first.as_ref().map_or(Ok(()), |first| write!(f, " ({first})"))
            }
            Self::Rival { message } => write!(f, "{message}"),
            Self::HourSpent { budget } => write!(f, "the budget of {budget} moves an hour is used up"),
        }
    }
}

/// The first thing that keeps a policy from starting moves now, the most lasting first, if so many were begun within
/// the last hour.
pub(super) fn of(policy: &Policy, snapshot: &Snapshot, begun: usize) -> Option<Gate> {
    if policy.mode == PolicyMode::Off {
        return Some(Gate::Off);
    }
    if let Some(message) = &policy.invalid {
        return Some(Gate::Invalid { message: message.clone() });
    }
    if let Some(problem) = &snapshot.kubevirt.problem {
        return Some(Gate::KubeVirt { problem: problem.clone() });
    }
    if let Some(message) = policy.rival.as_ref().filter(|_| policy.mode == PolicyMode::Automatic) {
        return Some(Gate::Rival { message: message.clone() });
    }
    if let Some(by) = snapshot.switches.held.as_ref().or(policy.held.as_ref()) {
        return Some(Gate::Held { by: by.clone() });
    }
    if let Some(by) = &snapshot.switches.paused {
        return Some(Gate::Paused { by: by.clone() });
    }
    if let Some(of) = &policy.backup {
        return Some(Gate::Backup { of: of.clone() });
    }
    if !policy.in_schedule {
        return Some(Gate::OutsideSchedule { opens: policy.schedule_changes });
    }
    if let Some(message) = &snapshot.incomplete {
        return Some(Gate::Incomplete { message: message.clone() });
    }
    if snapshot.kubevirt.rolling_out {
        return Some(Gate::RollingOut { what: oldest(snapshot, HoldKind::KubeVirtRollout) });
    }
    if snapshot.evacuations_waiting > 0 {
        let first = oldest(snapshot, HoldKind::Evacuation);
        return Some(Gate::EvacuationsWaiting { vms: snapshot.evacuations_waiting, first });
    }
    let budget = policy.budgets.moves_per_hour?;
    (begun >= usize::try_from(budget).unwrap_or(usize::MAX)).then_some(Gate::HourSpent { budget })
}

/// Of what holds everybody in this way, the one that has for longest.
fn oldest(snapshot: &Snapshot, kind: HoldKind) -> Option<String> {
    let holds = snapshot.holds.iter().filter(|hold| hold.kind == kind && hold.holds_all);
    holds.min_by_key(|hold| hold.since).map(Hold::to_string)
}
