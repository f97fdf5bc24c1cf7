//! What runs on every node and may sleep with it, and what never may.

use crate::model::{Lookup, Name, Pod, PodOwner, SERVES_ONLY_ITS_NODE, STATIC_PODS_OF_ITS_NODE, STORAGE_DATA_PLANES};

/// What a pod means for the sleep of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sleep<'a> {
    /// It sleeps with the node.
    Along,
    /// It serves other nodes' data.
    DataPlane(&'static str),
    /// A part of the control plane.
    ControlPlane(&'a Name),
    /// A DaemonSet that is not known to serve its node alone.
    UnknownDaemonSet(&'a Name),
    /// A static pod that is not known to serve its node alone.
    UnknownStaticPod(&'a Name),
    /// A VM's launcher.
    Launcher,
    /// Any other pod.
    Ordinary,
}

fn is_node_local(daemon_set: &str) -> bool {
    let named = |known: &&str| {
        daemon_set.strip_suffix(*known).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with(['-', '.']))
    };
    SERVES_ONLY_ITS_NODE.iter().any(named)
}

/// What a DaemonSet of this name means for the sleep of a node, whatever its class says.
fn of_daemon_set(name: &Name) -> Sleep<'_> {
    match data_plane(name.as_str()) {
        Some(part) => Sleep::DataPlane(part),
        None if is_node_local(name.as_str()) => Sleep::Along,
        None => Sleep::UnknownDaemonSet(name),
    }
}

fn data_plane(name: &str) -> Option<&'static str> {
    STORAGE_DATA_PLANES.iter().find(|part| name.contains(*part)).copied()
}

/// Judges pods, each DaemonSet once.
#[derive(Default)]
pub(super) struct Judge<'a> {
    daemon_sets: Lookup<'a, Sleep<'a>>,
}

impl<'a> Judge<'a> {
    /// What a pod means for the sleep of its node. A class may still know a DaemonSet or static pod that we do not.
    pub(super) fn sleep_of(&mut self, pod: &'a Pod) -> Sleep<'a> {
        match &pod.owner {
            PodOwner::Vm { .. } => Sleep::Launcher,
            PodOwner::DaemonSet(name) => *self.daemon_sets.get_or_insert_with(name.as_str(), || of_daemon_set(name)),
            PodOwner::Static { manifest, control_plane: true } => Sleep::ControlPlane(manifest),
            PodOwner::Static { manifest, .. } => match data_plane(manifest.as_str()) {
                Some(part) => Sleep::DataPlane(part),
                None if STATIC_PODS_OF_ITS_NODE.contains(&manifest.as_str()) => Sleep::Along,
                None => Sleep::UnknownStaticPod(manifest),
            },
            PodOwner::Other => data_plane(pod.key.name.as_str()).map_or(Sleep::Ordinary, Sleep::DataPlane),
        }
    }
}
