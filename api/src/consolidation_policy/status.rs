//! What a policy's status tells.

use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a policy is doing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsolidationPolicyStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Degraded, Paused, Held, LoadKnown, Conflict, SleepersCounted, NodesStuck.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The nodes it rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,
    /// The VMs it rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms: Option<VmCounts>,
    /// What keeps nodes awake, the most nodes first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub blockers: Vec<Blocker>,
    /// The first of the blockers in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub top_blocker: Option<String>,
    /// Where load comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadStatus>,
    /// The last decision that did, or would have done, something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<LastDecision>,
    /// Someone said `miyako pause`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Why it holds, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub held: Option<String>,
    /// People's switches while one is on: they stay on when their ConfigMap is deleted, until `miyako resume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switches: Option<SwitchesOn>,
    /// What holds it, its VMs or its nodes, the oldest first: evacuations, rollouts, upgrades, backups. Also what tells a
    /// restarted operator since when they last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub holds: Vec<Hold>,
    /// What the nodes that it rules now drew and saved since their NodePowers exist. Written with other news, and every
    /// five minutes while nodes sleep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Energy>,
}

/// Which switches are on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SwitchesOn {
    /// Who paused, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub paused: Option<String>,
    /// Who holds everything awake, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub held: Option<String>,
    /// The uid of the ConfigMap that they were turned on in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub config_map_uid: Option<String>,
}

/// Something that holds a policy, its VMs or its nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// What holds: Evacuation, KubeVirtRollout, ClusterUpgrade or Backup.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// What tells it from others of its kind, and from itself before it last made progress.
    #[schemars(length(max = 512))]
    pub key: String,
    /// Since when it lasts, or has made no progress.
    pub since: Time,
    /// It holds the whole policy. Where it is false, it holds only the VM or the nodes that it concerns.
    #[serde(default)]
    pub holds_all: bool,
    /// It has lasted longer than such a thing takes.
    #[serde(default)]
    pub overdue: bool,
    /// Whom it concerns, what is seen, and what ends it.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Energy of several nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Energy {
    /// What they drew, in joules.
    #[schemars(range(min = 0))]
    pub used_joules: i64,
    /// What they would have drawn had none ever slept, less what they drew. Negative where nodes draw more asleep than
    /// their class says they do idle.
    pub saved_joules: i64,
    /// The same for people.
    #[schemars(length(max = 64))]
    pub saved: String,
}

/// Nodes of a policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Awake.
    pub awake: u32,
    /// Asleep.
    pub asleep: u32,
    /// Awake, and nothing keeps them so.
    pub can_sleep: u32,
    /// In a class with role Shared.
    pub shared: u32,
    /// In a class with role Dedicated.
    pub dedicated: u32,
}

/// VMs of a policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VmCounts {
    /// Selected, on nodes of the policy.
    pub ruled: u32,
    /// Being moved.
    pub moving: u32,
    /// Left alone because KubeVirt can't migrate them.
    pub not_migratable: u32,
    /// Left alone because of a constraint that Miyako does not understand.
    pub unsupported: u32,
    /// Left alone because someone said so.
    pub opted_out: u32,
    /// Without a load that is new enough.
    pub load_unknown: u32,
}

/// Something that keeps nodes awake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Blocker {
    /// Its name.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// How many nodes it keeps awake.
    pub nodes: u32,
    /// Some of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), inner(length(max = 253)), extend("x-kubernetes-list-type" = "atomic"))]
    pub example: Vec<String>,
    /// What it is and what to do about it.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Where load comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadStatus {
    /// Who reports it.
    pub source: LoadSource,
    /// The window that overload is really averaged over, in seconds: Prometheus can't see shorter ones than four
    /// scrape intervals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overload_window_seconds: Option<u32>,
    /// The window that idling is really averaged over, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_window_seconds: Option<u32>,
}

/// Who reports load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadSource {
    /// Miyako's agents.
    Agents,
    /// A Prometheus server.
    Prometheus,
    /// Nobody.
    None,
}

/// A decision in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastDecision {
    /// When.
    pub at: Time,
    /// The ConsolidationPlan.
    #[schemars(length(max = 253))]
    pub plan: String,
    /// What and why.
    #[schemars(length(max = 1024))]
    pub message: String,
}
