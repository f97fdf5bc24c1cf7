//! What kube-scheduler (1.36, default plugins) would answer about one pod and one node.
//!
//! The hard filters are here, in the scheduler's order: NodeUnschedulable, TaintToleration, NodeAffinity, NodePorts,
//! NodeResourcesFit, NodeVolumeLimits, volume topology, PodTopologySpread and InterPodAffinity; and before them what KubeVirt and the
//! API server add: a target never goes to the node it leaves, and the namespace's quotas must allow one more pod. One
//! thing is ours alone: a guest that sees its host's own processor goes to an equal one only.
//! Scores are not modelled, because a target carries the one node that we chose.
//!
//! Ask as the scheduler does: first once for the pod ([`Occupancy::probe`], its `PreFilter`), then for each node
//! ([`Probe::fits`], its `Filter`). Only pods with constraints on other pods pay for them.
//!
//! A planned move is added to the [`Occupancy`] as one more pod on the target while the source keeps its own: during
//! a live migration both launcher pods exist.

mod by_label;
mod cpu;
mod filters;
mod misfit;
mod node_use;
mod occupancy;
mod probe;
mod quota;
mod whereabouts;

pub use cpu::{OF_PEOPLE as CPU_LABEL, identity as cpu_identity};
pub use filters::{Moment, goes_by_itself};
pub use misfit::Misfit;
pub use node_use::NodeUse;
pub use occupancy::{Mark, Occupancy};
pub use probe::Probe;
pub(crate) use whereabouts::{NodeNumbers, Resident, Whereabouts};

use crate::model::{Labels, Name, Node, NodeName, Pod, Scheduling, Vm};

/// A pod that looks for a node.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The namespace it is in.
    pub namespace: &'a Name,
    /// Its labels, which other pods' constraints see.
    pub labels: &'a Labels,
    /// Its own constraints.
    pub scheduling: &'a Scheduling,
    /// The node it must not go to: the source of a live migration (KubeVirt keeps the target off it by an
    /// anti-affinity on `kubevirt.io/created-by`).
    pub leaves: Option<&'a NodeName>,
    /// The VM whose launcher it is.
    pub vm: Option<&'a Vm>,
}

impl<'a> Candidate<'a> {
    /// The target launcher of a VM's next live migration.
    #[must_use]
    pub fn target_of(vm: &'a Vm) -> Self {
        Self { leaves: vm.node.as_ref(), ..Self::restart_of(vm) }
    }

    /// The launcher of a VM that is started again after its node was lost.
    #[must_use]
    pub fn restart_of(vm: &'a Vm) -> Self {
        Self {
            namespace: &vm.key.namespace,
            labels: &vm.launcher_labels,
            scheduling: &vm.target,
            leaves: None,
            vm: Some(vm),
        }
    }

    /// A pod as it is.
    #[must_use]
    pub fn pod(pod: &'a Pod) -> Self {
        Self { namespace: &pod.key.namespace, labels: &pod.labels, scheduling: &pod.scheduling, leaves: None, vm: None }
    }
}

/// Whether one pod fits one node now. To ask about several nodes, keep the [`Probe`].
///
/// # Errors
/// The first reason why it does not fit, in the scheduler's order.
pub fn fits(candidate: Candidate<'_>, node: &Node, occupancy: &Occupancy<'_>) -> Result<(), Misfit> {
    let probe = occupancy.probe(candidate);
    probe.quota()?;
    probe.fits(&node.name, Moment::Now)
}

#[cfg(test)]
mod tests;
