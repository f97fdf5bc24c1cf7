//! The constraints of the *next* target launcher pod of a VM.
//!
//! virt-controller renders it anew from the VMI and adds what a migration needs (`pkg/virt-controller/watch/
//! migration`, `prepareNodeSelectorForHostCpuModel`). So do we: a node selector, an affinity or tolerations that were
//! changed while the VM runs count, and not what the launcher that runs was made of. From that launcher comes only what
//! the VMI does not say: what it asks for, and what KubeVirt reads from the machine (architecture, machine type, CPU
//! model). That the target must be another node is left to whoever asks: it is the same for every VM.

use super::{pod::Launcher, vmi::Asks, vmi::CpuModel, vmi::Plugged};
use miyako_api::names::{kubernetes, kubevirt};
use miyako_core::fit::{CPU_LABEL, cpu_identity};
use miyako_core::model::{
    Bytes, KubeVirt, Labels, MilliCpu, Namespace, NodeSelector, Resources, Scheduling, Toleration, TolerationOperator,
    Unsupported,
};
use std::collections::BTreeMap;

/// Taints that the API server lets every pod tolerate for a while.
const TOLERATED_BY_ALL: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// What a target is rendered from, besides the VMI.
pub struct Sources<'a> {
    /// The launcher that runs.
    pub launcher: &'a Launcher,
    /// The labels of its node.
    pub source: Option<&'a Labels>,
    /// Where its volumes can be used.
    pub volumes: Vec<NodeSelector>,
    /// Its namespace.
    pub namespace: Option<&'a Namespace>,
    /// The installation.
    pub kubevirt: &'a KubeVirt,
}

/// The constraints of the next target of this VM, and why they are not known, if they are not.
#[must_use]
pub fn next(asks: &Asks, from: Sources<'_>) -> (Scheduling, Option<Unsupported>) {
    let running = &from.launcher.scheduling;
    let mut target = Scheduling::clone(&asks.terms);
    target.requests = running.requests.clone();
    add_plugged(&mut target.requests, asks.plugged, from.kubevirt);
    target.limits = running.limits.clone();
    target.host_ports = running.host_ports.clone();
    target.volume_topology = from.volumes;
    target.tolerations.extend(running.tolerations.iter().filter(|one| is_given_at_admission(one, running)).cloned());
    let selector = &mut target.node_selector;
    // The VM's own keys win over the installation's; what admission adds is refused where it contradicts.
    let given = from.namespace.map(|namespace| &namespace.node_selector);
    for (key, value) in from.kubevirt.node_selectors.iter().chain(given.into_iter().flatten()) {
        selector.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for (key, value) in running.node_selector.iter().filter(|(key, _)| is_kubevirts(key)) {
        selector.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let mut unknown = None;
    if let Some(source) = from.source {
        match asks.cpu {
            CpuModel::Host => add_host_model(selector, source),
            CpuModel::Passthrough => {
                target.same_cpu = cpu_identity(source);
                unknown = target.same_cpu.is_none().then(unknown_cpu);
            }
            CpuModel::Named => {}
        }
        let vendor =
            source.iter().find(|(key, value)| key.starts_with(kubevirt::CPU_VENDOR_PREFIX) && *value == "true");
        let chosen = selector.keys().any(|key| key.starts_with(kubevirt::CPU_VENDOR_PREFIX));
        if let (Some((key, value)), false) = (vendor, chosen) {
            selector.insert(key.clone(), value.clone());
        }
    }
    (target, unknown)
}

/// The labels of the next launcher: those of the VMI, as they are now, and KubeVirt's own.
#[must_use]
pub fn labels(vmi: &Labels, launcher: &Labels) -> Labels {
    let own = launcher.iter().filter(|(key, _)| is_kubevirts(key) && *key != kubevirt::MIGRATION_JOB_UID);
    vmi.iter().chain(own).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn unknown_cpu() -> Unsupported {
    let field = format!(
        "spec.domain.cpu.model: host-passthrough (its node has no label {}…, so nobody knows which nodes have the same \
         processor; label those that do alike with {CPU_LABEL})",
        kubevirt::HOST_MODEL_CPU_PREFIX
    );
    Unsupported { field }
}

/// What KubeVirt asks of nodes for the machine that the VM is. All else in a launcher's selector was its VM's, or its
/// migration's (`addedNodeSelector`), when it was made.
fn is_kubevirts(key: &str) -> bool {
    let group = key.rsplit_once('/').map_or(key, |(group, _)| group);
    group == "kubevirt.io"
        || group.ends_with(".kubevirt.io")
        || [kubernetes::ARCHITECTURE, kubevirt::CPU_MANAGER].contains(&key)
}

/// A toleration that the VM did not ask for: every pod's, and those of the devices that it asks for
/// (ExtendedResourceToleration).
fn is_given_at_admission(toleration: &Toleration, running: &Scheduling) -> bool {
    let Some(key) = &toleration.key else { return false };
    TOLERATED_BY_ALL.contains(&key.as_str())
        || (toleration.operator == TolerationOperator::Exists && running.requests.extended.contains_key(key))
}

fn add_plugged(requests: &mut Resources, plugged: Plugged, kubevirt: &KubeVirt) {
    /// What KubeVirt adds for the threads of a vCPU.
    const OF_A_VCPU: Bytes = Bytes::mib(8);
    let vcpus = u64::from(plugged.vcpus);
    let each =
        if plugged.dedicated { 1000 } else { 1000_u64.div_ceil(u64::from(kubevirt.cpu_allocation_ratio.max(1))) };
    requests.cpu += MilliCpu(each.saturating_mul(vcpus));
    // Page tables are a 512th of the memory.
    requests.memory += plugged.memory + Bytes(plugged.memory.0 / 512) + Bytes(OF_A_VCPU.0.saturating_mul(vcpus));
}

/// A VM with the host's CPU model needs a target that offers the model and features it started with: the source
/// launcher's, if it came by a migration itself, else the source node's.
fn add_host_model(selector: &mut BTreeMap<String, String>, source: &Labels) {
    let migrated_before = selector.keys().any(|key| {
        key.starts_with(kubevirt::CPU_FEATURE_PREFIX) || key.starts_with(kubevirt::CPU_MODEL_MIGRATION_PREFIX)
    });
    if migrated_before {
        return;
    }
    for (key, value) in source {
        if let Some(model) = key.strip_prefix(kubevirt::HOST_MODEL_CPU_PREFIX) {
            selector.insert(format!("{}{model}", kubevirt::CPU_MODEL_MIGRATION_PREFIX), value.clone());
        } else if let Some(feature) = key.strip_prefix(kubevirt::HOST_MODEL_REQUIRED_PREFIX) {
            selector.insert(format!("{}{feature}", kubevirt::CPU_FEATURE_PREFIX), value.clone());
        }
    }
}
