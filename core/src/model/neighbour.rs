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
}

impl Neighbour {
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
        }
    }
}
