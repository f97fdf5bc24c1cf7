//! Files of the node as a whole: `/proc/stat`, `/proc/meminfo`, `/proc/net/dev`, `/proc/diskstats` (man 5 proc),
//! `/proc/schedstat`.

/// Disk sectors in `/proc/diskstats` are of this size whatever the disk's own are.
const SECTOR_BYTES: u64 = 512;

/// Block devices that are made of others, or of memory.
const VIRTUAL_DISKS: [&str; 7] = ["loop", "ram", "zram", "dm-", "md", "sr", "fd"];

/// CPU time since boot, in ticks summed over all CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::load) struct CpuTicks {
    /// Spent on anything.
    pub(in crate::load) busy: u64,
    /// Busy, idle, waiting for disks or taken by a hypervisor.
    pub(in crate::load) all: u64,
    /// CPUs that are online.
    pub(in crate::load) cpus: u32,
}

/// Bytes in and out since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::load) struct Traffic {
    /// Received, or read.
    pub(in crate::load) inward: u64,
    /// Sent, or written.
    pub(in crate::load) outward: u64,
}

/// `/proc/stat`. Guests' time is part of `user` already.
pub(in crate::load) fn cpu_ticks(text: &str) -> Option<CpuTicks> {
    let total = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = total.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, idle, io_wait, irq, soft_irq, steal, ..] = ticks[..] else { return None };
    let sum = |parts: &[u64]| parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
    let busy = sum(&[user, nice, system, irq, soft_irq]);
    let cpus = u32::try_from(text.lines().filter(|line| is_cpu(line)).count()).ok()?;
    Some(CpuTicks { busy, all: sum(&[busy, idle, io_wait, steal]), cpus })
}

/// Memory of the node, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::load) struct Memory {
    /// What programs use and the kernel could not give to others at once.
    pub(in crate::load) used: u64,
    /// What there is.
    pub(in crate::load) total: u64,
}

/// `/proc/meminfo`.
pub(in crate::load) fn memory(text: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let total = bytes("MemTotal")?;
    Some(Memory { used: total.saturating_sub(bytes("MemAvailable")?), total })
}

/// `/proc/net/dev`: every interface with its bytes.
pub(in crate::load) fn interfaces(text: &str) -> Option<Vec<(&str, Traffic)>> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, figures)| {
            let mut figures = figures.split_ascii_whitespace();
            let inward = figures.next()?.parse().ok()?;
            let outward = figures.nth(7)?.parse().ok()?;
            Some((name.trim(), Traffic { inward, outward }))
        })
        .collect()
}

/// `/proc/schedstat` (`scheduler/sched-stats.rst`): nanoseconds that tasks were ready and waited for a core, over all
/// cores. The eighth figure of a `cpu` line.
pub(in crate::load) fn run_delay(text: &str) -> Option<u64> {
    let mut cpus = text.lines().filter(|line| is_cpu(line)).peekable();
    cpus.peek()?;
    cpus.map(|line| line.split_ascii_whitespace().nth(8)?.parse::<u64>().ok())
        .try_fold(0_u64, |sum, waited| Some(sum.saturating_add(waited?)))
}

fn is_cpu(line: &str) -> bool {
    line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
}

/// `/proc/diskstats`: the bytes of all whole disks.
pub(in crate::load) fn disks(text: &str) -> Option<Traffic> {
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
        let text = "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  600 kB\n";
        assert_eq!(memory(text), Some(Memory { used: 400 * 1024, total: 1000 * 1024 }));
    }

    #[test]
    fn every_interface_is_named_with_its_bytes() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
            lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n  eth1:10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n";
        let (lo, eth1) = (Traffic { inward: 999, outward: 999 }, Traffic { inward: 10, outward: 20 });
        assert_eq!(interfaces(text), Some(vec![("lo", lo), ("eth1", eth1)]));
    }

    #[test]
    fn waiting_is_summed_over_cores() {
        let text = "version 17\ntimestamp 4\ncpu0 0 0 0 0 0 0 100 40 5\ndomain0 MC 3 0 0\ncpu1 0 0 0 0 0 0 7 2 5\n";
        assert_eq!((run_delay(text), run_delay("version 17\n"), run_delay("cpu0 1\n")), (Some(42), None, None));
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
            assert_eq!(memory(text), None);
        }
        assert_eq!(interfaces("eth0: a b"), None);
        assert_eq!(disks("8 0 sda 1"), None);
    }
}
