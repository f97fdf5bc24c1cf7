//! One control group's counters.

use super::{
    Hierarchies,
    hierarchy::{Version, in_tree},
};
use crate::load::{
    ReadError,
    files::{Buffer, FileError, KernelFile},
    kernel_text::cgroup as text,
    usage::{Counters, Cpu, Pressure},
};
use std::path::Path;

/// The open files of a group. When the group is removed they say so, even if another of the same name comes.
#[derive(Debug)]
pub(crate) struct Group {
    version: Version,
    cpu: KernelFile,
    quota: Option<KernelFile>,
    memory: Option<KernelFile>,
    memory_parts: Option<KernelFile>,
    disk: Option<KernelFile>,
    pressure: [Option<KernelFile>; 3],
}

impl Group {
    /// Opens the files of `group`. What the machine does not count is left out.
    ///
    /// # Errors
    /// When it is gone, or its files may not be read.
    pub(crate) fn open(trees: &Hierarchies, group: &Path) -> Result<Self, FileError> {
        let file = |tree: &Option<std::path::PathBuf>, name: &str| match tree {
            Some(tree) => KernelFile::open_if_there(in_tree(tree, group).join(name)),
            None => Ok(None),
        };
        let names = match trees.version {
            Version::One => Names {
                cpu: "cpuacct.usage",
                memory: "memory.usage_in_bytes",
                disk: "blkio.throttle.io_service_bytes_recursive",
            },
            Version::Two => Names { cpu: "cpu.stat", memory: "memory.current", disk: "io.stat" },
        };
        Ok(Self {
            version: trees.version,
            cpu: KernelFile::open(in_tree(&trees.accounting, group).join(names.cpu))?,
            quota: match trees.version {
                Version::One => file(&trees.quota, "cpu.stat")?,
                Version::Two => None,
            },
            memory: file(&trees.memory, names.memory)?,
            memory_parts: file(&trees.memory, "memory.stat")?,
            disk: file(&trees.disk, names.disk)?,
            pressure: [
                file(&trees.pressure, "cpu.pressure")?,
                file(&trees.pressure, "memory.pressure")?,
                file(&trees.pressure, "io.pressure")?,
            ],
        })
    }

    /// The counters as of now, without network and waiting tasks, which belong to processes. `counts` tells whose
    /// bytes count by the block device's major number.
    ///
    /// # Errors
    /// When the group is gone or a file of it is not as the kernel writes it.
    pub(crate) fn read(&self, buffer: &mut Buffer, counts: impl Fn(u32) -> bool) -> Result<Counters, ReadError> {
        let (cpu, throttled) = self.read_cpu(buffer)?;
        let [cpu_pressure, memory_pressure, io_pressure] = &self.pressure;
        let mut pressure = |file: &Option<KernelFile>| {
            file.as_ref().map(|file| parsed(file, buffer, "no `some … total=`", text::pressure_some)).transpose()
        };
        let pressure =
            Pressure { cpu: pressure(cpu_pressure)?, memory: pressure(memory_pressure)?, io: pressure(io_pressure)? };
        let disk = match (&self.disk, self.version) {
            (None, _) => None,
            (Some(file), Version::One) => text::io_service_bytes(file.read(buffer)?, &counts),
            (Some(file), Version::Two) => {
                Some(parsed(file, buffer, "bytes that are no number", |text| text::io_stat(text, &counts))?)
            }
        };
        Ok(Counters { cpu, memory: self.read_memory(buffer)?, network: None, disk, waits: None, throttled, pressure })
    }

    fn read_cpu(&self, buffer: &mut Buffer) -> Result<(Cpu, Option<u64>), ReadError> {
        Ok(match self.version {
            Version::One => {
                let used = parsed(&self.cpu, buffer, "not a number", text::number)?;
                let throttled = match &self.quota {
                    Some(file) => text::keyed(file.read(buffer)?, "throttled_time"),
                    None => None,
                };
                (Cpu::Nanos(used), throttled)
            }
            Version::Two => {
                let both = |text: &str| {
                    let micros = |key| text::keyed(text, key).map(|micros| micros.saturating_mul(1000));
                    Some((Cpu::Nanos(micros("usage_usec")?), micros("throttled_usec")))
                };
                parsed(&self.cpu, buffer, "no `usage_usec`", both)?
            }
        })
    }

    /// Memory in use as kubelets count it (the working set): without what the kernel would drop first.
    fn read_memory(&self, buffer: &mut Buffer) -> Result<Option<u64>, ReadError> {
        let Some(file) = &self.memory else { return Ok(None) };
        let used = parsed(file, buffer, "not a number", text::number)?;
        let key = match self.version {
            Version::One => "total_inactive_file",
            Version::Two => "inactive_file",
        };
        let droppable = match &self.memory_parts {
            Some(file) => text::keyed(file.read(buffer)?, key).unwrap_or(0),
            None => 0,
        };
        Ok(Some(used.saturating_sub(droppable)))
    }
}

struct Names {
    cpu: &'static str,
    memory: &'static str,
    disk: &'static str,
}

/// Reads and parses a file.
pub(in crate::load) fn parsed<T>(
    file: &KernelFile,
    buffer: &mut Buffer,
    what: &'static str,
    parser: impl Fn(&str) -> Option<T>,
) -> Result<T, ReadError> {
    parser(file.read(buffer)?).ok_or_else(|| ReadError::Format { path: file.path().to_owned(), what })
}

/// The CPU that a quota leaves a group, in cores; none where it has no quota.
pub(crate) fn quota(trees: &Hierarchies, group: &Path) -> Option<f64> {
    let directory = in_tree(trees.quota.as_ref()?, group);
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
    match trees.version {
        Version::One => text::cfs_quota(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?),
        Version::Two => text::cpu_max(&read("cpu.max")?),
    }
}
