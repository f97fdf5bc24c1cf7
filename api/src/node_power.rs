//! NodePower (`np`), named as its node: the operator's order in `spec`, the node's answer in `status.agent`, and what
//! the operator makes of both in the rest of `status`.

#![allow(clippy::duplicated_attributes, reason = "two columns may be of the same type")]

use crate::node_power_class::SuspendMethod;
use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod recorded_way;

pub use recorded_way::RecordedWay;

/// The operator's order to one node. An order is carried out at most once: the agent acknowledges its generation
/// before it acts and ignores what is expired or acknowledged.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "miyako.dev",
    version = "v1alpha1",
    kind = "NodePower",
    plural = "nodepowers",
    shortname = "np",
    category = "miyako",
    status = "NodePowerStatus",
    derive = "PartialEq",
    doc = "The power of one node: what the operator orders, what its agent answers, and how it is. Written by Miyako alone.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.since"),
    printcolumn(name = "Why awake", type_ = "string", json_path = ".status.whyAwake"),
    printcolumn(name = "Wake test", type_ = "date", json_path = ".status.lastWakeTest.at"),
    printcolumn(name = "Watts", type_ = "integer", json_path = ".status.watts"),
    printcolumn(name = "Joules", type_ = "integer", json_path = ".status.joules", priority = 1),
    printcolumn(name = "Saved", type_ = "integer", json_path = ".status.savedJoules", priority = 1),
    printcolumn(name = "Agent", type_ = "string", json_path = ".status.agent.version", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct NodePowerSpec {
    /// What the node is to be.
    pub desired: DesiredPower,
    /// Grows with every order.
    #[schemars(range(min = 0))]
    pub generation: i64,
    /// When the order was given.
    pub issued_at: Time,
    /// When the order is void unless acknowledged.
    pub expires_at: Time,
    /// Why.
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// The waker that is to wake the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub wake_by: Option<String>,
    /// How it is to sleep, when it is to; in an order to be awake, how it slept or would.
    #[serde(default)]
    pub method: SuspendMethod,
    /// When its own clock is to wake it if nobody does before; the agent's own limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_at: Option<Time>,
    /// A person asked for it: the agent tries again although it stopped trying after failures in a row.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub despite_failures: bool,
    /// The sequence of the newest sample of the node's agent that the operator had when it gave the order. The agent obeys
    /// an order to sleep only if it took that sample at most 10 s ago by a clock of its own that nobody sets, whatever the
    /// operator's clock says. Where it is absent, or the agent sends no samples, the order's dates count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub sample: Option<i64>,
    /// The ways to wake it, as they were when it was last ordered to sleep: written with that order, and kept until the
    /// next one. Whoever wakes it tries what its class says by then, and then these. So it can be woken although its class
    /// was changed or deleted meanwhile, another class selects it too, or it lost a label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "atomic"))]
    pub wake_ways: Vec<RecordedWay>,
}

/// What a node is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum DesiredPower {
    /// Awake.
    Awake,
    /// Suspended.
    Suspended,
}

/// How a node is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePowerStatus {
    /// The generation of the object that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// What the node's own agent says; nobody else writes it, and the agent writes nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentStatus>,
    /// What the waker says of the newest order to be awake or to power off; nobody else writes it, and the waker writes
    /// nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waker: Option<WakerStatus>,
    /// Where it is between awake and asleep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<PowerPhase>,
    /// Since when it is in this phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// What the phase is about, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// What the newest suspend is, or was, for: a ConsolidationPlan or a person's request. No node is ordered to sleep
    /// twice for the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub purpose: Option<String>,
    /// What earlier suspends were for, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 512)), extend("x-kubernetes-list-type" = "atomic"))]
    pub earlier_purposes: Vec<String>,
    /// The generation of the newest order to suspend, noted before it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub suspend_generation: Option<i64>,
    /// The kernel's boot id when it was last ordered to suspend: another one afterwards means a cold boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub boot_id: Option<String>,
    /// Since when it sleeps, or slept before the wake that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asleep_since: Option<Time>,
    /// How long it slept last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub last_sleep_seconds: Option<i64>,
    /// Since when nothing keeps it awake but spare capacity and time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_since: Option<Time>,
    /// What keeps it awake, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub why_awake: Option<String>,
    /// Attempts to sleep, one after the other, that it refused, that did not come about, or that it ended by itself soon.
    /// After a few it is left awake for hours, then for longer; a person's request tries it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restless: Option<RestlessStatus>,
    /// What it drew when this status was last written: with each change of phase, and hourly under a policy that acts.
    /// What it draws now is in the metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub watts: Option<u32>,
    /// Where the watts come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watts_source: Option<WattsSource>,
    /// What it drew since this object exists, as old as the watts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub joules: Option<i64>,
    /// What sleeping saved since this object exists: what the node would have drawn idle in that time, less what it drew.
    /// Negative where it draws more asleep than its class says it does idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_joules: Option<i64>,
    /// The last proof that it can be woken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_wake_test: Option<WakeTest>,
}

/// Attempts to sleep that failed, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestlessStatus {
    /// How many.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub times: u32,
    /// Until when it is left awake; absent while it is still tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// What is known of the last one: the agent's words, or what woke the machine.
    #[schemars(length(max = 512))]
    pub why: String,
}

/// Where watts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum WattsSource {
    /// A meter.
    Measured,
    /// The class's figures and the node's load.
    Modelled,
}

/// Where a node is between awake and asleep.
///
/// ```text
/// Awake ──▶ Emptying ──▶ Suspending ──▶ Suspended ──▶ Waking ──▶ Awake
///   ▲          │             │                          │
///   └──────────┴── aborted ──┘                          └──▶ Quarantined, until it is seen healthy
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum PowerPhase {
    /// Awake.
    Awake,
    /// Its VMs are leaving.
    Emptying,
    /// Cordoned, the order is given.
    Suspending,
    /// Asleep.
    Suspended,
    /// Being woken, not usable yet.
    Waking,
    /// It failed to wake.
    Quarantined,
}

/// What a node's agent says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The newest order it has seen and will not carry out again. Orders to be awake are acknowledged too: a node that
    /// was told not to fall asleep counts as awake only when its agent has seen that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub acknowledged_generation: Option<i64>,
    /// The kernel's boot id: another one means a cold boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub boot_id: Option<String>,
    /// The agent's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
    /// When it last wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
    /// When it last came back from sleep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<Time>,
    /// Why it refused the newest order, or why carrying it out failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub refusal: Option<String>,
    /// The order that it is carrying out: set with the acknowledgement, gone when the outcome is known. While it is set
    /// and the agent is silent, the node sleeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub attempt: Option<i64>,
    /// How many suspends failed in a row. After three the agent refuses orders that are not `despiteFailures`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub suspend_failures: Option<u32>,
    /// How long the machine slept in all since it booted (CLOCK_BOOTTIME − CLOCK_MONOTONIC): when it grew, it slept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub asleep_millis_since_boot: Option<i64>,
    /// What keeps this machine from suspending whatever runs on it, each with what to do about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 512)), extend("x-kubernetes-list-type" = "atomic"))]
    pub obstacles: Vec<String>,
    /// The last time that it slept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sleep: Option<LastSleep>,
}

/// One sleep of a node, as its agent saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastSleep {
    /// The order that it followed; absent when it fell asleep by itself or by a person's hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub generation: Option<i64>,
    /// How it slept.
    pub method: SuspendMethod,
    /// How long it slept; absent when it was off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub seconds: Option<i64>,
    /// What woke it.
    pub woken_by: WokenBy,
    /// What else is known of what woke it: the interrupt and its device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub wake_source: Option<String>,
    /// From the return of user space until the kubelet was healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub kubelet_after_millis: Option<i64>,
    /// From the return of user space until KubeVirt called the node schedulable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub kube_virt_after_millis: Option<i64>,
}

/// What woke a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WokenBy {
    /// Its own clock: nobody woke it in time.
    Alarm,
    /// Not its clock: a waker, a person, a network card.
    Request,
    /// The agent was not there to see.
    Unknown,
}

/// What the waker did about an order to be awake, or saw of one to power off. Its replicas share the work through this:
/// who takes an order up writes it here first, and another replica takes it over when nothing was written for long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WakerStatus {
    /// The order's generation.
    #[schemars(range(min = 0))]
    pub generation: i64,
    /// The person's request that it carries out in place of an order, because no operator answered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub request: Option<String>,
    /// The replica that carries it out.
    #[schemars(length(max = 253))]
    pub by: String,
    /// When it was taken up, or last worked on.
    pub at: Time,
    /// Tries so far, of all drivers.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub attempts: u32,
    /// The driver of the last try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub driver: Option<String>,
    /// How it ended; none while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<WakeOutcome>,
    /// What each driver said and what to check, or how it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// How an order ended, as far as the waker can tell: whether a node is usable, the operator sees for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum WakeOutcome {
    /// A driver says that the machine is on.
    Awake,
    /// The request went out, but no driver can tell what came of it (Wake-on-LAN).
    Sent,
    /// A driver says that the machine is off, as an order to power off has it.
    Off,
    /// Every driver failed: the machine could not be woken, or nobody can say that it is off.
    Failed,
}

/// A proof that a node can be woken, or that it can't.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WakeTest {
    /// When.
    pub at: Time,
    /// It woke.
    pub succeeded: bool,
    /// By which driver, how long it took, or what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}
