//! Pods that everybody knows by their names: which may sleep with their node, and which never may.

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
pub const STATIC_PODS_OF_ITS_NODE: &[&str] = &[
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
