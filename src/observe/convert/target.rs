//! The constraints of the *next* target launcher pod of a VM.
//!
//! virt-controller renders it anew from the VMI and adds what a migration needs (`pkg/virt-controller/watch/
//! migration`, `prepareNodeSelectorForHostCpuModel`). We take the launcher that runs, which went through the same
//! rendering, drop what only *its* migration added, and add what the next one will. That the target must be another
//! node is left to whoever asks: it is the same for every VM.

use super::{pod::Launcher, vmi::Asks};
use miyako_api::names::{kubernetes, kubevirt};
use miyako_core::model::{Labels, NodeSelector, Scheduling};
use std::collections::BTreeMap;

/// Keys by which people and programs send a migration somewhere (`addedNodeSelector`). They stay in the selector of
/// the launcher that came that way, though the VM itself never asked for them.
pub const PLACES: [&str; 3] = [kubernetes::HOSTNAME, kubernetes::ZONE, kubernetes::REGION];

/// The constraints of the next target of this VM, whose launcher runs on a node with such labels and whose volumes
/// are bound to such places.
#[must_use]
pub fn next(asks: &Asks, launcher: &Launcher, source: Option<&Labels>, volumes: Vec<NodeSelector>) -> Scheduling {
    let mut target = Scheduling::clone(&launcher.scheduling);
    target.node_selector.retain(|key, _| !PLACES.contains(&key.as_str()) || asks.places.contains(key));
    if let Some(source) = source {
        if asks.host_model {
            add_host_model(&mut target.node_selector, source);
        }
        let vendor =
            source.iter().find(|(key, value)| key.starts_with(kubevirt::CPU_VENDOR_PREFIX) && *value == "true");
        let chosen = target.node_selector.keys().any(|key| key.starts_with(kubevirt::CPU_VENDOR_PREFIX));
        if let (Some((key, value)), false) = (vendor, chosen) {
            target.node_selector.insert(key.clone(), value.clone());
        }
    }
    target.volume_topology = volumes;
    target
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
