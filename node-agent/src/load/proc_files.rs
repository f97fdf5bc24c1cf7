//! What the kernel says of the node as a whole.

use super::{
    LoadReader, Measured, ReadError,
    proc_text::{self, CpuTicks, Traffic},
};
use miyako_api::wire::load::Usage;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Reads the node's own figures from `/proc`. It knows nothing of VMs.
#[derive(Debug)]
pub struct ProcFiles {
    root: PathBuf,
    before: Option<Counters>,
}

#[derive(Debug, Clone, Copy)]
struct Counters {
    at: Duration,
    cpu: CpuTicks,
    network: Traffic,
    disks: Traffic,
}

impl ProcFiles {
    /// Reads below `root`: `/proc`, or where the host's is mounted.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), before: None }
    }

    fn parse<T>(&self, file: &str, what: &'static str, parser: impl Fn(&str) -> Option<T>) -> Result<T, ReadError> {
        let path = self.root.join(file);
        let text = read(&path)?;
        parser(&text).ok_or(ReadError::Format { path, what })
    }
}

fn read(path: &Path) -> Result<String, ReadError> {
    fs::read_to_string(path).map_err(|source| ReadError::File { path: path.to_owned(), source })
}

impl LoadReader for ProcFiles {
    fn read(&mut self, now: Duration) -> Result<Option<Measured>, ReadError> {
        // The first process lives in the node's own network; our pod may have one of its own.
        let host_network = "1/net/dev";
        let network_file = if self.root.join(host_network).exists() { host_network } else { "net/dev" };
        let counters = Counters {
            at: now,
            cpu: self.parse("stat", "no `cpu` line with eight figures", proc_text::cpu_ticks)?,
            network: self.parse(network_file, "an interface without figures", proc_text::network)?,
            disks: self.parse("diskstats", "a disk without figures", proc_text::disks)?,
        };
        let memory_bytes = self.parse("meminfo", "no MemTotal or MemAvailable", proc_text::memory_used)?;
        let before = self.before.replace(counters);
        Ok(before.map(|before| Measured { usage: usage(&before, &counters, memory_bytes), vms: Vec::new() }))
    }
}

fn usage(before: &Counters, now: &Counters, memory_bytes: u64) -> Usage {
    let seconds = now.at.saturating_sub(before.at).as_secs_f64().max(1e-3);
    // A counter that went back (an interface was removed) says nothing about this second.
    let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
    let busy = now.cpu.busy.saturating_sub(before.cpu.busy) as f64;
    let all = now.cpu.all.saturating_sub(before.cpu.all) as f64;
    Usage {
        // As a share of all ticks it needs no clock and no length of a tick.
        cpu_cores: if all > 0.0 { busy / all * f64::from(now.cpu.cpus) } else { 0.0 },
        memory_bytes,
        network_receive_bytes_per_second: rate(before.network.inward, now.network.inward),
        network_transmit_bytes_per_second: rate(before.network.outward, now.network.outward),
        disk_read_bytes_per_second: rate(before.disks.inward, now.disks.inward),
        disk_write_bytes_per_second: rate(before.disks.outward, now.disks.outward),
        cpu_wait_cores: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, busy: u64, idle: u64, received: u64, sectors: u64) {
        let stat = format!("cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1\ncpu1 1\ncpu2 1\ncpu3 1\n");
        fs::create_dir_all(root.join("net")).unwrap();
        fs::write(root.join("stat"), stat).unwrap();
        fs::write(root.join("meminfo"), "MemTotal: 4096 kB\nMemAvailable: 1024 kB\n").unwrap();
        fs::write(root.join("net/dev"), format!("eth0: {received} 1 0 0 0 0 0 0 0 1 0 0 0 0 0 0\n")).unwrap();
        fs::write(root.join("diskstats"), format!("8 0 sda 1 0 {sectors} 1 1 0 0 1 0 1 1\n")).unwrap();
    }

    #[test]
    fn figures_are_what_changed_between_two_readings() {
        let root = tempfile::tempdir().unwrap();
        let mut reader = ProcFiles::new(root.path());
        write(root.path(), 1000, 9000, 0, 0);
        assert_eq!(reader.read(Duration::from_secs(10)).unwrap(), None);
        write(root.path(), 1300, 9100, 4000, 8);
        let usage = reader.read(Duration::from_secs(12)).unwrap().unwrap().usage;
        // 300 of 400 ticks of four CPUs.
        assert!((usage.cpu_cores - 3.0).abs() < 1e-9);
        assert_eq!(usage.memory_bytes, 3072 * 1024);
        assert!((usage.network_receive_bytes_per_second - 2000.0).abs() < 1e-9);
        assert!((usage.disk_read_bytes_per_second - 2048.0).abs() < 1e-9);
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let error = ProcFiles::new(root.path()).read(Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("stat"), "{error}");
    }

    #[test]
    fn this_machines_own_files_are_understood() {
        let mut reader = ProcFiles::new("/proc");
        reader.read(Duration::ZERO).unwrap();
        assert!(reader.read(Duration::from_secs(1)).unwrap().unwrap().usage.memory_bytes > 0);
    }
}
