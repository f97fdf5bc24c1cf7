//! What runs on every node and may sleep with it, and what never may.

use crate::model::{Lookup, Name, Pod, PodOwner};

/// DaemonSets that serve nobody but the node they run on, by the end of their name: charts like to put a release name
/// in front. A class lists further ones in `suspend.ignoreDaemonSets`.
pub const SERVES_ONLY_ITS_NODE: &[&str] = &[
    // Networking
    "antrea-agent",
    "bridge-marker",
    "calico-node",
    "canal",
    "cilium",
    "cilium-envoy",
    "kindnet",
    "kube-cni-linux-bridge-plugin",
    "kube-flannel",
    "kube-flannel-ds",
    "kube-multus-ds",
    "kube-ovn-cni",
    "kube-proxy",
    "multus",
    "nmstate-handler",
    "node-local-dns",
    "ovn-controller",
    "ovnkube-node",
    "ovs-cni",
    "ovs-node",
    "ovs-ovn",
    "weave-net",
    "whereabouts",
    // KubeVirt and ourselves
    "virt-handler",
    "miyako-agent",
    // Storage clients: the node side of CSI drivers
    "csi-cephfsplugin",
    "csi-node",
    "csi-node-driver",
    "csi-nfs-node",
    "csi-nodeplugin",
    "csi-plugin",
    "csi-rbdplugin",
    "hostpath-provisioner-csi",
    // Observing the node
    "alloy",
    "filebeat",
    "fluent-bit",
    "fluentd",
    "node-exporter",
    "node-problem-detector",
    "otel-agent",
    "promtail",
    "smartctl-exporter",
    "vector",
    // Looking after the node
    "gpu-feature-discovery",
    "machine-config-daemon",
    "nfd-worker",
    "node-feature-discovery-worker",
    "tuned",
];

/// Static pods that serve nobody but the node they run on, by the name in their file: its way to the API servers, and
/// its Services. A class lists further ones in `suspend.ignoreStaticPods`.
const STATIC_PODS_OF_ITS_NODE: &[&str] = &[
    // kube-proxy, where RKE2 runs it
    "kube-proxy",
    // Local load balancers in front of the API servers: kubespray, kubeadm's guide, k0s
    "haproxy",
    "kube-vip",
    "nginx-proxy",
    "nllb",
];

/// Parts of names of pods that hold or serve other nodes' data: a node with one of them never sleeps, whatever a
/// class says.
pub const STORAGE_DATA_PLANES: &[&str] = &[
    // Ceph
    "ceph-mds",
    "ceph-mon",
    "ceph-osd",
    "ceph-rgw",
    // Longhorn
    "instance-manager",
    "longhorn-manager",
    "share-manager",
    // LINSTOR
    "linstor-satellite",
    // OpenEBS: Mayastor, cStor, Jiva
    "cstor-pool",
    "io-engine",
    "jiva-rep",
    "mayastor",
    // Others
    "glusterfs",
    "portworx",
    "px-cluster",
    "storageos-node",
];

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
