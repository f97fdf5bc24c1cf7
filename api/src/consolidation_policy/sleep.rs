//! When empty nodes sleep.

use crate::{duration::Duration, schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When empty nodes sleep, and how many at a time. What is unset follows the profile. No node sleeps by policy before
/// it has shown in a wake test that it wakes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sleep {
    /// How long nothing must have kept a node awake. Reactive: 30s, Conservative: 10m; never less than it takes until a
    /// sleep saves more than falling asleep and waking cost, by the power figures of the node's class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::window")]
    pub after: Option<Duration>,
    /// How long a node stays awake after it woke. Reactive: 1m, Conservative: 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::window")]
    pub least_awake: Option<Duration>,
    /// A node whose last sleep was shorter waits four times as long before the next. Reactive: 1m, Conservative: 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::window")]
    pub least_asleep: Option<Duration>,
    /// Suspends begun within an hour; unlimited by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub suspends_per_hour: Option<u32>,
    /// Nodes of one rack that are woken within a minute, so that their inrush trips no breaker.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1000))]
    pub wakes_per_rack_per_minute: u32,
    /// The node label whose value is the rack; nodes without it are one rack.
    #[serde(default = "rack")]
    #[schemars(schema_with = "schema::topology_key")]
    pub rack: String,
}

impl Default for Sleep {
    fn default() -> Self {
        Self {
            after: None,
            least_awake: None,
            least_asleep: None,
            suspends_per_hour: None,
            wakes_per_rack_per_minute: ten(),
            rack: rack(),
        }
    }
}

impl Sleep {
    pub(super) fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

fn ten() -> u32 {
    10
}

fn rack() -> String {
    "topology.kubernetes.io/rack".to_owned()
}
