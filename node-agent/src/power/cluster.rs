//! What the agent reads and writes in the cluster, behind a trait; [`super::KubeCluster`] is the real one.

use miyako_api::node_power::{AgentStatus, NodePower};
use std::{future::Future, time::Duration};

/// The agent's part of the cluster. Every read is answered by the API server itself, never by a cache.
pub trait Cluster: Send + Sync + 'static {
    /// The NodePower of this node.
    fn node_power(&self) -> impl Future<Output = Result<Option<NodePower>, ClusterError>> + Send;

    /// What the cluster knows of this node that keeps it awake.
    fn in_the_way(&self) -> impl Future<Output = Result<InTheWay, ClusterError>> + Send;

    /// Replaces `status.agent`, provided that nobody has changed the object since it was `seen`. Gives it as it is
    /// then.
    fn report(
        &self,
        seen: &NodePower,
        agent: &AgentStatus,
    ) -> impl Future<Output = Result<NodePower, ClusterError>> + Send;

    /// Gives KubeVirt the heartbeat of this node that its virt-handler can't give yet.
    fn renew_heartbeat(&self, now: i64) -> impl Future<Output = Result<Heartbeat, ClusterError>> + Send;

    /// Forgets connections: after a sleep, nobody is left at their other ends.
    fn reconnect(&self);
}

/// What keeps a node awake. The operator has judged it before (`SPECIFICATION.md`, rule 3); this is the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InTheWay {
    /// The label, taint or static pod by which the node belongs to the control plane. Such a machine never sleeps,
    /// whoever orders it.
    pub control_plane: Option<String>,
    /// Pods of this node (`namespace/name`) that do not belong to it alone: neither finished, nor static, nor a
    /// DaemonSet's. Which static pods and DaemonSets may sleep the operator has judged.
    pub pods: Vec<String>,
}

/// How KubeVirt's heartbeat stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heartbeat {
    /// KubeVirt calls the node schedulable.
    Fresh,
    /// No virt-handler has ever run here.
    NoKubeVirt,
    /// virt-handler is not ready: a heartbeat would be a lie.
    NotYet(String),
}

/// The cluster did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Somebody else was faster: look again.
    #[error("{what}: the object was changed meanwhile")]
    Conflict {
        /// What was asked.
        what: &'static str,
    },
    /// No answer.
    #[error("{what}: no answer within {} s", .limit.as_secs())]
    TimedOut {
        /// What was asked.
        what: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// The API server refused, or can't be reached.
    #[error("{what}: {source}")]
    Kube {
        /// What was asked.
        what: &'static str,
        /// Why.
        source: Box<kube::Error>,
    },
}
