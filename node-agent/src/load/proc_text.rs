//! The kernel's own text: `/proc/stat`, `/proc/meminfo`, `/proc/net/dev`, `/proc/diskstats` (man 5 proc).
//! Parsers only; they yield `None` for what they do not understand.

/// Disk sectors in `/proc/diskstats` are of this size whatever the disk's own are.
const SECTOR_BYTES: u64 = 512;

/// Interfaces whose bytes another interface counts too, or that never leave the node.
const VIRTUAL_INTERFACES: [&str; 19] = [
    "lo",
    "veth",
    "cali",
    "cilium",
    "lxc",
    "cni",
    "flannel",
    "docker",
    "br-",
    "virbr",
    "tap",
    "tun",
    "vnet",
    "kube-",
    "nodelocaldns",
    "dummy",
    "genev",
    "vxlan",
    "ovs-",
];

/// Block devices that are made of others, or of memory.
const VIRTUAL_DISKS: [&str; 7] = ["loop", "ram", "zram", "dm-", "md", "sr", "fd"];

/// CPU time since boot, in ticks summed over all CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CpuTicks {
    /// Spent on anything.
    pub(super) busy: u64,
    /// Busy, idle, waiting for disks or taken by a hypervisor.
    pub(super) all: u64,
    /// CPUs that are online.
    pub(super) cpus: u32,
}

/// Bytes in and out since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Received, or read.
    pub(super) inward: u64,
    /// Sent, or written.
    pub(super) outward: u64,
}

/// `/proc/stat`. Guests' time is part of `user` already.
pub(super) fn cpu_ticks(text: &str) -> Option<CpuTicks> {
    let total = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = total.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, idle, io_wait, irq, soft_irq, steal, ..] = ticks[..] else { return None };
    let sum = |parts: &[u64]| parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
    let busy = sum(&[user, nice, system, irq, soft_irq]);
    let is_cpu = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
    };
    let cpus = u32::try_from(text.lines().filter(is_cpu).count()).ok()?;
    Some(CpuTicks { busy, all: sum(&[busy, idle, io_wait, steal]), cpus })
}

/// `/proc/meminfo`: what programs use and the kernel could not give to others at once, in bytes.
pub(super) fn memory_used(text: &str) -> Option<u64> {
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some(kib("MemTotal")?.saturating_sub(kib("MemAvailable")?).saturating_mul(1024))
}

/// `/proc/net/dev`: the bytes of all interfaces that lead out of the node.
pub(super) fn network(text: &str) -> Option<Traffic> {
    let mut traffic = Traffic::default();
    for line in text.lines().filter(|line| line.contains(':')) {
        let (name, figures) = line.split_once(':')?;
        if VIRTUAL_INTERFACES.iter().any(|prefix| name.trim().starts_with(prefix)) {
            continue;
        }
        let mut figures = figures.split_ascii_whitespace();
        let received: u64 = figures.next()?.parse().ok()?;
        let sent: u64 = figures.nth(7)?.parse().ok()?;
        traffic.inward = traffic.inward.saturating_add(received);
        traffic.outward = traffic.outward.saturating_add(sent);
    }
    Some(traffic)
}

/// `/proc/diskstats`: the bytes of all whole disks.
pub(super) fn disks(text: &str) -> Option<Traffic> {
    let mut traffic = Traffic::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut fields = line.split_ascii_whitespace().skip(2);
        let name = fields.next()?;
        if is_partition(name) || VIRTUAL_DISKS.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let read: u64 = fields.nth(2)?.parse().ok()?;
        let written: u64 = fields.nth(3)?.parse().ok()?;
        traffic.inward = traffic.inward.saturating_add(read.saturating_mul(SECTOR_BYTES));
        traffic.outward = traffic.outward.saturating_add(written.saturating_mul(SECTOR_BYTES));
    }
    Some(traffic)
}

/// `sda1`, `vda2`, `nvme0n1p3`, `mmcblk0p1` are parts of a disk that is counted itself.
fn is_partition(name: &str) -> bool {
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    if stem.len() == name.len() {
        return false;
    }
    let numbered = ["nvme", "mmcblk", "nbd"].iter().any(|prefix| name.starts_with(prefix));
    if numbered {
        stem.strip_suffix('p').is_some_and(|disk| disk.ends_with(|letter: char| letter.is_ascii_digit()))
    } else {
        ["sd", "vd", "hd", "xvd"].iter().any(|prefix| name.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "cpu  100 5 45 800 20 10 20 30 40 0\ncpu0 50 0 0 0 0 0 0 0 0 0\ncpu1 50 0 0 0 0 0 0 0 0 0\nintr 9\n";

    #[test]
    fn busy_is_what_is_neither_idle_nor_waiting_nor_stolen() {
        assert_eq!(cpu_ticks(STAT), Some(CpuTicks { busy: 180, all: 1030, cpus: 2 }));
    }

    #[test]
    fn memory_that_could_be_given_away_is_not_used() {
        assert_eq!(memory_used("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  600 kB\n"), Some(400 * 1024));
    }

    #[test]
    fn only_interfaces_that_lead_out_count() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
            lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n  eth0: 1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0\n\
            veth12: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  eth1:10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n";
        assert_eq!(network(text), Some(Traffic { inward: 1010, outward: 2020 }));
    }

    #[test]
    fn only_whole_disks_count() {
        let text = "   8       0 sda 10 0 100 5 10 0 200 5 0 5 5\n   8       1 sda1 10 0 100 5 10 0 200 5 0 5 5\n\
             259 0 nvme0n1 1 0 1 0 1 0 2 0 0 0 0\n 259 1 nvme0n1p1 1 0 1 0 1 0 2 0 0 0 0\n\
             253 0 dm-0 1 0 50 0 1 0 50 0 0 0 0\n 7 0 loop0 1 0 50 0 1 0 50 0 0 0 0\n";
        assert_eq!(disks(text), Some(Traffic { inward: 101 * 512, outward: 202 * 512 }));
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "cpu", "cpu 1 2 x", "MemTotal: x kB", "eth0: a b", "8 0 sda 1"] {
            assert_eq!(cpu_ticks(text), None);
            assert_eq!(memory_used(text), None);
        }
        assert_eq!(network("eth0: a b"), None);
        assert_eq!(disks("8 0 sda 1"), None);
    }
}
