//! The node's power: obeys the operator's orders to sleep, at most once each, and looks after the node when it wakes.
//!
//! * [`order`]: what to do about an order (pure).
//! * [`preflight`]: what keeps a machine from sleeping (pure).
//! * [`record`]: what `status.agent` says, and what follows from it (pure).
//! * [`sleep`]: one sleep, in the order of calls that the kernel asks for.
//! * [`agent`]: one look at the order and what follows.
//! * [`Host`] is the machine ([`LinuxHost`], [`SimulatedHost`]), [`Cluster`] the API server ([`KubeCluster`]).
//!
//! **Architecture invariant**: nothing here decides that a node should sleep. The agent carries out an order that it
//! has acknowledged, and refuses where it sees what the operator can't.

pub mod agent;
mod cluster;
mod heartbeat;
mod host;
mod kubernetes;
mod linux;
mod merge_patch;
pub mod order;
pub mod preflight;
pub mod record;
mod run;
mod simulated;
pub mod sleep;
#[cfg(test)]
mod tests;

pub use agent::{Look, LookError, PowerAgent};
pub use cluster::{Cluster, ClusterError, Heartbeat, InTheWay};
pub use host::{Host, HostError, Machine};
pub use kubernetes::{Connect, KubeCluster};
pub use linux::{KubeletProbe, LinuxHost};
pub use run::run;
pub use simulated::{Mem, SimulatedHost};

use crate::stream::SampleLog;
use preflight::WakeSource;
use std::time::Duration;

/// What the agent must be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of this Node.
    pub node: String,
    /// What the node must bring along to be woken.
    pub wake_source: WakeSource,
    /// After this time the machine's clock wakes it, whatever the order says; at most [`order::LONGEST_ALARM`].
    pub longest_sleep: Duration,
    /// The samples that this agent sends, for orders that quote one; none where it sends none.
    pub samples: Option<SampleLog>,
    /// The agent's version.
    pub version: &'static str,
}
