//! The KubeVirt installation as a whole.

use std::collections::BTreeMap;

/// Why migrations can't be asked of KubeVirt at all.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub enum KubeVirtProblem {
    /// There is no KubeVirt CR.
    Missing,
    /// Older than the first version with `addedNodeSelector`.
    TooOld {
        /// The version found.
        found: String,
    },
    /// Not (yet) deployed.
    NotDeployed {
        /// What the CR's phase says.
        phase: String,
    },
}

/// The KubeVirt installation.
#[derive(Debug, Clone, PartialEq)]
pub struct KubeVirt {
    /// Why it can't be used.
    pub problem: Option<KubeVirtProblem>,
    /// Migrations it runs at once in the cluster (`parallelMigrationsPerCluster`, 5 by default).
    pub parallel_per_cluster: u32,
    /// Migrations it runs at once out of one node (`parallelOutboundMigrationsPerNode`, 2 by default).
    pub outbound_per_node: u32,
    /// virt-handler is being rolled out, or KubeVirt upgraded (rule 10).
    pub rolling_out: bool,
    /// Node labels that every launcher asks for (`developerConfiguration.nodeSelectors`).
    pub node_selectors: BTreeMap<String, String>,
    /// vCPUs for which a launcher requests one CPU (`developerConfiguration.cpuAllocationRatio`, 10 by default).
    pub cpu_allocation_ratio: u32,
}

impl Default for KubeVirt {
    /// KubeVirt's own defaults (`docs/design/0001-kubevirt-facts.md`, "Limits").
    fn default() -> Self {
        Self {
            problem: None,
            parallel_per_cluster: 5,
            outbound_per_node: 2,
            rolling_out: false,
            node_selectors: BTreeMap::new(),
            cpu_allocation_ratio: 10,
        }
    }
}

impl std::fmt::Display for KubeVirtProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => write!(f, "KubeVirt is not installed; version 1.6 or later is needed"),
            Self::TooOld { found } => {
                write!(f, "KubeVirt {found} is too old: version 1.6 is the first that lets a migration name its target")
            }
            Self::NotDeployed { phase } => write!(f, "KubeVirt is not deployed yet (phase {phase})"),
        }
    }
}
