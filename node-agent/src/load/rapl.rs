//! What the machine draws by its own account: RAPL, the energy counters of Intel's and AMD's processors, as the kernel's
//! power capping framework shows them (`Documentation/power/powercap/powercap.rst`).
//!
//! ```text
//! /sys/class/powercap/intel-rapl:0/{name = package-0, energy_uj, max_energy_range_uj}
//! /sys/class/powercap/intel-rapl:0:0/{name = core, …}        part of package-0
//! /sys/class/powercap/intel-rapl:0:1/{name = dram, …}        beside package-0
//! /sys/class/powercap/intel-rapl:1/{name = psys, …}          the whole platform, on some machines
//! ```
//!
//! Where there is `psys` it is taken alone; else packages and their memory. That is not the whole machine: what disks,
//! fans and the power supply draw, its NodePowerClass says.

use super::files::{Buffer, FileError, KernelFile};
use std::{fs, path::Path, time::Duration};

/// No longer time between two readings: a counter may have wrapped more than once.
const LONGEST: Duration = Duration::from_secs(60);

/// The machine's counters.
#[derive(Debug, Default)]
pub(super) struct Rapl {
    zones: Vec<Zone>,
    before: Option<(Duration, Vec<u64>)>,
}

#[derive(Debug)]
struct Zone {
    energy: KernelFile,
    /// Where the counter begins anew, in microjoules.
    range: u64,
}

impl Rapl {
    /// Opens what counts; nothing where the machine has no such counters.
    ///
    /// # Errors
    /// When there are counters and they may not be read.
    pub(super) fn open(powercap: &Path) -> Result<Self, FileError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(powercap).into_iter().flatten().flatten() {
            let Ok(zone) = entry.file_name().into_string() else { continue };
            if let Some(name) = text(&powercap.join(&zone).join("name")) {
                names.push((zone, name));
            }
        }
        names.sort();
        let mut zones = Vec::new();
        for zone in counted(&names) {
            let directory = powercap.join(zone);
            let range = text(&directory.join("max_energy_range_uj")).and_then(|range| range.parse().ok()).unwrap_or(0);
            zones.push(Zone { energy: KernelFile::open(directory.join("energy_uj"))?, range });
        }
        Ok(Self { zones, before: None })
    }

    /// The watts since the reading before; none where a counter can't be read or makes no sense.
    pub(super) fn read(&mut self, now: Duration, buffer: &mut Buffer) -> Option<f64> {
        if self.zones.is_empty() {
            return None;
        }
        let read = |zone: &Zone, buffer: &mut Buffer| zone.energy.read(buffer).ok()?.trim().parse::<u64>().ok();
        let counters: Option<Vec<u64>> = self.zones.iter().map(|zone| read(zone, buffer)).collect();
        let before = std::mem::replace(&mut self.before, counters.clone().map(|counters| (now, counters)));
        let (then, before) = before?;
        let elapsed = now.checked_sub(then)?;
        let drawn = before.iter().zip(counters?).zip(&self.zones);
        let microjoules: u64 =
            drawn.map(|((before, after), zone)| used(*before, after, zone.range)).sum::<Option<_>>()?;
        watts(microjoules, elapsed)
    }
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Which of the zones, by directory and name, are counted: none is part of another. Those of another interface to the
/// same counters (`intel-rapl-mmio`) are left out.
fn counted(zones: &[(String, String)]) -> Vec<&str> {
    let own = |zone: &str| zone.strip_prefix("intel-rapl:").is_some_and(|rest| !rest.is_empty());
    let of = |wanted: &dyn Fn(&str) -> bool| -> Vec<&str> {
        zones.iter().filter(|(zone, name)| own(zone) && wanted(name)).map(|(zone, _)| zone.as_str()).collect()
    };
    let platform = of(&|name| name == "psys");
    if platform.is_empty() { of(&|name| name.starts_with("package-") || name == "dram") } else { platform }
}

/// Microjoules between two readings of a counter that begins anew after `range`.
fn used(before: u64, after: u64, range: u64) -> Option<u64> {
    if after >= before {
        return Some(after - before);
    }
    (before <= range).then(|| range - before)?.checked_add(after)
}

/// Average power; none over no time, or over so long that a counter may have wrapped unseen.
fn watts(microjoules: u64, elapsed: Duration) -> Option<f64> {
    let measurable = !elapsed.is_zero() && elapsed <= LONGEST;
    measurable.then(|| microjoules as f64 / 1e6 / elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes a zone as the kernel shows it.
    fn zone(powercap: &Path, directory: &str, name: &str, energy: &str, range: &str) {
        let directory = powercap.join(directory);
        fs::create_dir_all(&directory).unwrap();
        for (file, text) in [("name", name), ("energy_uj", energy), ("max_energy_range_uj", range)] {
            fs::write(directory.join(file), format!("{text}\n")).unwrap();
        }
    }

    /// A server with two sockets: packages with cores and memory, and the second interface to the first package.
    fn server() -> tempfile::TempDir {
        let powercap = tempfile::tempdir().unwrap();
        let root = powercap.path();
        fs::create_dir_all(root.join("intel-rapl")).unwrap();
        zone(root, "intel-rapl:0", "package-0", "1000000", "262143328850");
        zone(root, "intel-rapl:0:0", "core", "900000", "262143328850");
        zone(root, "intel-rapl:0:1", "dram", "50000000", "65712999613");
        zone(root, "intel-rapl:1", "package-1", "2000000", "262143328850");
        zone(root, "intel-rapl-mmio:0", "package-0", "1000000", "262143328850");
        powercap
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn packages_and_memory_are_added_up_and_nothing_twice() {
        let powercap = server();
        let mut rapl = Rapl::open(powercap.path()).unwrap();
        let mut buffer = Buffer::default();
        assert_eq!(rapl.read(seconds(1), &mut buffer), None, "nothing to compare with");
        zone(powercap.path(), "intel-rapl:0", "package-0", "61000000", "262143328850");
        zone(powercap.path(), "intel-rapl:0:0", "core", "50000000", "262143328850");
        zone(powercap.path(), "intel-rapl:0:1", "dram", "58000000", "65712999613");
        zone(powercap.path(), "intel-rapl:1", "package-1", "54000000", "262143328850");
        assert_eq!(rapl.read(seconds(3), &mut buffer), Some(60.0), "60, 8 and 52 J in two seconds");
        // A counter that begins anew.
        zone(powercap.path(), "intel-rapl:0:1", "dram", "8000000", "65712999613");
        let watts = rapl.read(seconds(4), &mut buffer).unwrap();
        assert!((watts - 65_662.999_613).abs() < 1e-3, "{watts}: the operator does not believe this one");
    }

    #[test]
    fn the_platforms_own_counter_stands_alone() {
        let powercap = server();
        zone(powercap.path(), "intel-rapl:2", "psys", "0", "262143328850");
        let mut rapl = Rapl::open(powercap.path()).unwrap();
        let mut buffer = Buffer::default();
        rapl.read(seconds(0), &mut buffer);
        zone(powercap.path(), "intel-rapl:2", "psys", "75000000", "262143328850");
        assert_eq!(rapl.read(seconds(1), &mut buffer), Some(75.0));
    }

    #[test]
    fn without_counters_or_with_broken_ones_nothing_is_said() {
        let mut buffer = Buffer::default();
        let nowhere = tempfile::tempdir().unwrap();
        for missing in [nowhere.path().to_owned(), nowhere.path().join("missing")] {
            let mut rapl = Rapl::open(&missing).unwrap();
            assert_eq!((rapl.read(seconds(0), &mut buffer), rapl.read(seconds(1), &mut buffer)), (None, None));
        }
        let powercap = server();
        let mut rapl = Rapl::open(powercap.path()).unwrap();
        rapl.read(seconds(0), &mut buffer);
        for broken in ["", "-5", "NaN", "99999999999999999999", "12 34"] {
            zone(powercap.path(), "intel-rapl:1", "package-1", broken, "1");
            assert_eq!(rapl.read(seconds(1), &mut buffer), None, "{broken:?}");
        }
        zone(powercap.path(), "intel-rapl:1", "package-1", "2000000", "1");
        assert_eq!(rapl.read(seconds(2), &mut buffer), None, "the reading before was none");
        assert_eq!(rapl.read(seconds(3), &mut buffer), Some(0.0));
        assert_eq!(rapl.read(seconds(3), &mut buffer), None, "over no time");
        assert_eq!(rapl.read(seconds(300), &mut buffer), None, "a counter may have wrapped more than once");
    }

    proptest! {
        #[test]
        fn no_counters_make_it_panic_or_negative(before: u64, after: u64, range: u64, millis in 0_u64..100_000) {
            if let Some(microjoules) = used(before, after, range) {
                let watts = watts(microjoules, Duration::from_millis(millis));
                prop_assert!(watts.is_none_or(|watts| watts.is_finite() && watts >= 0.0));
            }
        }

        #[test]
        fn a_wrapped_counter_counts_on(range in 1_u64..u64::MAX / 2, before: u64, drawn: u64) {
            let (before, drawn) = (before % (range + 1), drawn % range);
            let after = if before + drawn <= range { before + drawn } else { before + drawn - range };
            prop_assume!(before + drawn <= range || after < before);
            prop_assert_eq!(used(before, after, range), Some(drawn));
        }
    }
}
