//! The processes of a launcher pod: its QEMU's tasks, and its network.

use super::{
    ReadError,
    cgroups::parsed,
    files::{Buffer, FileError, KernelFile},
    interfaces::{self, Interfaces},
    kernel_text::{cgroup, proc::Traffic, task},
    usage::Waits,
};
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// How often the processes are looked through again: guests' CPUs are plugged now and then.
const AGAIN: Duration = Duration::from_secs(10);

/// The same while there is no QEMU yet: it starts within seconds of its launcher.
const AGAIN_WITHOUT_QEMU: Duration = Duration::from_secs(2);

/// Groups below a pod's: containers, and perhaps groups within them.
const DEEPEST: usize = 4;

/// Tasks of a QEMU that are followed; its guest's CPUs come first.
const MOST_TASKS: usize = 512;

/// What is read of a launcher's processes.
#[derive(Debug, Default)]
pub(super) struct LauncherProcesses {
    looked: Option<Duration>,
    network: Option<KernelFile>,
    /// The QEMU's `/proc/<pid>/io`, where it may be read.
    disk: Option<KernelFile>,
    /// The `schedstat` of the tasks that run the guest.
    tasks: Vec<(u32, KernelFile)>,
}

impl LauncherProcesses {
    /// Looks the processes through if it is time to. `group` is the directory of the pod's group, `node_network` the
    /// identity of the node's own network.
    pub(super) fn look(&mut self, now: Duration, proc: &Path, group: &Path, node_network: Option<u64>) {
        let again = if self.tasks.is_empty() { AGAIN_WITHOUT_QEMU } else { AGAIN };
        if self.looked.is_some_and(|looked| now.saturating_sub(looked) < again) {
            return;
        }
        self.looked = Some(now);
        let mut pids = Vec::new();
        processes_below(group, 0, &mut pids);
        let comm = |pid: u32| fs::read_to_string(proc.join(format!("{pid}/comm"))).ok();
        let qemu = pids.iter().copied().find(|&pid| comm(pid).is_some_and(|comm| task::is_qemu(&comm)));
        self.network = qemu.into_iter().chain(pids.iter().copied()).find_map(|pid| network(proc, pid, node_network));
        self.disk = qemu.and_then(|pid| KernelFile::open(proc.join(format!("{pid}/io"))).ok());
        let found = qemu.map(|pid| guest_tasks(&proc.join(format!("{pid}/task")))).unwrap_or_default();
        // What is open already stays open.
        self.tasks.retain(|(id, _)| found.iter().any(|(found, _)| found == id));
        for (id, path) in found {
            if !self.tasks.iter().any(|(known, _)| *known == id)
                && let Ok(file) = KernelFile::open(path)
            {
                self.tasks.push((id, file));
            }
        }
    }

    /// The bytes of the launcher's interfaces. None without a process, or in the node's own network.
    pub(super) fn read_network(&mut self, buffer: &mut Buffer) -> Result<Option<Interfaces>, ReadError> {
        let Some(file) = &self.network else { return Ok(None) };
        match parsed(file, buffer, "an interface without figures", interfaces::of_launcher) {
            Err(ReadError::File(error)) if error.vanished() => {
                // Another process of the pod may still tell.
                (self.network, self.looked) = (None, None);
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    /// What the QEMU read and wrote, where its control group does not tell. Without the right to read it there is
    /// nothing to tell, and that is no error.
    pub(super) fn read_disk(&self, buffer: &mut Buffer) -> Option<Traffic> {
        self.disk.as_ref().and_then(|file| task::io(file.read(buffer).ok()?))
    }

    /// For how long the guest's CPUs waited for a core. None without a QEMU, or where the kernel does not tell.
    pub(super) fn read_waits(&mut self, buffer: &mut Buffer) -> Result<Option<Waits>, FileError> {
        let mut waits = Vec::with_capacity(self.tasks.len());
        let mut gone = false;
        for (id, file) in &self.tasks {
            match file.read(buffer) {
                Ok(text) => waits.extend(task::schedstat(text).map(|(_, waited)| (*id, waited))),
                Err(error) if error.vanished() => gone = true,
                Err(error) => return Err(error),
            }
        }
        if gone {
            self.looked = None;
        }
        Ok(Some(waits).filter(|waits| !waits.is_empty()).map(Waits::OfTasks))
    }
}

/// The processes of a group and of those below it.
pub(super) fn processes_below(group: &Path, depth: usize, pids: &mut Vec<u32>) {
    if let Ok(text) = fs::read_to_string(group.join("cgroup.procs")) {
        pids.extend(cgroup::processes(&text));
    }
    if depth < DEEPEST
        && let Ok(entries) = fs::read_dir(group)
    {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            processes_below(&entry.path(), depth + 1, pids);
        }
    }
}

/// The network of a process, unless it is the node's own.
fn network(proc: &Path, pid: u32, node_network: Option<u64>) -> Option<KernelFile> {
    let path = proc.join(format!("{pid}/net/dev"));
    let identity = identity_of_network(&path)?;
    if Some(identity) == node_network { None } else { KernelFile::open(path).ok() }
}

/// What tells one network namespace from another: the inode of its `/proc/<pid>/net/dev`. Unlike `/proc/<pid>/ns/net`
/// it may be looked at without the right to trace the process.
pub(super) fn identity_of_network(net_dev: &Path) -> Option<u64> {
    Some(fs::metadata(net_dev).ok()?.ino())
}

/// The tasks of a QEMU that run its guest, with the path of their `schedstat`; all of its tasks if they have no names.
fn guest_tasks(directory: &Path) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut tasks: Vec<_> = entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())))
        .map(|(id, path)| {
            let is_vcpu = fs::read_to_string(path.join("comm")).is_ok_and(|comm| task::is_vcpu(&comm));
            (id, is_vcpu, path.join("schedstat"))
        })
        .collect();
    if tasks.iter().any(|(_, is_vcpu, _)| *is_vcpu) {
        tasks.retain(|(_, is_vcpu, _)| *is_vcpu);
    }
    tasks.sort_unstable_by_key(|(id, ..)| *id);
    tasks.truncate(MOST_TASKS);
    tasks.into_iter().map(|(id, _, path)| (id, path)).collect()
}
