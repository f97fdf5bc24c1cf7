//! Policies and node classes with every default filled in.

use super::{
    Bytes, ClassName, ClassSleep, Cores, HoldKind, Labels, LoadHistory, MilliCpu, Node, Percent, PolicyName, Selector,
    SleepRules, Span, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Whether a policy acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyMode {
    /// Looks at nothing and does nothing.
    Off,
    /// Writes down what it would do and waits for approval.
    Recommend,
    /// Acts.
    Automatic,
}

/// Where the defaults come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// Minutes: for datacentres that were never consolidated before.
    Conservative,
    /// Seconds: the papers' values.
    Reactive,
}

/// When nodes are overloaded and VMs idle.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// A shared node at this share of its capacity is overloaded (Reactive Cloud §5.2.1: 90 %).
    pub overload: Percent,
    /// A VM on a dedicated node below this share of its vCPUs is idle (Reactive Cloud §5.2.2: 50 %).
    pub idle: Percent,
    /// A shared node takes a VM only if its load stays below this share: a margin under `overload`, so that the VM
    /// that came is not the one that must leave again (Reactive Cloud §5.2.2, the round trip).
    pub admission: Percent,
    /// How far a shared node and the VM that it would take are looked back on together, minute by minute, before it
    /// takes it. Up to a minute there is nothing to add up: then the averages alone count, as in Reactive Cloud.
    pub admission_window: Span,
    /// The window of the overload average (Reactive Cloud §5.2.3: 5 s).
    pub overload_window: Span,
    /// The window of the idle average (Reactive Cloud §5.2.3: 5 s).
    pub idle_window: Span,
    /// How long a VM stays after its last migration ended (Reactive Cloud §5.2.4: 20 s).
    pub settle: Span,
}

impl Thresholds {
    /// The profile's values. `Conservative` watches for minutes: overloaded for five, idle for thirty.
    #[must_use]
    pub fn of(profile: Profile) -> Self {
        let percent = |value| Percent::threshold(value).unwrap_or_default();
        let (overload_window, idle_window, settle) = match profile {
            Profile::Reactive => (5, 5, 20),
            Profile::Conservative => (5 * 60, 30 * 60, 10 * 60),
        };
        Self {
            overload: percent(90.0),
            idle: percent(50.0),
            admission: percent(75.0),
            admission_window: Span::from_secs(30 * 60),
            overload_window: Span::from_secs(overload_window),
            idle_window: Span::from_secs(idle_window),
            settle: Span::from_secs(settle),
        }
    }

    /// Over so many minutes a shared node and the VM that it would take are looked back on; 0: their averages alone
    /// count.
    #[must_use]
    pub fn admission_minutes(&self) -> i64 {
        let seconds = i64::try_from(self.admission_window.min(LoadHistory::LONGEST_WINDOW).as_secs()).unwrap_or(0);
        if seconds <= 60 { 0 } else { seconds.div_euclid(60) + i64::from(seconds % 60 != 0) }
    }
}

/// Which dedicated node comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DestinationOrder {
    /// The one with the fewest empty cores that still suffice (Reactive Cloud §3.3.2).
    MostDense,
    /// The one with the most empty cores.
    LeastDense,
    /// Any, by the seed.
    Random,
}

/// How VMs are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MigrationChoice {
    /// Relieve an overload by post-copy, return by pre-copy.
    Auto,
    /// Always post-copy, where it is allowed.
    PostCopy,
    /// Always pre-copy.
    PreCopy,
}

/// Whether post-copy may be used at all: a failed one loses the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PostCopyUse {
    /// Never.
    Never,
    /// On VMs marked `miyako.dev/post-copy: allow`.
    OptIn,
    /// On all but those marked `never`.
    Allow,
}

/// How much a policy may disturb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budgets {
    /// Moves of one VM within 24 hours. KubeVirt's own alert fires at 12.
    pub moves_per_vm_per_day: u32,
    /// Migrations of this policy at once; none: what KubeVirt's limit less the reserve gives.
    pub concurrent: Option<u32>,
    /// Migrations into or out of one shared node at once (rule 6).
    pub concurrent_per_shared_node: u32,
    /// KubeVirt's slots that are left to others.
    pub reserved_migrations: u32,
    /// Moves of this policy begun within an hour, if limited.
    pub moves_per_hour: Option<u32>,
}

/// Which VMs a policy rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSelector {
    /// By the VMI's labels.
    pub vms: Selector,
    /// By the namespace's labels.
    pub namespaces: Selector,
}

impl VmSelector {
    /// Whether a VM with these labels in such a namespace is ruled.
    #[must_use]
    pub fn matches(&self, vm: &Labels, namespace: &Labels) -> bool {
        self.vms.matches(vm) && self.namespaces.matches(namespace)
    }
}

/// A ConsolidationPolicy with all defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// Of two policies that claim a class the higher priority wins, then the name.
    pub priority: i32,
    /// Whether it acts.
    pub mode: PolicyMode,
    /// The classes it names.
    pub classes: Vec<ClassName>,
    /// The VMs it rules.
    pub vms: VmSelector,
    /// When nodes are overloaded and VMs idle.
    pub thresholds: Thresholds,
    /// Which dedicated node comes first.
    pub order: DestinationOrder,
    /// Topology keys whose value a VM may not leave.
    pub stay_within: Vec<String>,
    /// How VMs are moved.
    pub migration: MigrationChoice,
    /// Whether post-copy may be used.
    pub post_copy: PostCopyUse,
    /// How much it may disturb.
    pub budgets: Budgets,
    /// Dedicated nodes kept awake and empty in advance (Reactive Cloud §5.3).
    pub spare_dedicated: u32,
    /// When its empty nodes sleep.
    pub sleep: SleepRules,
    /// Node failures that the awake rest must survive (rule 4).
    pub keep_awake_failures: u32,
    /// The topology key within which those failures are counted.
    pub keep_awake_per: String,
    /// Nodes that stay awake whatever happens.
    pub min_awake: u32,
    /// How long a proposal waits for approval.
    pub plan_ttl: Span,
    /// Whether `now` lies inside one of its schedules (the edge evaluates cron), and when that changes.
    pub in_schedule: bool,
    /// When `in_schedule` changes next.
    pub schedule_changes: Option<Timestamp>,
    /// What it waits for besides evacuations and rollouts, for which everybody waits.
    pub waits_for: Vec<HoldKind>,
    /// Why it must hold, with every node awake (an upgrade of cluster or KubeVirt).
    pub held: Option<String>,
    /// A backup that it waits for: it starts nothing, and what sleeps sleeps on.
    pub backup: Option<String>,
    /// Why it can't be served (bad spec, no such class, …): it then does nothing.
    pub invalid: Option<String>,
    /// A descheduler that would spread what we pack (rule 10).
    pub rival: Option<String>,
    /// When its spec, or that of one of its classes, was last seen to change. What was decided before answers other
    /// rules than those of now.
    pub changed: Timestamp,
}

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Much memory, overcommitted CPU: hosts idle VMs (Shared Server, Warehouse Node).
    Shared,
    /// One physical core per vCPU: hosts busy VMs (Dedicated Server, Server Node).
    Dedicated,
}

/// How much of a node VMs may use; what is absent follows the node's allocatable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// CPU for VMs.
    pub cpu: Option<MilliCpu>,
    /// Memory for VMs.
    pub memory: Option<Bytes>,
}

/// A NodePowerClass.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeClass {
    /// Its name.
    pub name: ClassName,
    /// Which nodes.
    pub nodes: Selector,
    /// What they are for.
    pub role: Role,
    /// How much of them VMs may use.
    pub capacity: Capacity,
    /// How many VMs one may host.
    pub max_vms: Option<u32>,
    /// DaemonSets (`namespace/name`) that may sleep with their node.
    pub sleeping_daemon_sets: BTreeSet<String>,
    /// Static pods (`namespace/name`, without their node's name) that may sleep with their node.
    pub sleeping_static_pods: BTreeSet<String>,
    /// Keys of taints that controllers put on nodes while they sleep, and take away afterwards.
    pub passing_taints: BTreeSet<String>,
    /// What one draws.
    pub power: PowerFigures,
    /// What measures that, if anything does.
    pub meter: Meter,
    /// How they sleep and wake.
    pub sleep: ClassSleep,
    /// Why the class can't be used.
    pub invalid: Option<String>,
}

/// What measures what nodes draw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Meter {
    /// Nothing: it is modelled.
    #[default]
    Modelled,
    /// The processors' energy counters, and so many watts for the rest of the machine.
    Rapl {
        /// What the machine draws besides.
        besides: u32,
    },
    /// The nodes' BMCs, which a waker reads.
    Bmc,
    /// A query to the Prometheus server that the operator asks.
    Prometheus {
        /// The query: watts, one series for each node.
        query: String,
        /// The label that carries the node's name.
        node_label: String,
    },
}

/// What a node draws, in watts: linear in its load between idle and full (Reactive Consolidation, evaluation).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerFigures {
    /// Awake with nothing to do.
    pub idle: u32,
    /// All cores busy.
    pub full: u32,
    /// Asleep.
    pub asleep: u32,
}

impl Default for PowerFigures {
    /// The defaults of a NodePowerClass.
    fn default() -> Self {
        Self { idle: 53, full: 100, asleep: 7 }
    }
}

impl PowerFigures {
    /// Watts of a node that is awake, at a load from 0 to 1 of its cores.
    #[must_use]
    pub fn awake(self, load: f64) -> f64 {
        let (idle, full) = (f64::from(self.idle), f64::from(self.full));
        idle + (full - idle) * load.clamp(0.0, 1.0)
    }
}

impl NodeClass {
    /// The CPU that VMs may use on a node of this class.
    #[must_use]
    pub fn cpu_of(&self, node: &Node) -> Cores {
        self.capacity.cpu.map_or(node.allocatable.cpu, |cpu| cpu.min(node.allocatable.cpu)).cores()
    }

    /// The whole cores that VMs may own on a node of this class.
    #[must_use]
    pub fn cores_of(&self, node: &Node) -> u64 {
        self.capacity.cpu.map_or(node.allocatable.cpu, |cpu| cpu.min(node.allocatable.cpu)).whole_cores()
    }

    /// The memory that VMs may use on a node of this class.
    #[must_use]
    pub fn memory_of(&self, node: &Node) -> Bytes {
        self.capacity.memory.map_or(node.allocatable.memory, |memory| memory.min(node.allocatable.memory))
    }
}

/// All that people declared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policies {
    /// The policies by name.
    pub policies: BTreeMap<PolicyName, Policy>,
    /// The classes by name.
    pub classes: BTreeMap<ClassName, NodeClass>,
}

impl Policies {
    /// The policy that a class belongs to: of those that name it the one with the highest priority, then the first
    /// name.
    #[must_use]
    pub fn ruling(&self, class: &ClassName) -> Option<&Policy> {
        self.policies
            .values()
            .filter(|policy| policy.classes.contains(class))
            .max_by(|a, b| a.priority.cmp(&b.priority).then_with(|| b.name.cmp(&a.name)))
    }

    /// The class of a node: the one class that selects it. Two classes that select the same node leave it to neither,
    /// because their roles could differ.
    ///
    /// # Errors
    /// The names of all classes that select it, when there are several.
    pub fn class_of(&self, node: &Node) -> Result<Option<&NodeClass>, Vec<ClassName>> {
        let mut selecting = self.classes.values().filter(|class| class.nodes.matches(&node.labels));
        let first = selecting.next();
        let others: Vec<_> = selecting.map(|class| class.name.clone()).collect();
        match first {
            Some(first) if !others.is_empty() => Err([vec![first.name.clone()], others].concat()),
            first => Ok(first),
        }
    }
}
