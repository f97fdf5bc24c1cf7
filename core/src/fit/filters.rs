//! The filters that look at the node and the sums of what is on it, not at single other pods.

use super::{Misfit, NodeUse};
use crate::model::{Bytes, MilliCpu, Node, Scheduling, Taint, TaintEffect, Toleration, TolerationOperator};

/// The node's state that is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// As it is.
    Now,
    /// Once a sleeping node is awake: the taints that come and go with its sleep no longer count.
    OnceAwake,
}

/// Our own taints, which end with the sleep as well.
const OWN_TAINTS: &str = "miyako.dev/";

/// virt-controller takes it away while virt-handler's heartbeat stands still, and it comes back with it.
const HEARTBEAT_LABEL: &str = "kubevirt.io/schedulable";

/// The taint that stands for a cordon: who tolerates it may run on a cordoned node.
const CORDON: &str = "node.kubernetes.io/unschedulable";

/// Taints of people in a group that is otherwise the node controller's own.
const OF_PEOPLE: [&str; 2] = [CORDON, "node.kubernetes.io/out-of-service"];

/// How the names of taints end that say "it does not answer" or "it is not set up yet".
const NOT_THERE: [&str; 6] =
    ["not-ready", "unreachable", "network-unavailable", "uninitialized", "unregistered", "shutdown"];

/// Whether a taint of this key is a controller's word that the node does not answer or is not set up yet. The controller
/// takes it away by itself once the node is: the node controller (`node.kubernetes.io/…`), a cloud controller
/// (`node.cloudprovider.kubernetes.io/shutdown`), network and storage plugins (`node.cilium.io/agent-not-ready`). A
/// person's cordon is none of them.
#[must_use]
pub fn goes_by_itself(key: &str) -> bool {
    if OF_PEOPLE.contains(&key) {
        return false;
    }
    let Some((group, name)) = key.rsplit_once('/') else { return false };
    let ends_with = |end: &&str| name.strip_suffix(*end).is_some_and(|rest| rest.is_empty() || rest.ends_with('-'));
    group == "node.kubernetes.io" || NOT_THERE.iter().any(ends_with)
}

impl Moment {
    fn counts(self, taint: &Taint, node: &Node) -> bool {
        let key = taint.key.as_str();
        let of_sleep = || goes_by_itself(key) || key.starts_with(OWN_TAINTS) || node.passing_taints.contains(key);
        self == Self::Now || !of_sleep()
    }
}

fn tolerates(toleration: &Toleration, key: &str, value: &str, effect: TaintEffect) -> bool {
    toleration.effect.is_none_or(|tolerated| tolerated == effect)
        && toleration.key.as_ref().is_none_or(|tolerated| tolerated == key)
        && (toleration.operator == TolerationOperator::Exists || toleration.value == value)
}

/// NodeUnschedulable and TaintToleration.
pub(super) fn taints(pod: &Scheduling, node: &Node, moment: Moment) -> Result<(), Misfit> {
    let tolerated =
        |key: &str, value: &str, effect| pod.tolerations.iter().any(|each| tolerates(each, key, value, effect));
    if node.unschedulable && !tolerated(CORDON, "", TaintEffect::NoSchedule) {
        return Err(Misfit::Cordoned);
    }
    let keeps_away = |taint: &&Taint| {
        taint.effect != TaintEffect::PreferNoSchedule
            && moment.counts(taint, node)
            && !tolerated(&taint.key, &taint.value, taint.effect)
    };
    match node.taints.iter().find(keeps_away) {
        Some(taint) if taint.key == CORDON => Err(Misfit::Cordoned),
        Some(Taint { key, value, effect }) => {
            Err(Misfit::Taint { key: key.clone(), value: value.clone(), effect: *effect })
        }
        None => Ok(()),
    }
}

/// NodeAffinity: the selector and the required terms.
pub(super) fn node_affinity(pod: &Scheduling, node: &Node, moment: Moment) -> Result<(), Misfit> {
    let differs = |(key, wanted): &(&String, &String)| {
        node.labels.get(*key) != Some(*wanted) && !(moment == Moment::OnceAwake && *key == HEARTBEAT_LABEL)
    };
    if let Some((key, wanted)) = pod.node_selector.iter().find(differs) {
        return Err(Misfit::NodeSelector { key: key.clone(), wanted: wanted.clone() });
    }
    match &pod.node_affinity {
        Some(required) if !required.matches(node.name.as_str(), &node.labels) => Err(Misfit::NodeAffinity),
        _ => Ok(()),
    }
}

/// NodePorts. Host addresses are not told apart, which errs on the safe side.
pub(super) fn ports(pod: &Scheduling, on: &NodeUse<'_>) -> Result<(), Misfit> {
    match pod.host_ports.iter().find(|(protocol, port)| on.ports.contains(&(protocol.as_str(), *port))) {
        Some((protocol, port)) => Err(Misfit::PortTaken { protocol: protocol.clone(), port: *port }),
        None => Ok(()),
    }
}

/// NodeResourcesFit. What is not requested is not compared, so a pod without requests fits a node that is
/// overcommitted already.
pub(super) fn resources(pod: &Scheduling, on: &NodeUse<'_>) -> Result<(), Misfit> {
    let (want, have) = (&pod.requests, &on.node().allocatable);
    if on.pods >= have.pods {
        return Err(Misfit::TooManyPods { allowed: have.pods });
    }
    let free = have.cpu.saturating_sub(on.cpu);
    if want.cpu > MilliCpu::default() && want.cpu > free {
        return Err(Misfit::InsufficientCpu { requested: want.cpu, free });
    }
    let free = have.memory.saturating_sub(on.memory);
    if want.memory > Bytes::default() && want.memory > free {
        return Err(Misfit::InsufficientMemory { requested: want.memory, free });
    }
    let free = have.ephemeral_storage.saturating_sub(on.ephemeral_storage);
    if want.ephemeral_storage > Bytes::default() && want.ephemeral_storage > free {
        return Err(Misfit::InsufficientEphemeralStorage { requested: want.ephemeral_storage, free });
    }
    for (name, &requested) in &want.extended {
        let free = have.extended.get(name).copied().unwrap_or(0).saturating_sub(on.extended(name));
        if requested > 0 && requested > free {
            return Err(Misfit::InsufficientExtended { name: name.clone(), requested, free });
        }
    }
    Ok(())
}

/// NodeVolumeLimits, by what is attached rather than by what pods mount, and without looking whether two pods share a
/// volume: both count more than the scheduler does, which errs on the safe side.
pub(super) fn attach_limits(pod: &Scheduling, on: &NodeUse<'_>) -> Result<(), Misfit> {
    for (driver, wanted) in &pod.csi_volumes {
        let Some(&limit) = on.node().attach_limits.get(driver) else { continue };
        let attached = on.node().attached_of(driver).saturating_add(on.attaching(driver));
        if attached.saturating_add(*wanted) > limit {
            return Err(Misfit::TooManyVolumes { driver: driver.clone(), limit, attached });
        }
    }
    Ok(())
}

/// Volume topology: every volume must be usable on the node.
pub(super) fn volumes(pod: &Scheduling, node: &Node) -> Result<(), Misfit> {
    let usable = pod.volume_topology.iter().all(|volume| volume.matches(node.name.as_str(), &node.labels));
    if usable { Ok(()) } else { Err(Misfit::VolumeTopology) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controllers_say_of_a_node_that_is_not_there_goes_by_itself_and_a_persons_word_does_not() {
        for key in [
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
            "node.kubernetes.io/network-unavailable",
            "node.kubernetes.io/memory-pressure",
            "node.cloudprovider.kubernetes.io/shutdown",
            "node.cloudprovider.kubernetes.io/uninitialized",
            "node.cilium.io/agent-not-ready",
            "ebs.csi.aws.com/agent-not-ready",
            "karpenter.sh/unregistered",
        ] {
            assert!(goes_by_itself(key), "{key}");
        }
        for key in [
            "node.kubernetes.io/unschedulable",
            "node.kubernetes.io/out-of-service",
            "ToBeDeletedByClusterAutoscaler",
            "dedicated",
            "example.org/reserved",
            "example.org/shutdowns",
            "kubevirt.io/drain",
        ] {
            assert!(!goes_by_itself(key), "{key}");
        }
    }
}
