//! The cluster as it would be if some nodes slept: what must hold then that no single node shows.

use super::failover::{self, Stranded};
use super::proof::SuspendProof;
use crate::fit::{Candidate, Moment, Occupancy};
use crate::model::{HealthCheck, Name, Node, NodeName, Pod, PodKey, Policy, PowerState, Role, Snapshot};
use crate::plan::draft::Draft;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// Why the cluster as a whole can't spare a node now.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "need")]
pub enum Need {
    /// The VMs of nodes that fail together would not fit on the rest (rule 4).
    Failover(Stranded),
    /// A NodeHealthCheck would count so many sleeping nodes as broken that it repairs none (rule 4).
    HealthCheck {
        /// Its name.
        check: Name,
        /// How many of the nodes it watches would not answer.
        unhealthy: u32,
        /// How many it watches.
        total: u32,
        /// How many of them may sleep.
        most_asleep: u32,
    },
    /// A pending pod could run here and nowhere else (rule 9).
    PendingPod {
        /// The pod.
        pod: PodKey,
    },
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failover(stranded) => write!(f, "{stranded}"),
            Self::HealthCheck { check, unhealthy, total, most_asleep } => write!(
                f,
                "NodeHealthCheck {check} would count {unhealthy} of {total} nodes as unhealthy and repair none if one \
                 more failed: it allows {most_asleep} sleeping nodes; let its spec.selector leave them out \
                 (miyako.dev/power NotIn [asleep])"
            ),
            Self::PendingPod { pod } => write!(f, "pod {pod} is pending, and only this node could take it"),
        }
    }
}

/// Nodes that would sleep, on top of all that this decision moves and that running plans have promised.
pub(super) struct Trial<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) occupancy: Occupancy<'a>,
    pub(super) asleep: BTreeSet<&'a NodeName>,
}

impl<'a> Trial<'a> {
    /// Nothing sleeps yet.
    ///
    /// What merely waits for people is not counted: nobody may ever want it.
    pub(super) fn new(draft: &Draft<'a>) -> Self {
        let snapshot = draft.snapshot;
        let mut occupancy = Occupancy::new(snapshot);
        for &(vm, target) in &draft.promised {
            occupancy.place(Candidate::target_of(vm), target);
        }
        for step in draft.plan.migrations() {
            if let Some(vm) = snapshot.vm(&step.vm, &step.uid) {
                occupancy.place(Candidate::target_of(vm), &step.target);
            }
        }
        Self { snapshot, occupancy, asleep: BTreeSet::new() }
    }

    /// Lets one more node sleep, with what that rests on.
    ///
    /// # Errors
    /// The cluster needs it awake; the trial is as before.
    pub(super) fn suspend(&mut self, draft: &Draft<'a>, policy: &Policy, number: usize) -> Result<SuspendProof, Need> {
        let node = draft.places[number].node;
        self.asleep.insert(&node.name);
        let judged = self.judge(draft, policy, node);
        if judged.is_err() {
            self.asleep.remove(&node.name);
        }
        judged
    }

    fn judge(&mut self, draft: &Draft<'a>, policy: &Policy, node: &'a Node) -> Result<SuspendProof, Need> {
        let roles = || [Role::Shared, Role::Dedicated].map(|role| (role, draft.numbers_of(&policy.name, role)));
        let of_role = |numbers: &[usize]| numbers.iter().map(|&number| draft.places[number].node).collect::<Vec<_>>();
        let mut ruled: Vec<(&'a Node, Role)> = roles()
            .into_iter()
            .flat_map(|(role, numbers)| of_role(numbers).into_iter().map(move |node| (node, role)))
            .collect();
        ruled.sort_unstable_by_key(|(node, _)| &node.name);
        let failover = if policy.keep_awake_failures == 0 {
            None
        } else {
            let nodes: Vec<&'a Node> = ruled.iter().map(|(node, _)| *node).collect();
            Some(failover::survey(self, policy, &nodes).map_err(Need::Failover)?)
        };
        for (name, check) in &self.snapshot.health_checks {
            self.leaves_repairs(node, name, check)?;
        }
        self.leaves_room_for_pods()?;
        let awake: Vec<_> =
            ruled.iter().filter(|(node, _)| node.is_usable() && !self.asleep.contains(&node.name)).collect();
        let is_empty = |node: &Node| self.occupancy.on(&node.name).is_some_and(|on| on.vms == 0);
        let spare = awake.iter().filter(|(node, role)| *role == Role::Dedicated && is_empty(node)).count();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(SuspendProof {
            empty_since: self.snapshot.powers.get(&node.name).and_then(|record| record.empty_since),
            wake_tested: node.wake_tested,
            awake: count(awake.len()),
            spare: count(spare),
            failover,
        })
    }

    /// A health check that would count this node still repairs one that really fails.
    fn leaves_repairs(&self, node: &Node, name: &Name, check: &HealthCheck) -> Result<(), Need> {
        if !check.counts_asleep(node) {
            return Ok(());
        }
        let (mut total, mut unhealthy) = (0, 0);
        for node in self.snapshot.nodes.values() {
            let asleep = matches!(node.power, PowerState::Suspending | PowerState::Suspended)
                || self.asleep.contains(&node.name);
            if if asleep { check.counts_asleep(node) } else { check.nodes.matches(&node.labels) } {
                total += 1;
                unhealthy += u32::from(asleep || !node.ready);
            }
        }
        let most_asleep = check.most_asleep(total);
        if unhealthy <= most_asleep {
            return Ok(());
        }
        Err(Need::HealthCheck { check: name.clone(), unhealthy, total, most_asleep })
    }

    /// No pending pod loses the only room that there is for it.
    fn leaves_room_for_pods(&self) -> Result<(), Need> {
        let waits = |pod: &&&Pod| pod.is_active() && !pod.serves_its_node();
        for pod in self.occupancy.whereabouts().unbound.iter().filter(waits) {
            let probe = self.occupancy.probe(Candidate::pod(pod));
            let loses = self.asleep.iter().any(|name| probe.fits(name, Moment::OnceAwake).is_ok());
            let stays = |node: &Node| node.ready && !self.asleep.contains(&node.name);
            let elsewhere =
                || self.occupancy.nodes().any(|on| stays(on.node()) && probe.fits_on(on, Moment::Now).is_ok());
            if loses && !elsewhere() {
                return Err(Need::PendingPod { pod: pod.key.clone() });
            }
        }
        Ok(())
    }
}
