//! What runs on every node and may sleep with it, and what never may.

use crate::model::{Name, NodeClass, Pod, PodOwner};

/// DaemonSets that serve nobody but the node they run on, by the end of their name: charts like to put a release name
/// in front. A class lists further ones in `sleepingDaemonSets`.
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
    /// A DaemonSet that is not known to serve its node alone.
    UnknownDaemonSet(&'a Name),
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

/// What a pod means for the sleep of its node, which is of this class.
pub(super) fn sleep_of<'a>(pod: &'a Pod, class: Option<&NodeClass>) -> Sleep<'a> {
    let name = match &pod.owner {
        PodOwner::DaemonSet(name) => name.as_str(),
        _ => pod.key.name.as_str(),
    };
    if !matches!(pod.owner, PodOwner::Vm { .. })
        && let Some(part) = STORAGE_DATA_PLANES.iter().find(|part| name.contains(*part))
    {
        return Sleep::DataPlane(part);
    }
    let listed = |daemon_set: &Name| {
        class.is_some_and(|class| class.sleeping_daemon_sets.contains(&format!("{}/{daemon_set}", pod.key.namespace)))
    };
    match &pod.owner {
        PodOwner::Static => Sleep::Along,
        PodOwner::DaemonSet(name) if is_node_local(name.as_str()) || listed(name) => Sleep::Along,
        PodOwner::DaemonSet(name) => Sleep::UnknownDaemonSet(name),
        PodOwner::Vm { .. } => Sleep::Launcher,
        PodOwner::Other => Sleep::Ordinary,
    }
}
