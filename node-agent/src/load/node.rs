//! The counters of the node as a whole: of the machine, or, where a node is only a part of a machine (a lab), of
//! the control group that stands for it.

use super::{
    ReadError,
    cgroups::{Group, Hierarchies, parsed, quota},
    files::{Buffer, KernelFile},
    interfaces,
    kernel_text::{cgroup, proc},
    launcher_processes::identity_of_network,
    usage::{Counters, Cpu, Pressure, Waits},
};
use std::path::{Path, PathBuf};

/// What the node can give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// CPU, in cores.
    pub cores: f64,
    /// Memory in bytes, where the kernel tells.
    pub memory: Option<u64>,
}

/// The node's counters.
#[derive(Debug)]
pub(super) struct Node {
    /// The machine's `/proc/stat`: of a node that is a part of it, it still tells how many CPUs there are.
    stat: KernelFile,
    memory: KernelFile,
    network: KernelFile,
    network_path: PathBuf,
    chosen_interfaces: Vec<String>,
    figures_of: FiguresOf,
    limit: Option<f64>,
}

#[derive(Debug)]
enum FiguresOf {
    Machine { disks: KernelFile, waits: Option<KernelFile>, pressure: [Option<KernelFile>; 3] },
    Group(Group),
}

impl Node {
    /// Opens what is read of the machine behind `proc`, or of `group` on it.
    ///
    /// # Errors
    /// Names the file that can't be opened.
    pub(super) fn open(
        proc: &Path,
        group: Option<(&Hierarchies, &Path)>,
        chosen_interfaces: Vec<String>,
    ) -> Result<Self, ReadError> {
        let (figures_of, network_path, limit) = match group {
            Some((trees, path)) => {
                // Such a node has a network of its own, and the agent lives in it.
                (FiguresOf::Group(Group::open(trees, path)?), proc.join("self/net/dev"), quota(trees, path))
            }
            None => {
                let pressure = |name: &str| KernelFile::open_if_there(proc.join("pressure").join(name));
                let machine = FiguresOf::Machine {
                    disks: KernelFile::open(proc.join("diskstats"))?,
                    waits: KernelFile::open_if_there(proc.join("schedstat"))?,
                    pressure: [pressure("cpu")?, pressure("memory")?, pressure("io")?],
                };
                // The first process lives in the node's own network; our pod may have one of its own.
                let hosts = proc.join("1/net/dev");
                let network = if hosts.exists() { hosts } else { proc.join("net/dev") };
                (machine, network, None)
            }
        };
        Ok(Self {
            stat: KernelFile::open(proc.join("stat"))?,
            memory: KernelFile::open(proc.join("meminfo"))?,
            network: KernelFile::open(&network_path)?,
            network_path,
            chosen_interfaces,
            figures_of,
            limit,
        })
    }

    /// The counters as of now, what the node can give, and how many CPUs the machine has. `counts` tells whose bytes count by the block device's
    /// major number.
    ///
    /// # Errors
    /// Names the file that can't be read or understood.
    pub(super) fn read(
        &self,
        buffer: &mut Buffer,
        counts: impl Fn(u32) -> bool,
    ) -> Result<(Counters, Capacity, u32), ReadError> {
        let ticks = parsed(&self.stat, buffer, "no `cpu` line with eight figures", proc::cpu_ticks)?;
        let memory = parsed(&self.memory, buffer, "no MemTotal or MemAvailable", proc::memory)?;
        let network = parsed(&self.network, buffer, "an interface without figures", |text| {
            interfaces::of_node(text, &self.chosen_interfaces)
        })?;
        let machine_cores = f64::from(ticks.cpus);
        let cores = self.limit.map_or(machine_cores, |limit| limit.min(machine_cores));
        let capacity = Capacity { cores, memory: Some(memory.total) };
        let counters = match &self.figures_of {
            FiguresOf::Group(group) => Counters { network: Some(network), ..group.read(buffer, counts)? },
            FiguresOf::Machine { disks, waits, pressure: [cpu, memory_pressure, io] } => {
                let mut pressure = |file: &Option<KernelFile>| {
                    let some = cgroup::pressure_some;
                    file.as_ref().map(|file| parsed(file, buffer, "no `some … total=`", some)).transpose()
                };
                let pressure = Pressure { cpu: pressure(cpu)?, memory: pressure(memory_pressure)?, io: pressure(io)? };
                Counters {
                    cpu: Cpu::Ticks(ticks),
                    memory: Some(memory.used),
                    network: Some(network),
                    disk: Some(parsed(disks, buffer, "a disk without figures", proc::disks)?),
                    waits: match waits {
                        Some(file) => proc::run_delay(file.read(buffer)?).map(Waits::OfAll),
                        None => None,
                    },
                    throttled: None,
                    pressure,
                }
            }
        };
        Ok((counters, capacity, ticks.cpus))
    }

    /// What tells the node's own network from a pod's.
    pub(super) fn network_identity(&self) -> Option<u64> {
        identity_of_network(&self.network_path)
    }
}
