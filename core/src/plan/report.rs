//! Why things are as they are: every action, and every node and VM considered and left alone, with its reason.

use super::{AwakeBecause, Gate, StayReason, SuspendProof};
use crate::model::{
    Blocker, ClassName, Cores, Hold, MoveReason, Name, NodeName, Percent, PlanName, PolicyName, PowerState, Role,
    VmKey, WindowAverage,
};
use serde::Serialize;
use std::{collections::BTreeMap, fmt};

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
    /// What holds it, its VMs or its nodes, the oldest first; what is overdue holds only those.
    pub holds: Vec<Hold>,
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
    /// What the plan's suspends rest on, by node.
    pub proofs: BTreeMap<NodeName, SuspendProof>,
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
