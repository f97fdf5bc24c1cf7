//! ConsolidationPolicy (`cpol`): what people want. Nothing of ours ever writes its spec.

#![allow(unreachable_pub, reason = "KubeSchema puts a copy of each struct into the function that makes its schema")]
#![allow(clippy::duplicated_attributes, reason = "two columns may be of the same type")]

mod sleep;
mod status;

pub use sleep::Sleep;
pub use status::{
    Blocker, ConsolidationPolicyStatus, Energy, Hold, LastDecision, LoadSource, LoadStatus, NodeCounts, SwitchesOn,
    VmCounts,
};

use crate::{duration::Duration, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which VMs are packed onto which nodes, when, and how far that may disturb them.
///
/// The smallest useful policy names its classes; everything else has a default.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "miyako.dev",
    version = "v1alpha1",
    kind = "ConsolidationPolicy",
    plural = "consolidationpolicies",
    shortname = "cpol",
    category = "miyako",
    status = "ConsolidationPolicyStatus",
    derive = "PartialEq",
    doc = "What is to be consolidated: which VMs, on which nodes, when, and how far that may disturb them.",
    validation = (
        "size(self.metadata.name) <= 63",
        "give the policy a name of at most 63 characters: it becomes the value of a label"
    ),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Awake", type_ = "integer", json_path = ".status.nodes.awake"),
    printcolumn(name = "Asleep", type_ = "integer", json_path = ".status.nodes.asleep"),
    printcolumn(name = "Can sleep", type_ = "integer", json_path = ".status.nodes.canSleep"),
    printcolumn(name = "Top blocker", type_ = "string", json_path = ".status.topBlocker"),
    printcolumn(name = "Held", type_ = "string", json_path = ".status.held"),
    printcolumn(name = "Saved", type_ = "string", json_path = ".status.energy.saved"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ConsolidationPolicySpec {
    /// Whether the policy acts: "Off" (in quotes, because YAML reads a bare Off as false) does nothing, Recommend writes
    /// ConsolidationPlans that wait for approval, Automatic
    /// carries them out.
    #[serde(default)]
    pub mode: Mode,
    /// Of two policies that name the same class the one with the higher priority rules it, then the one whose name
    /// comes first.
    #[serde(default)]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub priority: i32,
    /// The NodePowerClasses whose nodes this policy rules.
    #[schemars(schema_with = "schema::names")]
    pub node_classes: Vec<String>,
    /// The VMs it may move; all on its nodes by default.
    #[serde(default, skip_serializing_if = "VirtualMachines::is_all")]
    pub virtual_machines: VirtualMachines,
    /// Where unset thresholds, windows and budgets come from: Conservative thinks in minutes (overloaded for 5m, idle
    /// for 30m, three moves per VM and day), Reactive in seconds (the values of the papers Miyako builds on).
    #[serde(default)]
    pub profile: Profile,
    /// How the destination of a VM is decided.
    #[serde(default)]
    pub strategy: Strategy,
    /// Which dedicated node takes a busy VM first: MostDense is the one with the fewest empty cores that still suffice
    /// (Reactive Cloud, section 3.3.2), which keeps others empty; LeastDense the one with the most; Random any.
    #[serde(default)]
    pub destination_order: DestinationOrder,
    /// Node labels whose value a VM may not leave when it moves: a zone, a rack, a licence pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::topology_keys")]
    pub stay_within: Vec<String>,
    /// When nodes count as overloaded and VMs as idle.
    #[serde(default, skip_serializing_if = "Thresholds::is_unset")]
    pub thresholds: Thresholds,
    /// How VMs are moved.
    #[serde(default)]
    pub migration: Migration,
    /// How much the policy may disturb.
    #[serde(default)]
    pub budgets: Budgets,
    /// Nodes kept awake and empty in advance.
    #[serde(default)]
    pub spare: Spare,
    /// When empty nodes sleep.
    #[serde(default, skip_serializing_if = "Sleep::is_unset")]
    pub sleep: Sleep,
    /// Failures that the awake nodes must be able to take.
    #[serde(default)]
    pub keep_awake: KeepAwake,
    /// Nodes that stay awake whatever happens.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10_000))]
    pub min_awake: u32,
    /// When the policy may act; always, if none is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub schedules: Vec<Schedule>,
    /// What makes the policy hold: it moves nothing while one of these runs.
    #[serde(default = "HoldReason::all")]
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub hold_when: Vec<HoldReason>,
    /// How long a proposal waits for approval before it expires.
    #[serde(rename = "planTTL", default = "an_hour")]
    #[schemars(schema_with = "schema::stretch")]
    pub plan_ttl: Duration,
}

impl ConsolidationPolicySpec {
    /// A policy over these classes with every default.
    #[must_use]
    pub fn over(classes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            mode: Mode::default(),
            priority: 0,
            node_classes: classes.into_iter().map(Into::into).collect(),
            virtual_machines: VirtualMachines::default(),
            profile: Profile::default(),
            strategy: Strategy::default(),
            destination_order: DestinationOrder::default(),
            stay_within: Vec::new(),
            thresholds: Thresholds::default(),
            migration: Migration::default(),
            budgets: Budgets::default(),
            spare: Spare::default(),
            sleep: Sleep::default(),
            keep_awake: KeepAwake::default(),
            min_awake: one(),
            schedules: Vec::new(),
            hold_when: HoldReason::all(),
            plan_ttl: an_hour(),
        }
    }
}

fn one() -> u32 {
    1
}

fn two() -> u32 {
    2
}

fn an_hour() -> Duration {
    Duration::from("1h")
}

fn zone() -> String {
    crate::names::kubernetes::ZONE.to_owned()
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Whether a policy acts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Does nothing.
    Off,
    /// Proposes, and waits for approval.
    #[default]
    Recommend,
    /// Acts.
    Automatic,
}

/// Where unset values come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Profile {
    /// Minutes.
    #[default]
    Conservative,
    /// Seconds: the papers' values.
    Reactive,
}

/// How destinations are decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// One VM at a time, as soon as its node is overloaded or it idles (Reactive Cloud, section 3.3.2).
    #[default]
    Reactive,
}

/// Which dedicated node comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DestinationOrder {
    /// The fewest empty cores that still suffice.
    #[default]
    MostDense,
    /// The most empty cores.
    LeastDense,
    /// Any.
    Random,
}

/// What makes a policy hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum HoldReason {
    /// Kubelets of different versions: the cluster is being upgraded.
    ClusterUpgrade,
    /// KubeVirt is being upgraded, or virt-handler rolled out.
    KubeVirtUpgrade,
    /// A VM of the policy is being backed up.
    Backup,
}

impl HoldReason {
    /// All of them: the default.
    #[must_use]
    pub fn all() -> Vec<Self> {
        vec![Self::ClusterUpgrade, Self::KubeVirtUpgrade, Self::Backup]
    }
}

/// Which VMs a policy may move.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachines {
    /// By labels of the VirtualMachineInstance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,
    /// By labels of its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub namespace_selector: Option<LabelSelector>,
}

impl VirtualMachines {
    fn is_all(&self) -> bool {
        self.selector.is_none() && self.namespace_selector.is_none()
    }
}

/// When nodes count as overloaded and VMs as idle. What is unset follows the profile.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = (
        "!has(self.idlePercent) || !has(self.admissionPercent) || self.idlePercent < self.admissionPercent",
        "write an idlePercent below admissionPercent, or an idle VM would find no shared node that takes it"
    ),
    validation = (
        "!has(self.admissionPercent) || !has(self.overloadPercent) || self.admissionPercent < self.overloadPercent",
        "write an admissionPercent below overloadPercent, or the VM that came would be the one that must leave again"
    ),
    validation = (
        "!has(self.idlePercent) || !has(self.overloadPercent) || self.idlePercent < self.overloadPercent",
        "write an idlePercent below overloadPercent"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Thresholds {
    /// A shared node at this share of its CPUs is overloaded. Both profiles: 90 (Reactive Cloud, section 5.2.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub overload_percent: Option<u32>,
    /// A VM on a dedicated node below this share of its vCPUs is idle. Both profiles: 50 (Reactive Cloud, section
    /// 5.2.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub idle_percent: Option<u32>,
    /// A shared node takes a VM only if its load stays below this share. Both profiles: 75, a margin below the overload
    /// threshold that spares round trips (Reactive Cloud, section 5.2.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub admission_percent: Option<u32>,
    /// How far a shared node and a VM that would return to it are looked back on: minute by minute, what all VMs there
    /// and the one used together must have stayed below admissionPercent, in 95 of 100 minutes. A VM whose load is not
    /// known for so long does not return. Up to 1m the averages of the moment alone count (Reactive Cloud). Both
    /// profiles: 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::window")]
    pub admission_window: Option<Duration>,
    /// How long a node must be overloaded, on average. Reactive: 5s (Reactive Cloud, section 5.2.3), Conservative: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::window")]
    pub overload_window: Option<Duration>,
    /// How long a VM must idle, on average. Reactive: 5s (Reactive Cloud, section 5.2.3), Conservative: 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::window")]
    pub idle_window: Option<Duration>,
    /// How long a VM stays after its last migration ended. Reactive: 20s (Reactive Cloud, section 5.2.4),
    /// Conservative: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::window")]
    pub settle: Option<Duration>,
}

impl Thresholds {
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// How VMs are moved.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = (
    "self.mode != 'PostCopy' || !has(self.postCopy) || self.postCopy != 'Never'",
    "mode PostCopy needs post-copy: write postCopy OptIn or Allow, or mode PreCopy"
))]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    /// Auto relieves an overload by post-copy where that is allowed, and returns idle VMs by pre-copy; PostCopy and
    /// PreCopy do only that.
    #[serde(default)]
    pub mode: MigrationChoice,
    /// Whether post-copy may be used: a post-copy migration that fails loses the VM. Never; OptIn on VMs labelled
    /// miyako.dev/post-copy=allow; Allow on all but those labelled never. Conservative: OptIn, Reactive: Allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_copy: Option<PostCopyUse>,
}

/// How VMs are moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MigrationChoice {
    /// By what the move is for.
    #[default]
    Auto,
    /// Post-copy only.
    PostCopy,
    /// Pre-copy only.
    PreCopy,
}

/// Whether post-copy may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PostCopyUse {
    /// On no VM.
    Never,
    /// On VMs that say so.
    OptIn,
    /// On VMs that do not forbid it.
    Allow,
}

/// How much a policy may disturb.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = (
    "!has(self.movesPerVMPerDay) || self.movesPerVMPerDay < 12",
    "write a movesPerVMPerDay of 0 to 11: KubeVirt's alert KubeVirtVMIExcessiveMigrations fires at 12"
))]
#[serde(rename_all = "camelCase")]
pub struct Budgets {
    /// Moves of one VM within 24 hours, of which the last is kept for a relief: a VM returns only while two are left.
    /// Conservative: 3, Reactive: 10; at most 11, because KubeVirt's own alert fires at 12.
    #[serde(rename = "movesPerVMPerDay", default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub moves_per_vm_per_day: Option<u32>,
    /// Migrations of this policy at once; by default KubeVirt's own limit less reservedMigrations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub concurrent_migrations: Option<u32>,
    /// Migrations into or out of one shared node at once. One, so that each decision sees the effect of the last
    /// (Reactive Cloud, section 3.3.2).
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16))]
    pub concurrent_per_shared_node: u32,
    /// How many of KubeVirt's migration slots are left to evacuations, upgrades and people. At least one is used
    /// whatever this says.
    #[serde(default = "two")]
    #[schemars(range(min = 0, max = 1000))]
    pub reserved_migrations: u32,
    /// Moves begun within an hour; unlimited by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub moves_per_hour: Option<u32>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            moves_per_vm_per_day: None,
            concurrent_migrations: None,
            concurrent_per_shared_node: one(),
            reserved_migrations: two(),
            moves_per_hour: None,
        }
    }
}

/// Nodes kept awake and empty in advance.
#[derive(KubeSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = (
    "!has(self.mostDedicatedNodes) || self.mostDedicatedNodes >= self.dedicatedNodes",
    "write a mostDedicatedNodes of at least dedicatedNodes"
))]
#[serde(rename_all = "camelCase")]
pub struct Spare {
    /// Dedicated nodes that are awake and empty, so that a busy VM need not wait for one to wake (Reactive Cloud,
    /// section 5.3).
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub dedicated_nodes: u32,
    /// The most that are kept awake while nodes have to be woken often: one more for every two wakes that a VM or pod
    /// waited for within the last ten minutes. By default twice dedicatedNodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub most_dedicated_nodes: Option<u32>,
}

/// Failures that the awake nodes must be able to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeepAwake {
    /// The VMs of this many nodes must still fit on the awake rest, or nothing more is suspended. With 0 a node that
    /// fails may leave VMs pending until a sleeping node is awake.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100))]
    pub failures: u32,
    /// The node label within one value of which several nodes fail together.
    #[serde(default = "zone")]
    #[schemars(schema_with = "schema::topology_key")]
    pub per: String,
}

impl Default for KeepAwake {
    fn default() -> Self {
        Self { failures: 1, per: zone() }
    }
}

/// A time in which a policy may act.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = (
    "self.cron.matches('^[^ ]+( [^ ]+){4}$')",
    "write cron as five fields (minute, hour, day of month, month, day of week), such as 0 22 * * 1-5"
))]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// What it is called in conditions.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// When it begins: minute, hour, day of month, month, day of week.
    #[schemars(length(min = 1, max = 128))]
    pub cron: String,
    /// How long it lasts.
    #[schemars(schema_with = "schema::stretch")]
    pub duration: Duration,
    /// The IANA time zone that cron is in; UTC unless given.
    // The schema has no default: within a list kubectl would take it for a change each time the same file is applied.
    #[serde(default = "utc")]
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z0-9_+/-]+$"),
        transform = schema::without_default
    )]
    pub time_zone: String,
}
