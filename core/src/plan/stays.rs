//! Why a VM is left where it is.

use super::Gate;
use crate::fit::Misfit;
use crate::model::{MigrationMode, NodeName, Percent, Span, Timestamp, VmActivity, VmKey, WindowAverage};
use serde::Serialize;
use std::fmt;

/// Why a VM stays where it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum StayReason {
    /// No policy rules its node.
    NodeNotRuled,
    /// The policy of its node does not select it.
    NotSelected,
    /// It runs nowhere (yet), or its node is gone.
    NoNode,
    /// Its node is not usable (not ready, asleep, no virt-handler).
    NodeNotUsable,
    /// Something else must end first.
    Busy {
        /// What.
        activity: VmActivity,
    },
    /// KubeVirt calls it not migratable.
    NotMigratable {
        /// KubeVirt's words.
        message: String,
    },
    /// A person said never.
    OptedOut,
    /// The descheduler's `prefer-no-eviction`.
    PrefersNoEviction,
    /// It holds a host device.
    HostDevice,
    /// A constraint that we do not understand.
    Unsupported {
        /// Which field.
        field: String,
    },
    /// It moved a moment ago.
    Settling {
        /// Until when.
        until: Timestamp,
    },
    /// Moves of it failed.
    BackingOff {
        /// How often in a row.
        failures: u32,
        /// Until when.
        until: Timestamp,
        /// Why the last one failed.
        why: Option<String>,
    },
    /// Its moves of the day are used up.
    BudgetSpent {
        /// How many there were.
        moves: usize,
    },
    /// KubeVirt did not apply the mode that its policy asks for.
    ModeIgnored {
        /// Which.
        mode: MigrationMode,
    },
    /// Its load is not known well enough.
    LoadUnknown {
        /// What there is.
        load: WindowAverage,
    },
    /// Its shared node is not overloaded.
    NodeCalm,
    /// Its shared node is overloaded, and another VM there is moved first.
    NotFirst {
        /// Which.
        first: VmKey,
    },
    /// Its node's overload is dealt with already, or must be measured anew first.
    NodeSettling,
    /// It uses its dedicated cores.
    Active {
        /// How much of its vCPUs.
        load: Percent,
    },
    /// It idles, and the last of its moves of the day is kept for the time when it is busy again.
    ReliefKept {
        /// How many there were.
        moves: usize,
        /// How many there may be.
        budget: u32,
    },
    /// It idles, and its load is not known for long enough to tell whether a shared node has room for it all along.
    HistoryShort {
        /// Seconds measured within the admission window.
        have: u32,
        /// Seconds that the window wants.
        want: u32,
    },
    /// No node has room for it.
    NoRoom {
        /// What spoke against the nodes considered: the first few, by name.
        nodes: Vec<(NodeName, NoPlace)>,
    },
    /// A sleeping node is woken for it.
    WaitsForWake {
        /// Which.
        node: NodeName,
    },
    /// The node it would go to or leave moves as many VMs at once as it may.
    WaitsForNode {
        /// Which.
        node: NodeName,
    },
    /// All migration slots that we may use are taken.
    WaitsForSlot,
    /// Its policy starts nothing now.
    Gated {
        /// Why.
        gate: Gate,
    },
    /// It uses next to nothing: moving it would not relieve its node.
    NoRelief,
}

impl StayReason {
    /// The reason's name in objects and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NodeNotRuled => "NodeNotRuled",
            Self::NotSelected => "NotSelected",
            Self::NoNode => "NoNode",
            Self::NodeNotUsable => "NodeNotUsable",
            Self::Busy { .. } => "Busy",
            Self::NotMigratable { .. } => "NotMigratable",
            Self::OptedOut => "OptedOut",
            Self::PrefersNoEviction => "PrefersNoEviction",
            Self::HostDevice => "HostDevice",
            Self::Unsupported { .. } => "UnsupportedConstraint",
            Self::Settling { .. } => "Settling",
            Self::BackingOff { .. } => "BackingOff",
            Self::BudgetSpent { .. } => "BudgetSpent",
            Self::ModeIgnored { .. } => "ModeIgnored",
            Self::LoadUnknown { .. } => "LoadUnknown",
            Self::NodeCalm => "NodeCalm",
            Self::NotFirst { .. } => "NotFirst",
            Self::NodeSettling => "NodeSettling",
            Self::Active { .. } => "Active",
            Self::ReliefKept { .. } => "ReliefKept",
            Self::HistoryShort { .. } => "HistoryShort",
            Self::NoRoom { .. } => "NoRoom",
            Self::WaitsForWake { .. } => "WaitsForWake",
            Self::WaitsForNode { .. } => "WaitsForNode",
            Self::WaitsForSlot => "WaitsForSlot",
            Self::Gated { .. } => "Gated",
            Self::NoRelief => "NoRelief",
        }
    }
}

impl fmt::Display for StayReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeNotRuled => write!(f, "no policy rules its node: name the node's class in a ConsolidationPolicy"),
            Self::NotSelected => write!(f, "the policy's virtualMachines selectors leave it out"),
            Self::NoNode => write!(f, "it runs on no known node"),
            Self::NodeNotUsable => write!(f, "its node is not usable now"),
            Self::Busy { activity } => write!(f, "it is busy: {activity:?}"),
            Self::NotMigratable { message } => write!(f, "KubeVirt calls it not migratable: {message}"),
            Self::OptedOut => write!(f, "it is marked miyako.dev/consolidate: never"),
            Self::PrefersNoEviction => write!(f, "it is marked descheduler.alpha.kubernetes.io/prefer-no-eviction"),
            Self::HostDevice => write!(f, "it holds a host device"),
            Self::Unsupported { field } => write!(f, "it has a constraint that is not understood: {field}"),
            Self::Settling { until } => write!(f, "it moved lately and settles until {until}"),
            Self::BackingOff { failures, until, why } => {
                write!(f, "its last {failures} moves failed; next try after {until}")?;
                why.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
            }
            Self::BudgetSpent { moves } => write!(f, "it moved {moves} times within a day, which is its budget"),
            Self::ModeIgnored { mode } => {
                write!(f, "KubeVirt applied another MigrationPolicy than ours for {mode} when it last moved")
            }
            Self::LoadUnknown { load } => match load {
                WindowAverage::Never => write!(f, "its load was never reported"),
                WindowAverage::Stale { age } => write!(f, "its load was last reported {} s ago", age.as_secs()),
                WindowAverage::Filling { have, want } => {
                    write!(f, "its load is known for {have} s of a window of {want} s")
                }
                WindowAverage::Full(cores) => write!(f, "its load is {cores}"),
            },
            Self::NodeCalm => write!(f, "its shared node is not overloaded"),
            Self::NotFirst { first } => write!(f, "its node is overloaded, and {first} is moved first"),
            Self::NodeSettling => write!(f, "its node is overloaded, and what was done about it must show first"),
            Self::Active { load } => write!(f, "it uses {load} of its dedicated cores"),
            Self::ReliefKept { moves, budget } => write!(
                f,
                "it idles and moved {moves} times within a day of {budget} allowed: a return would leave none to bring it back to cores of its own"
            ),
            Self::HistoryShort { have, want } => write!(
                f,
                "it idles, and its load is known for {} of the {} minutes that tell whether a shared node has room for it",
                have / 60,
                want.div_ceil(60)
            ),
            Self::NoRoom { nodes } if nodes.is_empty() => write!(f, "there is no node that it could go to"),
            Self::NoRoom { nodes } => {
                write!(f, "no node has room for it")?;
                for (node, why) in nodes {
                    write!(f, "; {node}: {why}")?;
                }
                Ok(())
            }
            Self::WaitsForWake { node } => write!(f, "{node} is woken for it"),
            Self::WaitsForNode { node } => write!(f, "{node} moves as many VMs at once as it may"),
            Self::WaitsForSlot => write!(f, "all of the migration slots that may be used are taken"),
            Self::Gated { gate } => write!(f, "{gate}"),
            Self::NoRelief => write!(f, "it uses so little that moving it would not relieve its node"),
        }
    }
}

/// Why one node takes a VM not.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum NoPlace {
    /// The scheduler would refuse.
    Misfit {
        /// Why.
        misfit: Misfit,
    },
    /// Not usable now.
    NotUsable,
    /// Too few empty cores.
    Cores {
        /// Empty ones.
        empty: u64,
        /// Wanted.
        wanted: u64,
    },
    /// Its load is unknown.
    LoadUnknown,
    /// It would become too full.
    Load {
        /// What the load would be.
        predicted: Percent,
        /// What is admitted.
        admission: Percent,
    },
    /// It would have been too full in the busier minutes of the admission window.
    PastLoad {
        /// What the load of all VMs there and its own came to together: the 95th percentile of the minutes.
        predicted: Percent,
        /// What is admitted.
        admission: Percent,
        /// How far is looked back.
        window: Span,
    },
    /// The class's memory for VMs would not suffice.
    ClassMemory,
    /// As many VMs as its class allows.
    MaxVms,
    /// Another zone, rack or licence pool than `stayWithin` allows.
    StayWithin {
        /// The topology key.
        key: String,
    },
    /// It moves as many VMs at once as it may.
    Busy,
    /// The scheduler refused it there, though we saw no reason.
    RefusedLately {
        /// Until when it is not asked again.
        until: Timestamp,
    },
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misfit { misfit } => write!(f, "{misfit}"),
            Self::NotUsable => write!(f, "not usable now"),
            Self::Cores { empty, wanted } => write!(f, "{empty} empty cores, {wanted} wanted"),
            Self::LoadUnknown => write!(f, "its load is unknown"),
            Self::Load { predicted, admission } => write!(f, "would be at {predicted}, admits below {admission}"),
            Self::PastLoad { predicted, admission, window } => write!(
                f,
                "would have been at {predicted} in the busiest of the last {} minutes, admits below {admission}",
                window.as_secs().div_ceil(60)
            ),
            Self::ClassMemory => write!(f, "its class has no memory left for VMs"),
            Self::MaxVms => write!(f, "hosts as many VMs as its class allows"),
            Self::StayWithin { key } => write!(f, "another {key}"),
            Self::Busy => write!(f, "moves as many VMs at once as it may"),
            Self::RefusedLately { until } => {
                write!(f, "the scheduler refused the VM's last target pod there, so it is not asked before {until}")
            }
        }
    }
}
