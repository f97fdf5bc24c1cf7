//! What is wrong with a step. The sentences for people come from here alone.

use super::Rule;
use crate::{
    fit::Misfit,
    model::{
        Blocker, ClassName, KubeVirtProblem, MigrationName, MoveKind, Name, NodeName, Percent, PodKey, PolicyName,
        PowerState, Role, Span, Timestamp, Uid, VmActivity, VmKey,
    },
};
use thiserror::Error;

/// What is wrong with a step.
#[derive(Debug, Clone, PartialEq, Error)]
#[allow(missing_docs, reason = "the fields are named by the sentences")]
pub enum Cause {
    #[error("VM {vm} does not fit {node}: {why}")]
    NoFit { vm: VmKey, node: NodeName, why: NoFit },
    #[error("target node {node} is not in the cluster")]
    NoTarget { node: NodeName },
    #[error("{node} would be at {load}, {margin} is the margin")]
    OverMargin { node: NodeName, load: Percent, margin: Percent },
    #[error("{node} would have been at {load} within the last {minutes} minutes, {margin} is the margin")]
    WasOverMargin { node: NodeName, load: Percent, minutes: usize, margin: Percent },

    #[error("VM {vm} {why}")]
    Immovable { vm: VmKey, why: Immovable },
    #[error("there is no VM {vm} with uid {uid}")]
    NoVm { vm: VmKey, uid: Uid },

    #[error("node {node} is not in the cluster")]
    NoSleeper { node: NodeName },
    #[error("{node}: {blocker}")]
    Blocked { node: NodeName, blocker: Blocker },
    #[error("{node}: it last showed at {tested} that it wakes")]
    OldProof { node: NodeName, tested: Timestamp },
    #[error("{node}: this plan moves a VM from or to it")]
    MovedToOrFrom { node: NodeName },
    #[error("{node}: this plan wakes it")]
    WokenToo { node: NodeName },

    #[error("policy {policy} would keep {left} nodes awake, not {least}")]
    TooFewAwake { policy: PolicyName, left: u32, least: u32 },
    #[error("policy {policy} would keep {left} dedicated nodes spare, not {wanted}")]
    TooFewSpare { policy: PolicyName, left: u32, wanted: u32 },
    #[error("if {} failed, {vms} VMs would fit nowhere awake", and(failed))]
    Failover { failed: Vec<NodeName>, vms: usize },
    #[error(
        "NodeHealthCheck {check} would count {unhealthy} of {total} nodes as unhealthy and repair none if one more failed: \
         it allows {most_asleep} sleeping nodes; let its spec.selector leave them out (miyako.dev/power NotIn [asleep])"
    )]
    HealthCheck { check: Name, unhealthy: u32, total: u32, most_asleep: u32 },
    #[error("{waiting} evacuations wait for a migration slot")]
    EvacuationsWait { waiting: u32 },
    #[error("{ours} migrations of ours are under way, {slots} slots are ours")]
    NoSlot { ours: u32, slots: u32 },
    #[error("policy {policy} has {migrations} migrations, {allowed} are allowed")]
    PolicyLimit { policy: PolicyName, migrations: u32, allowed: u32 },
    #[error("{begun} moves were begun within the hour, {allowed} are allowed")]
    HourSpent { begun: usize, allowed: u32 },

    #[error("{node} would own {vcpus} vCPUs with VM {vm}, it has {cores} cores")]
    TooFewCores { node: NodeName, vm: VmKey, vcpus: u64, cores: u64 },

    #[error("shared node {node} has {migrations} migrations, {allowed} are allowed")]
    NodeLimit { node: NodeName, migrations: u32, allowed: u32 },
    #[error("{outbound} migrations leave {node}, KubeVirt runs {allowed}")]
    OutboundLimit { node: NodeName, outbound: u32, allowed: u32 },

    #[error("post-copy is not allowed for VM {vm}")]
    NoPostCopy { vm: VmKey },
    #[error("migration {migration} runs by post-copy or may")]
    MayHaveSwitched { migration: MigrationName },
    #[error("{node} is an end of post-copy migration {migration}")]
    EndOfPostCopy { node: NodeName, migration: MigrationName },

    #[error("the picture is not complete: {why}")]
    Incomplete { why: String },
    #[error("KubeVirt can't be asked: {problem:?}")]
    KubeVirt { problem: KubeVirtProblem },
    #[error("VM {vm} has no fresh sample")]
    VmUnmeasured { vm: VmKey },
    #[error("node {node} has no fresh sample")]
    NodeUnmeasured { node: NodeName },
    #[error("source node {node} or its virt-handler does not answer")]
    SourceSilent { node: NodeName },
    #[error("source node {node} is not in the cluster")]
    NoSource { node: NodeName },
    #[error("VM {vm} is not known for the whole admission window")]
    ShortlyKnown { vm: VmKey },
    #[error("the load that {node} would carry is not known")]
    LoadUnknown { node: NodeName },
    #[error("{}: its window is not full of fresh samples", reason.name())]
    WindowNotFull { reason: MoveKind },

    #[error("node {node} is not in the cluster")]
    NothingToWake { node: NodeName },
    #[error("node {node} is quarantined: it failed to wake")]
    Quarantined { node: NodeName },
    #[error("pod {pod} waits for a node that this plan suspends")]
    PodWaits { pod: PodKey },

    #[error("paused: {by}")]
    Paused { by: String },
    #[error("held: {by}")]
    Held { by: String },
    #[error("KubeVirt is being rolled out")]
    RollingOut,
    #[error("policy {policy} holds: {why}")]
    PolicyHolds { policy: PolicyName, why: String },
    #[error("policy {policy} waits for a backup: {of}")]
    Backup { policy: PolicyName, of: String },
    #[error("{rival} spreads what policy {policy} packs")]
    Rival { policy: PolicyName, rival: String },
    #[error("policy {policy} is outside its schedule")]
    OutsideSchedule { policy: PolicyName },

    #[error("there is no policy {policy}")]
    NoPolicy { policy: PolicyName },
    #[error("policy {policy} is invalid: {problem}")]
    InvalidPolicy { policy: PolicyName, problem: String },
    #[error("policy {policy} is off")]
    PolicyOff { policy: PolicyName },
    #[error("no class selects node {node}")]
    NoClass { node: NodeName },
    #[error("node {node} is selected by several classes: {classes:?}")]
    SeveralClasses { node: NodeName, classes: Vec<ClassName> },
    #[error("class {class} is invalid: {problem}")]
    InvalidClass { class: ClassName, problem: String },
    #[error("policy {policy} does not rule node {node}")]
    NotRuled { policy: PolicyName, node: NodeName },
    #[error("policy {policy} does not select VM {vm}")]
    NotSelected { policy: PolicyName, vm: VmKey },
    #[error("migration {migration} is not in the namespace of its VM")]
    WrongNamespace { migration: MigrationName },
    #[error("the name {migration} is taken")]
    NameTaken { migration: MigrationName },
    #[error("a move for {} goes from a {from:?} to a {to:?} node", reason.name())]
    WrongWay { reason: MoveKind, from: Role, to: Role },
    #[error("{}: {claimed} is claimed, {measured} was measured", reason.name())]
    WrongLoad { reason: MoveKind, claimed: Percent, measured: Percent },
    #[error("{}: {measured} does not reach the threshold {threshold}", reason.name())]
    NotReached { reason: MoveKind, measured: Percent, threshold: Percent },
    #[error("{}: threshold {claimed} is claimed, {declared} is declared", reason.name())]
    WrongThreshold { reason: MoveKind, claimed: Percent, declared: Percent },
    #[error("there is no migration {migration} with uid {uid}")]
    NoMigration { migration: MigrationName, uid: Uid },
    #[error("migration {migration} is not ours to abort")]
    NotOurs { migration: MigrationName },
    #[error("migration {migration} is over")]
    Over { migration: MigrationName },
}

/// Why a target does not take a VM.
#[derive(Debug, Clone, PartialEq, Error)]
#[allow(missing_docs, reason = "the fields are named by the sentences")]
pub enum NoFit {
    #[error("its constraint {field} is not understood")]
    Unsupported { field: String },
    #[error("{0}")]
    Misfit(Misfit),
    #[error("it is the source")]
    IsSource,
    #[error("the node is not usable ({power:?}, ready: {ready})")]
    NotUsable { power: PowerState, ready: bool },
    #[error("the node is suspended by this plan")]
    Suspended,
    #[error("the node is under maintenance: {what}")]
    Maintenance { what: String },
    #[error("it would leave its {key}")]
    Leaves { key: String },
    #[error("class {class} allows {most} VMs")]
    MostVms { class: ClassName, most: u32 },
    #[error("class {class} has no memory left for it")]
    NoMemory { class: ClassName },
}

/// Why a VM is not moved.
#[derive(Debug, Clone, PartialEq, Error)]
#[allow(missing_docs, reason = "the fields are named by the sentences")]
pub enum Immovable {
    #[error("does not run")]
    NotRunning,
    #[error("is not on {node}")]
    Elsewhere { node: NodeName },
    #[error("is not migratable: {reason}")]
    NotMigratable { reason: String },
    #[error("is busy: {activity:?}")]
    Busy { activity: VmActivity },
    #[error("opted out by miyako.dev/consolidate")]
    OptedOut,
    #[error("opted out by descheduler.alpha.kubernetes.io/prefer-no-eviction")]
    PrefersNoEviction,
    #[error("holds a host device")]
    HostDevice,
    #[error("is being moved already")]
    Moving,
    #[error("was moved {ago:?} ago and settles for {settle:?}")]
    Settling { ago: Span, settle: Span },
    #[error("is left alone after {failures} failures")]
    BackingOff { failures: u32 },
    #[error("was moved {today} times within a day, {allowed} are allowed")]
    DaySpent { today: u32, allowed: u32 },
    #[error("was moved {today} times within a day of {allowed}: its return would leave no relief")]
    NoRelief { today: u32, allowed: u32 },
}

fn and(nodes: &[NodeName]) -> String {
    nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(" and ")
}

impl Cause {
    /// The rule that such a step breaks.
    #[must_use]
    pub fn rule(&self) -> Rule {
        match self {
            Self::NoFit { .. } | Self::NoTarget { .. } | Self::OverMargin { .. } | Self::WasOverMargin { .. } => {
                Rule::Placement
            }
            Self::Immovable { .. } | Self::NoVm { .. } => Rule::Movable,
            Self::NoSleeper { .. }
            | Self::Blocked { .. }
            | Self::OldProof { .. }
            | Self::MovedToOrFrom { .. }
            | Self::WokenToo { .. } => Rule::Suspendable,
            Self::TooFewAwake { .. }
            | Self::TooFewSpare { .. }
            | Self::Failover { .. }
            | Self::HealthCheck { .. }
            | Self::EvacuationsWait { .. }
            | Self::NoSlot { .. }
            | Self::PolicyLimit { .. }
            | Self::HourSpent { .. } => Rule::Reserve,
            Self::TooFewCores { .. } => Rule::DedicatedCores,
            Self::NodeLimit { .. } | Self::OutboundLimit { .. } => Rule::NodeTraffic,
            Self::NoPostCopy { .. } | Self::MayHaveSwitched { .. } | Self::EndOfPostCopy { .. } => Rule::PostCopy,
            Self::Incomplete { .. }
            | Self::KubeVirt { .. }
            | Self::VmUnmeasured { .. }
            | Self::NodeUnmeasured { .. }
            | Self::SourceSilent { .. }
            | Self::NoSource { .. }
            | Self::ShortlyKnown { .. }
            | Self::LoadUnknown { .. }
            | Self::WindowNotFull { .. } => Rule::Knowledge,
            Self::NothingToWake { .. } | Self::Quarantined { .. } | Self::PodWaits { .. } => Rule::Pending,
            Self::Paused { .. }
            | Self::Held { .. }
            | Self::RollingOut
            | Self::PolicyHolds { .. }
            | Self::Backup { .. }
            | Self::Rival { .. }
            | Self::OutsideSchedule { .. } => Rule::Standstill,
            Self::NoPolicy { .. }
            | Self::InvalidPolicy { .. }
            | Self::PolicyOff { .. }
            | Self::NoClass { .. }
            | Self::SeveralClasses { .. }
            | Self::InvalidClass { .. }
            | Self::NotRuled { .. }
            | Self::NotSelected { .. }
            | Self::WrongNamespace { .. }
            | Self::NameTaken { .. }
            | Self::WrongWay { .. }
            | Self::WrongLoad { .. }
            | Self::NotReached { .. }
            | Self::WrongThreshold { .. }
            | Self::NoMigration { .. }
            | Self::NotOurs { .. }
            | Self::Over { .. } => Rule::Declared,
        }
    }
}
