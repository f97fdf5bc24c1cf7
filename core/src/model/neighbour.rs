//! Programs of others that manage nodes, as far as they keep one from sleeping.

use super::Name;
use serde::{Deserialize, Serialize};

/// A program of somebody else's that does not let a node sleep, and for what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
pub enum Neighbour {
    /// Metal3 turns on whatever its host says is to be on.
    #[error("Metal3 would turn its machine on: BareMetalHost {host} says spec.online")]
    Metal3 {
        /// The BareMetalHost: namespace and name.
        host: Name,
    },
    /// OpenShift's machine-config operator changes few nodes at once, and counts a sleeping node among these.
    #[error("MachineConfigPool {pool} rolls a configuration out, and a sleeping node holds that up")]
    MachineConfigPool {
        /// The pool.
        pool: Name,
    },
    /// The cluster autoscaler takes a sleeping node for one that is broken, and removes it after 20 minutes.
    #[error("the cluster autoscaler (pod {pod}) would remove it as unready while it sleeps")]
    ClusterAutoscaler {
        /// A pod of it: namespace and name.
        pod: Name,
    },
    /// Karpenter removes nodes of its own that nothing runs on.
    #[error("Karpenter's NodePool {pool} made it, and would remove it as empty")]
    Karpenter {
        /// The NodePool.
        pool: Name,
    },
}

impl Neighbour {
    /// Its name among the blockers: the same for all nodes that it concerns.
    #[must_use]
    pub fn category(&self) -> String {
        match self {
            Self::Metal3 { .. } => "powered by Metal3".to_owned(),
            Self::MachineConfigPool { pool } => format!("rollout of MachineConfigPool {pool}"),
            Self::ClusterAutoscaler { .. } => "removed by the cluster autoscaler".to_owned(),
            Self::Karpenter { .. } => "removed by Karpenter".to_owned(),
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::Metal3 { host } => format!(
                "let Metal3 leave the machine's power alone: annotate BareMetalHost {host} with \
                 baremetalhost.metal3.io/detached=\"\", or leave the node out of the class"
            ),
            Self::MachineConfigPool { pool } => format!(
                "nothing; its nodes can sleep when the rollout is over. If it is stuck, see `oc describe mcp {pool}`"
            ),
            Self::ClusterAutoscaler { .. } => {
                "annotate nodes that may sleep with cluster-autoscaler.kubernetes.io/scale-down-disabled: \"true\", or \
                 start the cluster autoscaler with --scale-down-unready-enabled=false"
                    .to_owned()
            }
            Self::Karpenter { .. } => "annotate nodes that may sleep with karpenter.sh/do-not-disrupt: \"true\", or \
                 leave nodes that Karpenter makes out of the class"
                .to_owned(),
        }
    }
}
