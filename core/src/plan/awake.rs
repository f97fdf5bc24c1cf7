//! Why a node that could sleep does not.

use super::{Gate, Need};
use crate::model::{NoAgent, NodeName, Timestamp};
use serde::Serialize;
use std::fmt;

/// Why a node that nothing keeps awake by itself stays awake for now.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "because")]
pub enum AwakeBecause {
    /// Its policy does nothing now.
    Gated {
        /// What keeps it.
        gate: Gate,
    },
    /// Its class names no way to wake it.
    NoWakeDriver,
    /// No agent on it would obey an order to sleep.
    NoAgent {
        /// How that is known.
        silence: NoAgent,
    },
    /// By the figures of its class it draws no less asleep than idle.
    SavesNothing,
    /// It was not seen empty before.
    JustEmptied,
    /// It has not been empty, or awake, for long enough.
    Waits {
        /// Until when.
        until: Timestamp,
        /// It slept too short the last time.
        wary: bool,
    },
    /// Its agent refused the last order.
    Refused {
        /// Why.
        why: String,
        /// When it is asked again.
        until: Timestamp,
    },
    /// Its agent says that the machine can't sleep.
    Obstacle {
        /// Why.
        detail: String,
    },
    /// Its proof that it wakes is missing or too old, and only people test nodes of its class.
    TestedByPeople {
        /// When it last showed that it wakes.
        tested: Option<Timestamp>,
    },
    /// It failed to wake lately.
    FailedToWake {
        /// When.
        at: Timestamp,
        /// When it is tested again.
        until: Timestamp,
    },
    /// It is to be tested, after another node.
    TestedAfter {
        /// Which.
        other: NodeName,
    },
    /// As many of its class sleep as may.
    MaxAsleep {
        /// How many.
        asleep: usize,
    },
    /// The policy's suspends of this hour are used up.
    HourSpent {
        /// How many there may be.
        budget: u32,
    },
    /// The least number of awake nodes.
    LeastAwake {
        /// That number.
        least: u32,
    },
    /// It is one of the spare nodes.
    Spare {
        /// How many there are to be.
        wanted: usize,
    },
    /// The cluster as a whole can't spare it.
    Needed {
        /// What for.
        need: Need,
    },
    /// Another node goes first.
    NotFirst {
        /// Which.
        first: NodeName,
    },
    /// The policy has more urgent things to do.
    BusyPass,
    /// Others were tried in this pass, or none.
    NotTried,
}

impl AwakeBecause {
    /// The reason's name in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gated { .. } => "Gated",
            Self::NoWakeDriver => "NoWakeDriver",
            Self::NoAgent { .. } => "NoAgent",
            Self::SavesNothing => "SavesNothing",
            Self::JustEmptied => "JustEmptied",
            Self::Waits { .. } => "Waits",
            Self::Refused { .. } => "Refused",
            Self::Obstacle { .. } => "Obstacle",
            Self::TestedByPeople { .. } => "TestedByPeople",
            Self::FailedToWake { .. } => "FailedToWake",
            Self::TestedAfter { .. } => "TestedAfter",
            Self::MaxAsleep { .. } => "MaxNodesAsleep",
            Self::HourSpent { .. } => "HourSpent",
            Self::LeastAwake { .. } => "LeastAwake",
            Self::Spare { .. } => "Spare",
            Self::Needed { need: Need::Failover(_) } => "Failover",
            Self::Needed { need: Need::HealthCheck { .. } } => "NodeHealthCheck",
            Self::Needed { need: Need::PendingPod { .. } } => "PendingPod",
            Self::NotFirst { .. } => "NotFirst",
            Self::BusyPass => "BusyPass",
            Self::NotTried => "NotTried",
        }
    }
}

impl fmt::Display for AwakeBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gated { gate } => write!(f, "its policy suspends nothing now: {gate}"),
            Self::NoWakeDriver => write!(f, "its class names no way to wake it (spec.wake)"),
            Self::NoAgent { silence } => {
                write!(f, "{silence}: see whether the DaemonSet miyako-agent runs there, with power enabled")
            }
            Self::SavesNothing => write!(f, "by its class's figures it draws no less asleep than idle"),
            Self::JustEmptied => write!(f, "it became empty just now"),
            Self::Waits { until, wary: false } => write!(f, "it sleeps after {until} if it stays empty"),
            Self::Waits { until, wary: true } => {
                write!(f, "it slept too short the last time, and sleeps after {until} if it stays empty")
            }
            Self::Refused { why, until } => write!(f, "its agent refused ({why}); it is asked again after {until}"),
            Self::Obstacle { detail } => write!(f, "its machine can't sleep: {detail}"),
            Self::TestedByPeople { tested: None } => {
                write!(f, "it was never woken for a test; `miyako wake-test NODE` tests it")
            }
            Self::TestedByPeople { tested: Some(tested) } => {
                write!(f, "it last showed at {tested} that it wakes; `miyako wake-test NODE` tests it again")
            }
            Self::FailedToWake { at, until } => {
                write!(f, "it failed to wake at {at}; it is tested again after {until}, or by `miyako wake-test NODE`")
            }
            Self::TestedAfter { other } => write!(f, "it is tested for its wake after {other}"),
            Self::MaxAsleep { asleep } => write!(f, "{asleep} nodes of its class sleep (spec.suspend.maxNodesAsleep)"),
            Self::HourSpent { budget } => write!(f, "its policy suspends {budget} nodes an hour"),
            Self::LeastAwake { least } => write!(f, "its policy keeps {least} nodes awake"),
            Self::Spare { wanted } => write!(f, "its policy keeps {wanted} dedicated nodes spare"),
            Self::Needed { need } => write!(f, "{need}"),
            Self::NotFirst { first } => write!(f, "{first} goes first"),
            Self::BusyPass => write!(f, "its policy has more urgent things to do"),
            Self::NotTried => write!(f, "it is looked at in its turn, within a minute"),
        }
    }
}
