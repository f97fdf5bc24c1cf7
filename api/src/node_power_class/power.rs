//! What nodes draw, how long they take to sleep and wake, and what measures it.

#![allow(unreachable_pub, reason = "KubeSchema puts a copy of each struct into the function that makes its schema")]

use super::WakeProtocol;
use crate::{duration::Duration, schema};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a node draws and how long it takes to sleep and wake. The defaults are the measured node of the Energy paper,
/// tables II and III.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = (
    "self.asleepWatts <= self.idleWatts && self.idleWatts <= self.fullWatts",
    "write asleepWatts no higher than idleWatts, and idleWatts no higher than fullWatts"
))]
#[serde(rename_all = "camelCase")]
pub struct Power {
    /// Awake with nothing to do.
    #[serde(default = "idle_watts")]
    #[schemars(range(min = 0, max = 100_000))]
    pub idle_watts: u32,
    /// All cores busy.
    #[serde(default = "full_watts")]
    #[schemars(range(min = 0, max = 100_000))]
    pub full_watts: u32,
    /// Asleep.
    #[serde(default = "asleep_watts")]
    #[schemars(range(min = 0, max = 100_000))]
    pub asleep_watts: u32,
    /// From the order to asleep. By default 5s, and 1m where nodes are switched off (PowerOff).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::transition")]
    pub suspend_time: Option<Duration>,
    /// From the order to usable. By default 5s, and 4m where nodes are switched off (PowerOff): firmware, boot, kubelet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::transition")]
    pub resume_time: Option<Duration>,
    /// What measures what nodes draw. Without a meter, and while it says nothing new or nothing that can be, a node's
    /// watts lie between idleWatts and fullWatts by its load.
    #[serde(default, skip_serializing_if = "Meter::is_unset")]
    pub meter: Meter,
}

/// What measures what nodes draw: one of them, or none.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = (
    "(has(self.rapl) ? 1 : 0) + (has(self.redfish) ? 1 : 0) + (has(self.ipmi) ? 1 : 0) + (has(self.prometheus) ? 1 : 0) <= 1",
    "give one of rapl, redfish, ipmi and prometheus"
))]
#[serde(rename_all = "camelCase")]
pub struct Meter {
    /// The processors' own energy counters, which the nodes' agents read. Asleep a node draws asleepWatts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rapl: Option<RaplMeter>,
    /// The nodes' BMCs by Redfish: those of the wake driver redfish, with its account. The waker reads each about once a
    /// minute. It counts for sleeping nodes too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redfish: Option<BmcMeter>,
    /// The nodes' BMCs by IPMI (DCMI Get Power Reading): those of the wake driver ipmi, with its account. The waker reads
    /// each about once a minute. It counts for sleeping nodes too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipmi: Option<BmcMeter>,
    /// A query to the Prometheus server that the operator asks for load: of a BMC's exporter, or of a metered power
    /// supply. It counts for sleeping nodes too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusMeter>,
}

impl Meter {
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }

    /// The wake driver whose BMC measures, if one does.
    #[must_use]
    pub fn driver(&self) -> Option<WakeProtocol> {
        match (&self.redfish, &self.ipmi) {
            (Some(_), _) => Some(WakeProtocol::Redfish),
            (None, Some(_)) => Some(WakeProtocol::Ipmi),
            (None, None) => None,
        }
    }
}

/// The processors' energy counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RaplMeter {
    /// What the machine draws besides its processors and their memory: disks, fans, the power supply's loss.
    #[schemars(range(min = 0, max = 100_000))]
    pub besides_watts: u32,
}

/// What the BMCs measure. There is nothing to set: write {}.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BmcMeter {}

/// A query to Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusMeter {
    /// Watts, one series for each node, such as: sum by (node) (redfish_chassis_power_powersupply_power_input_watts).
    #[schemars(length(min = 1, max = 2048))]
    pub query: String,
    /// The label that carries the node's name.
    #[serde(default = "node_label")]
    #[schemars(length(min = 1, max = 253))]
    pub node_label: String,
}

fn node_label() -> String {
    "node".to_owned()
}

impl Default for Power {
    fn default() -> Self {
        Self {
            idle_watts: idle_watts(),
            full_watts: full_watts(),
            asleep_watts: asleep_watts(),
            suspend_time: None,
            resume_time: None,
            meter: Meter::default(),
        }
    }
}

fn idle_watts() -> u32 {
    53
}

fn full_watts() -> u32 {
    100
}

fn asleep_watts() -> u32 {
    7
}
