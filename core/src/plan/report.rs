//! Why things are as they are: every action, and every node and VM considered and left alone, with its reason.

use super::{AwakeBecause, MoveReason};
use crate::check::Blocker;
use crate::fit::Misfit;
use crate::model::{
    ClassName, Cores, KubeVirtProblem, MigrationMode, Name, NodeName, Percent, PlanName, PolicyName, PowerState, Role,
    Timestamp, VmActivity, VmKey, WindowAverage,
};
use serde::Serialize;
use std::{collections::BTreeMap, fmt};

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
    /// virt-handler is being rolled out or KubeVirt upgraded.
    RollingOut,
    /// KubeVirt's own evacuations wait for a migration slot and go first.
    EvacuationsWaiting {
        /// How many.
        vms: u32,
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
            Self::RollingOut => "RollingOut",
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
            Self::RollingOut => write!(f, "KubeVirt or virt-handler is being rolled out"),
            Self::EvacuationsWaiting { vms } => write!(f, "{vms} evacuations wait for a migration slot and go first"),
            Self::Rival { message } => write!(f, "{message}"),
            Self::HourSpent { budget } => write!(f, "the budget of {budget} moves an hour is used up"),
        }
    }
}

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
            Self::BackingOff { failures, until } => {
                write!(f, "its last {failures} moves failed; next try after {until}")
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
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misfit { misfit } => write!(f, "{misfit}"),
            Self::NotUsable => write!(f, "not usable now"),
            Self::Cores { empty, wanted } => write!(f, "{empty} empty cores, {wanted} wanted"),
            Self::LoadUnknown => write!(f, "its load is unknown"),
            Self::Load { predicted, admission } => write!(f, "would be at {predicted}, admits below {admission}"),
            Self::ClassMemory => write!(f, "its class has no memory left for VMs"),
            Self::MaxVms => write!(f, "hosts as many VMs as its class allows"),
            Self::StayWithin { key } => write!(f, "another {key}"),
            Self::Busy => write!(f, "moves as many VMs at once as it may"),
        }
    }
}

/// What becomes of a VM.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum VmVerdict {
    /// It stays.
    Stays {
        /// Why.
        reason: StayReason,
    },
    /// This plan moves it.
    Moves {
        /// To where.
        target: NodeName,
        /// Why.
        reason: MoveReason,
    },
    /// An earlier plan that is not over moves it or would.
    Planned {
        /// Which.
        plan: PlanName,
    },
}

/// A VM in the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VmReport {
    /// The policy that rules it.
    pub policy: Option<PolicyName>,
    /// What becomes of it.
    pub verdict: VmVerdict,
}

/// What was found about a node's load.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum NodeVerdict {
    /// No class selects it.
    NoClass,
    /// Several classes select it, so none rules it.
    Ambiguous {
        /// Which.
        classes: Vec<ClassName>,
    },
    /// Its class belongs to no policy (or only to policies that are Off or invalid).
    NoPolicy,
    /// Not ready, asleep, or without virt-handler.
    NotUsable,
    /// A dedicated node: its VMs are looked at one by one.
    Dedicated,
    /// Its load is not known well enough.
    LoadUnknown,
    /// A shared node below its threshold.
    Calm {
        /// Its load.
        load: Percent,
    },
    /// Overloaded, and measured anew since the last change to it has not been.
    Settling {
        /// Its load.
        load: Percent,
    },
    /// Overloaded, and moving as many VMs at once as it may.
    Relieving {
        /// Its load.
        load: Percent,
    },
    /// Overloaded: this plan moves a VM away.
    Relieved {
        /// Its load.
        load: Percent,
        /// Which VM.
        vm: VmKey,
    },
    /// Overloaded, and no VM on it can be moved.
    Stuck {
        /// Its load.
        load: Percent,
    },
}

impl NodeVerdict {
    fn is_overloaded(&self) -> bool {
        matches!(self, Self::Settling { .. } | Self::Relieving { .. } | Self::Relieved { .. } | Self::Stuck { .. })
    }
}

/// A node in the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeReport {
    /// Its class.
    pub class: Option<ClassName>,
    /// The policy that rules it.
    pub policy: Option<PolicyName>,
    /// What it is for.
    pub role: Option<Role>,
    /// Its average load over the policy's overload window.
    pub load: WindowAverage,
    /// The CPU that VMs may use.
    pub capacity: Cores,
    /// VMs on it.
    pub vms: u32,
    /// Whole cores that no VM owns (dedicated nodes).
    pub empty_cores: Option<u64>,
    /// What was found.
    pub verdict: NodeVerdict,
    /// What keeps it awake; nothing: it could sleep.
    pub blockers: Vec<Blocker>,
    /// Why it is awake although nothing keeps it so.
    pub awake_because: Option<AwakeBecause>,
}

impl NodeReport {
    /// Could sleep now.
    #[must_use]
    pub fn can_sleep(&self) -> bool {
        self.policy.is_some() && self.blockers.is_empty()
    }
}

/// One reason that keeps nodes awake, with how many.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankedBlocker {
    /// The reason's name.
    pub reason: String,
    /// How many nodes it keeps awake.
    pub nodes: u32,
    /// How many of these it alone keeps awake.
    pub alone: u32,
    /// Up to three of them.
    pub examples: Vec<NodeName>,
    /// What to do about it.
    pub advice: String,
}

/// A policy in the report.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PolicyReport {
    /// What keeps it from starting moves.
    pub gate: Option<Gate>,
    /// Classes it names that do not exist.
    pub unknown_classes: Vec<ClassName>,
    /// Classes it names that belong to another policy, with that policy.
    pub lost_classes: Vec<(ClassName, PolicyName)>,
    /// Shared nodes it rules.
    pub shared: u32,
    /// Dedicated nodes it rules.
    pub dedicated: u32,
    /// Nodes it rules that are awake.
    pub awake: u32,
    /// Nodes it rules that sleep.
    pub asleep: u32,
    /// Nodes it rules that could sleep.
    pub can_sleep: u32,
    /// Overloaded shared nodes.
    pub overloaded: u32,
    /// Nodes without a usable load.
    pub load_unknown: u32,
    /// VMs it rules.
    pub vms: u32,
    /// VMs it rules with a constraint that is not understood.
    pub unsupported: u32,
    /// What keeps its nodes awake, most nodes first.
    pub blockers: Vec<RankedBlocker>,
    /// NodeHealthChecks that count its sleeping nodes as broken ones.
    pub counted_by: Vec<CountedBy>,
    /// MachineHealthChecks that would replace the machines of its sleeping nodes.
    pub replaced_by: Vec<ReplacedBy>,
}

/// A NodeHealthCheck that counts sleeping nodes as broken ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CountedBy {
    /// Its name.
    pub name: Name,
    /// How many nodes it watches, this policy's or not.
    pub nodes: u32,
    /// How many of them may sleep while it would still repair one that really fails.
    pub most_asleep: u32,
}

/// A MachineHealthCheck that would replace the machines of sleeping nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplacedBy {
    /// Its namespace and name.
    pub name: Name,
    /// How many of the policy's nodes.
    pub nodes: u32,
}

impl fmt::Display for ReplacedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, nodes } = self;
        write!(
            f,
            "MachineHealthCheck {name} would replace the machines of {nodes} nodes while they sleep, so these stay awake; \
             leave them out of its spec.selector, or pause it (annotation cluster.x-k8s.io/paused)"
        )
    }
}

impl fmt::Display for CountedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, nodes, most_asleep } = self;
        write!(
            f,
            "NodeHealthCheck {name} counts sleeping nodes as unhealthy, so at most {most_asleep} of its {nodes} sleep; \
             add to its spec.selector.matchExpressions {{key: miyako.dev/power, operator: NotIn, values: [asleep]}}"
        )
    }
}

impl PolicyReport {
    /// Counts a node that the policy rules.
    pub(super) fn count(&mut self, node: &NodeReport, power: PowerState) {
        match node.role {
            Some(Role::Shared) => self.shared += 1,
            _ => self.dedicated += 1,
        }
        match power {
            PowerState::Suspended | PowerState::Quarantined => self.asleep += 1,
            _ => self.awake += 1,
        }
        self.overloaded += u32::from(node.verdict.is_overloaded());
        self.load_unknown += u32::from(node.verdict == NodeVerdict::LoadUnknown);
        self.can_sleep += u32::from(power == PowerState::Awake && node.can_sleep());
    }
}

/// Whether a plan that waits still holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum ProposalVerdict {
    /// It is still what we want.
    Stands,
    /// Its reason has gone.
    Obsolete {
        /// Why.
        message: String,
    },
}

/// The whole report.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// By policy.
    pub policies: BTreeMap<PolicyName, PolicyReport>,
    /// By node.
    pub nodes: BTreeMap<NodeName, NodeReport>,
    /// By VM.
    pub vms: VmReports,
    /// Plans that wait for approval or for their first step.
    pub proposals: BTreeMap<PlanName, ProposalVerdict>,
}

/// What becomes of each VM, by its key. Nothing is added after a decision, so it is a plain list in the order of the
/// keys: 200 000 entries of a map would cost more than all that is said in them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VmReports(Vec<(VmKey, VmReport)>);

impl VmReports {
    /// Takes what was said about each VM, in the order of their keys.
    pub(super) fn of(said: Vec<(VmKey, Option<VmReport>)>) -> Self {
        Self(said.into_iter().filter_map(|(vm, report)| Some((vm, report?))).collect())
    }

    /// What becomes of one VM.
    #[must_use]
    pub fn get(&self, vm: &VmKey) -> Option<&VmReport> {
        self.0.binary_search_by(|(key, _)| key.cmp(vm)).ok().map(|at| &self.0[at].1)
    }

    /// All VMs, by their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&VmKey, &VmReport)> {
        self.0.iter().map(|(key, report)| (key, report))
    }

    /// What becomes of all VMs, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &VmReport> {
        self.0.iter().map(|(_, report)| report)
    }

    /// How many VMs were looked at.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None were.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for VmReports {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(key, value)| (key.to_string(), value)))
    }
}
