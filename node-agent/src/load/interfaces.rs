//! Which interfaces count.

use super::kernel_text::proc::{Traffic, interfaces};

/// Interfaces by name, with their bytes.
pub(super) type Interfaces = Vec<(Box<str>, Traffic)>;

/// Interfaces of a node whose bytes another interface counts too (bridges, bonds, VLANs, tunnels), or that never
/// leave the node. Names are all that a pod can see of another network.
const VIRTUAL: [&str; 24] = [
    "lo",
    "veth",
    "cali",
    "cilium",
    "lxc",
    "cni",
    "flannel",
    "docker",
    "br",
    "virbr",
    "tap",
    "tun",
    "vnet",
    "vlan",
    "bond",
    "team",
    "kube-",
    "nodelocaldns",
    "dummy",
    "genev",
    "vxlan",
    "ovs-",
    "macvtap",
    "wg",
];

/// Interfaces of a launcher that stand between its uplinks and the guest (KubeVirt's `pkg/network`): tap devices,
/// and the bridges of the bindings `bridge` and `masquerade`.
const WITHIN_LAUNCHER: [&str; 4] = ["lo", "tap", "k6t", "dummy"];

/// The bytes of a launcher's uplinks.
pub(super) fn of_launcher(text: &str) -> Option<Interfaces> {
    pick(text, |name| !WITHIN_LAUNCHER.iter().any(|prefix| name.starts_with(prefix)))
}

/// The bytes of the interfaces that lead out of a node: those `chosen`, or by their names those that look physical.
pub(super) fn of_node(text: &str, chosen: &[String]) -> Option<Interfaces> {
    pick(text, |name| if chosen.is_empty() { looks_physical(name) } else { chosen.iter().any(|chosen| chosen == name) })
}

fn looks_physical(name: &str) -> bool {
    // `eth0.100` is a VLAN of `eth0`.
    !name.contains('.') && !VIRTUAL.iter().any(|prefix| name.starts_with(prefix))
}

fn pick(text: &str, counts: impl Fn(&str) -> bool) -> Option<Interfaces> {
    let all = interfaces(text)?;
    Some(all.into_iter().filter(|(name, _)| counts(name)).map(|(name, traffic)| (name.into(), traffic)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(picked: Option<Interfaces>) -> Vec<String> {
        picked.unwrap().into_iter().map(|(name, _)| name.into_string()).collect()
    }

    fn text(names: &[&str]) -> String {
        names.iter().map(|name| format!("{name}: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n")).collect()
    }

    #[test]
    fn of_a_node_only_what_leads_out_counts() {
        let text = text(&["lo", "eth0", "eth0.100", "enp3s0f0", "bond0", "br-ex", "cali12", "veth0a", "ib0", "wlan0"]);
        assert_eq!(names(of_node(&text, &[])), ["eth0", "enp3s0f0", "ib0", "wlan0"]);
        assert_eq!(names(of_node(&text, &["bond0".into()])), ["bond0"]);
    }

    #[test]
    fn of_a_launcher_only_uplinks_count() {
        let text = text(&["lo", "eth0-nic", "eth0", "k6t-eth0", "tap0", "net1"]);
        assert_eq!(names(of_launcher(&text)), ["eth0-nic", "eth0", "net1"]);
    }
}
