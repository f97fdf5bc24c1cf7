//! Files of control groups: version 2 (kernel documentation, `admin-guide/cgroup-v2.rst`) and version 1
//! (`admin-guide/cgroup-v1/{cpuacct,memory,blkio-controller}.rst`).

use super::proc::Traffic;

/// A file that holds one number: `cpuacct.usage`, `memory.current`, `memory.usage_in_bytes`.
pub(in crate::load) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The figure of a flat keyed file: `cpu.stat`, `memory.stat`.
pub(in crate::load) fn keyed(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    number(value)
}

/// The CPU that a quota allows, in cores: `cpu.max` as `quota period`, both in microseconds. No quota is `None`.
pub(in crate::load) fn cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    cores(number(quota)?, number(period)?)
}

/// The same of version 1, from `cpu.cfs_quota_us` (-1 for none) and `cpu.cfs_period_us`.
pub(in crate::load) fn cfs_quota(quota: &str, period: &str) -> Option<f64> {
    cores(number(quota)?, number(period)?)
}

fn cores(quota: u64, period: u64) -> Option<f64> {
    (period > 0).then(|| quota as f64 / period as f64)
}

/// `io.stat`: the bytes of all block devices whose major number `counts`.
pub(in crate::load) fn io_stat(text: &str, counts: impl Fn(u32) -> bool) -> Option<Traffic> {
    let mut traffic = Traffic::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut fields = line.split_ascii_whitespace();
        let Some(major) = major(fields.next()?) else {
            // A device that is gone leaves "(unknown)" behind.
            continue;
        };
        if !counts(major) {
            continue;
        }
        for field in fields {
            if let Some(read) = field.strip_prefix("rbytes=") {
                traffic.inward = traffic.inward.saturating_add(number(read)?);
            } else if let Some(written) = field.strip_prefix("wbytes=") {
                traffic.outward = traffic.outward.saturating_add(number(written)?);
            }
        }
    }
    Some(traffic)
}

/// `blkio.throttle.io_service_bytes_recursive`: lines as `8:0 Read 4096`, and a `Total` at the end. None where no
/// device is named: since Linux 6.10 these bytes are counted only where a limit is set.
pub(in crate::load) fn io_service_bytes(text: &str, counts: impl Fn(u32) -> bool) -> Option<Traffic> {
    let mut traffic = None;
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(device), Some(operation), Some(bytes)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if !major(device).is_some_and(&counts) {
            continue;
        }
        let traffic = traffic.get_or_insert(Traffic::default());
        let side = match operation {
            "Read" => &mut traffic.inward,
            "Write" => &mut traffic.outward,
            _ => continue,
        };
        *side = side.saturating_add(number(bytes)?);
    }
    traffic
}

fn major(device: &str) -> Option<u32> {
    device.split_once(':')?.0.parse().ok()
}

/// Block devices that are made of others or of memory, by the names of `/proc/devices`: their bytes are counted
/// where they end, or never reach a disk.
const VIRTUAL_DRIVERS: [&str; 9] = ["ramdisk", "loop", "md", "mdp", "device-mapper", "zram", "bcache", "drbd", "sr"];

/// `/proc/devices`: the major numbers of virtual block devices.
pub(in crate::load) fn virtual_majors(text: &str) -> Vec<u32> {
    let blocks = text.lines().skip_while(|line| !line.starts_with("Block devices:")).skip(1);
    blocks
        .filter_map(|line| {
            let (major, driver) = line.trim().split_once(' ')?;
            VIRTUAL_DRIVERS.contains(&driver.trim()).then(|| major.parse().ok())?
        })
        .collect()
}

/// A PSI file (`accounting/psi.rst`): for how many microseconds in all at least one task waited.
pub(in crate::load) fn pressure_some(text: &str) -> Option<u64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = some.split_ascii_whitespace().find_map(|field| field.strip_prefix("total="))?;
    number(total)
}

/// `cgroup.procs`: the processes, those left out that are not visible from here (0).
pub(in crate::load) fn processes(text: &str) -> impl Iterator<Item = u32> {
    text.lines().filter_map(|line| line.trim().parse().ok()).filter(|&pid| pid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_understood() {
        let cpu =
            "usage_usec 4000\nuser_usec 3000\nsystem_usec 1000\nnr_periods 2\nnr_throttled 1\nthrottled_usec 77\n";
        assert_eq!(
            (keyed(cpu, "usage_usec"), keyed(cpu, "throttled_usec"), keyed(cpu, "usage")),
            (Some(4000), Some(77), None)
        );
        assert_eq!((cpu_max("150000 100000\n"), cpu_max("max 100000\n")), (Some(1.5), None));
        let io = "8:0 rbytes=100 wbytes=200 rios=1 wios=2 dbytes=0 dios=0\n253:0 rbytes=7 wbytes=7\n8:16 \n(unknown) rbytes=1\n";
        assert_eq!(io_stat(io, |major| major != 253), Some(Traffic { inward: 100, outward: 200 }));
        let pressure =
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n";
        assert_eq!(pressure_some(pressure), Some(1234));
    }

    #[test]
    fn version_1_is_understood() {
        assert_eq!((number("123456789\n"), number("-1\n"), number("")), (Some(123_456_789), None, None));
        assert_eq!((cfs_quota("50000\n", "100000\n"), cfs_quota("-1\n", "100000\n")), (Some(0.5), None));
        assert_eq!(cfs_quota("50000", "0"), None);
        let io =
            "254:0 Read 100\n254:0 Write 200\n254:0 Sync 300\n254:0 Total 300\n7:0 Read 5\n7:0 Write 5\nTotal 310\n";
        assert_eq!(io_service_bytes(io, |major| major != 7), Some(Traffic { inward: 100, outward: 200 }));
        assert_eq!(io_service_bytes("Total 0\n", |_| true), None);
        assert_eq!(processes("12\n0\n13\n\n").collect::<Vec<_>>(), [12, 13]);
    }

    #[test]
    fn devices_made_of_others_are_known_by_their_driver() {
        let text = "Character devices:\n  7 vcs\n\nBlock devices:\n  7 loop\n  8 sd\n  9 md\n253 device-mapper\n254 virtblk\n259 blkext\n";
        assert_eq!(virtual_majors(text), [7, 9, 253]);
    }
}
