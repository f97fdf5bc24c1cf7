//! The network: a bridge for each lab, and for each node a namespace with one link to it.
//!
//! ```text
//!   host: mlb<slot> 10.213.<slot>.1 ──┬── mlv<slot>-0 ══ eth0 10.213.<slot>.10  in miyako-lab-<slot>-<node>
//!                                     └── mlv<slot>-1 ══ eth0 10.213.<slot>.11
//! ```
//! A link is as fast in one direction as in the other: `tbf` at both of its ends. The runner, and with it the operator,
//! is reached at the bridge's address.

use super::error::{NodeError, tool};
use std::net::Ipv4Addr;

/// The first node's last byte.
const FIRST: u8 = 10;

/// How often TCP sends again before it gives a connection up: some 6 s, where Linux waits 15 min. A run would not.
const RETRIES: u8 = 5;

/// What Linux's default queue (CoDel) lets wait on a link is 5 ms, and it gives a connection's buffer twice of what is
/// under way.
const SENT_AHEAD_MILLISECONDS: u64 = 10;

/// The most that Linux lets a TCP connection send ahead (`tcp_wmem`), in bytes, and the least that is sensible.
const LINUX_SEND_BUFFER: u64 = 4 * 1024 * 1024;
const SMALLEST_SEND_BUFFER: u64 = 64 * 1024;

/// The lab's bridge.
#[derive(Debug)]
pub(super) struct Network {
    slot: u8,
}

/// A node's namespace and link.
#[derive(Debug)]
pub(super) struct Link {
    namespace: String,
    host_end: String,
    address: Ipv4Addr,
}

/// The address of the machine itself in a lab's network.
pub(super) fn host_address(slot: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 213, slot, 1)
}

fn bridge(slot: u8) -> String {
    format!("mlb{slot}")
}

fn link_prefix(slot: u8) -> String {
    format!("mlv{slot}-")
}

fn namespace_prefix(slot: u8) -> String {
    format!("miyako-lab-{slot}-")
}

impl Network {
    pub(super) fn create(slot: u8) -> Result<Self, NodeError> {
        let bridge = bridge(slot);
        tool("ip", &["link", "add", &bridge, "type", "bridge"])?;
        tool("ip", &["address", "add", &format!("{}/24", host_address(slot)), "dev", &bridge])?;
        tool("ip", &["link", "set", &bridge, "up"])?;
        Ok(Self { slot })
    }

    /// A namespace with a link, at first as fast as the machine.
    pub(super) fn add_node(&self, index: u8, name: &str) -> Result<Link, NodeError> {
        let link = Link {
            namespace: format!("{}{name}", namespace_prefix(self.slot)),
            host_end: format!("{}{index}", link_prefix(self.slot)),
            address: Ipv4Addr::new(10, 213, self.slot, FIRST + index),
        };
        let (namespace, host_end) = (link.namespace.as_str(), link.host_end.as_str());
        tool("ip", &["netns", "add", namespace])?;
        tool("ip", &["link", "add", host_end, "type", "veth", "peer", "name", "eth0", "netns", namespace])?;
        tool("ip", &["link", "set", host_end, "master", &bridge(self.slot), "up"])?;
        tool("ip", &["-n", namespace, "link", "set", "lo", "up"])?;
        tool("ip", &["-n", namespace, "address", "add", &format!("{}/24", link.address), "dev", "eth0"])?;
        tool("ip", &["-n", namespace, "link", "set", "eth0", "up"])?;
        let file = format!("--net={}", link.namespace_file());
        let retries = format!("echo {RETRIES} > /proc/sys/net/ipv4/tcp_retries2");
        tool("nsenter", &[&file, "--", "sh", "-c", &retries])?;
        Ok(link)
    }
}

impl Link {
    pub(super) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The file by which the namespace is entered.
    pub(super) fn namespace_file(&self) -> String {
        format!("/run/netns/{}", self.namespace)
    }

    /// Limits both directions to so many bits per second; none lifts the limit.
    pub(super) fn set_rate(&self, bits_per_second: Option<u64>) -> Result<(), NodeError> {
        /// A tenth of what the rate lets through in a second, but never less than one full packet of the largest
        /// offload, or the limit would drop it.
        const SMALLEST_BURST: u64 = 64 * 1024;
        let outside = ["-n", &self.namespace, "qdisc"];
        for (scope, device) in [(&outside[..], "eth0"), (&outside[2..], self.host_end.as_str())] {
            let Some(rate) = bits_per_second else {
                // There is none when it was never limited.
                let _ = tool("tc", &[scope, &["del", "dev", device, "root"]].concat());
                continue;
            };
            let (rate, burst) = (format!("{rate}bit"), format!("{}b", (rate / 8 / 100).max(SMALLEST_BURST)));
            let limit = ["replace", "dev", device, "root", "tbf", "rate", &rate, "burst", &burst, "latency", "50ms"];
            tool("tc", &[scope, &limit].concat())?;
        }
        self.set_send_buffers(bits_per_second.unwrap_or(u64::MAX))
    }

    /// Lets connections send ahead no more of a slow link's time than of a fast one's. A page that a guest waits for in
    /// post-copy comes after all that waits in buffers: with Linux's own of 4 MiB on a link of 200 Mbit/s, each such page
    /// would take a sixth of a second.
    fn set_send_buffers(&self, bits_per_second: u64) -> Result<(), NodeError> {
        let most = (bits_per_second / 8 / 1000)
            .saturating_mul(SENT_AHEAD_MILLISECONDS)
            .clamp(SMALLEST_SEND_BUFFER, LINUX_SEND_BUFFER);
        let file = format!("--net={}", self.namespace_file());
        let sizes = format!("echo 4096 16384 {most} > /proc/sys/net/ipv4/tcp_wmem");
        tool("nsenter", &[&file, "--", "sh", "-c", &sizes]).map(drop)
    }

    /// Cuts the cable, or plugs it in again.
    pub(super) fn set_up(&self, up: bool) -> Result<(), NodeError> {
        tool("ip", &["link", "set", &self.host_end, if up { "up" } else { "down" }]).map(drop)
    }
}

/// Removes every namespace and link that carries the slot's number.
pub(super) fn remove(slot: u8) -> Result<(), NodeError> {
    for line in tool("ip", &["netns", "list"])?.lines() {
        let Some(name) = line.split_whitespace().next() else { continue };
        if name.starts_with(&namespace_prefix(slot)) {
            tool("ip", &["netns", "delete", name])?;
        }
    }
    // A link ends with its namespace, but the kernel takes its time and a process may still hold the namespace.
    for link in links()?.iter().filter(|link| link.starts_with(&link_prefix(slot)) || **link == bridge(slot)) {
        if let Err(error) = tool("ip", &["link", "delete", link])
            && links()?.contains(link)
        {
            return Err(error);
        }
    }
    Ok(())
}

/// The names of the machine's own links.
fn links() -> Result<Vec<String>, NodeError> {
    let list = tool("ip", &["-brief", "link", "show"])?;
    let name = |line: &str| Some(line.split_whitespace().next()?.split('@').next()?.to_owned());
    Ok(list.lines().filter_map(name).collect())
}
