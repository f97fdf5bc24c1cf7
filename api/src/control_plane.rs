//! What tells that a node belongs to the control plane, whoever set the cluster up. The operator and the agents ask the
//! same questions, so that neither lets a node with etcd on it sleep.

/// Names of roles, in lower case and without separators: RKE writes `controlplane`, kubeadm `control-plane`.
const ROLES: [&str; 5] = ["controlplane", "master", "etcd", "apiserver", "witness"];

/// Labels whose value is the role.
const ROLE_IS_VALUE: [&str; 3] = ["kubernetes.io/role", "node.kubernetes.io/role", "node.k0sproject.io/role"];

/// MicroK8s' own label.
const MICROK8S: &str = "node.kubernetes.io/microk8s-controlplane";

/// Programs of the control plane that a kubelet starts from a file.
const PROGRAMS: [&str; 5] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "cloud-controller-manager"];

/// Whether a node with this label, or with a taint of this key, belongs to the control plane. The value of a role is
/// no matter: kubeadm leaves it empty, k3s and RKE2 write `true`.
#[must_use]
pub fn is_role(key: &str, value: &str) -> bool {
    let (group, name) = key.rsplit_once('/').unwrap_or_default();
    if group.starts_with("node-role.") {
        return names_role(name);
    }
    key == MICROK8S || (ROLE_IS_VALUE.contains(&key) && names_role(value))
}

fn names_role(text: &str) -> bool {
    let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    ROLES.contains(&letters.to_ascii_lowercase().as_str())
}

/// The name in a static pod's file: its mirror pod's name without the node's, which the kubelet appends.
#[must_use]
pub fn manifest<'a>(pod: &'a str, node: &str) -> &'a str {
    pod.strip_suffix(node).and_then(|name| name.strip_suffix('-')).filter(|name| !name.is_empty()).unwrap_or(pod)
}

/// Whether a static pod of this [`manifest`] name is a part of the control plane: `etcd`, but also `etcd-events` and
/// `openshift-kube-scheduler`.
#[must_use]
pub fn is_static_pod(manifest: &str) -> bool {
    PROGRAMS.iter().any(|program| {
        manifest.match_indices(program).any(|(at, _)| {
            let (before, after) = (&manifest[..at], &manifest[at + program.len()..]);
            (before.is_empty() || before.ends_with('-')) && (after.is_empty() || after.starts_with('-'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distribution_names_its_control_plane() {
        for (key, value) in [
            ("node-role.kubernetes.io/control-plane", ""),
            ("node-role.kubernetes.io/control-plane", "true"),
            ("node-role.kubernetes.io/controlplane", "true"),
            ("node-role.kubernetes.io/master", ""),
            ("node-role.kubernetes.io/etcd", "true"),
            ("node-role.kubernetes.io/api-server", ""),
            ("node-role.harvesterhci.io/witness", "true"),
            ("node.kubernetes.io/microk8s-controlplane", "microk8s-controlplane"),
            ("kubernetes.io/role", "master"),
            ("node.k0sproject.io/role", "control-plane"),
        ] {
            assert!(is_role(key, value), "{key}={value}");
        }
        for (key, value) in [
            ("node-role.kubernetes.io/worker", "true"),
            ("node-role.kubernetes.io/etcd-client", ""),
            ("kubernetes.io/role", "node"),
            ("example.org/etcd", "true"),
            ("etcd", "true"),
        ] {
            assert!(!is_role(key, value), "{key}={value}");
        }
    }

    #[test]
    fn parts_of_the_control_plane_are_known_by_their_files() {
        for name in [
            "etcd",
            "etcd-events",
            "etcd-manager-main",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "openshift-kube-scheduler",
        ] {
            assert!(is_static_pod(name), "{name}");
        }
        for name in ["kube-proxy", "nginx-proxy", "kube-vip", "fetcd", "etcdctl", "kube-schedulers"] {
            assert!(!is_static_pod(name), "{name}");
        }
    }

    #[test]
    fn a_mirror_pod_bears_its_nodes_name() {
        assert_eq!(manifest("nginx-proxy-etcd-1", "etcd-1"), "nginx-proxy");
        assert_eq!(manifest("etcd-n1.example.org", "n1.example.org"), "etcd");
        assert_eq!(manifest("etcd-n1", "n2"), "etcd-n1");
        assert_eq!(manifest("-n1", "n1"), "-n1");
    }
}
