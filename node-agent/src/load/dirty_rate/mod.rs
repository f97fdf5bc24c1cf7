//! How fast a VM dirties its memory, estimated from the outside.
//!
//! Some pages of the guest's memory are hashed, and hashed again a little later; the share that changed, times the
//! memory, over the time. It is what QEMU's own `calc-dirty-rate` does in its mode `page-sampling` (QEMU's
//! `docs/devel/migration`, `migration/dirtyrate.c`: 512 pages per GiB). A page that was written many times counts
//! once, which is what a migration's round sees too.
//!
//! What else a host could do disturbs: soft-dirty bits (`/proc/<pid>/clear_refs`) write-protect all of the guest's
//! memory and throw its nested page tables away, KVM's dirty log is the migration's own, and idle page tracking
//! tells what was read, not what was written. Reading `/proc/<pid>/mem` sets no bit but `accessed` and stops nobody.
//! Pages that are not in memory are not read: they would be brought in from swap, or, while a post-copy migration
//! runs, from the source. While a migration runs in either direction nothing is read at all.
//!
//! It takes the right to trace the QEMU (root), so it is for people on the node and not for the DaemonSet.

mod guest_memory;
mod sample;

use super::{
    cgroups::{Hierarchies, pod_groups},
    kernel_reader::Sources,
    kernel_text::task,
    launcher_processes::processes_below,
    pods::Launchers,
};
use guest_memory::{GuestMemory, memory_regions};
use miyako_api::wire::MAX_VMS_PER_SAMPLE;
pub use sample::{DirtyRate, estimate};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Why there is no estimate.
#[derive(Debug, thiserror::Error)]
pub enum DirtyRateError {
    /// No launcher of such a VM is on this node.
    #[error("no launcher of VM {0} runs on this node; `miyako-agent load` lists those that do")]
    NoSuchVm(String),
    /// Its launcher has no QEMU.
    #[error("the launcher of VM {0} has no QEMU yet")]
    NoQemu(String),
    /// A migration runs.
    #[error("a migration of this VM is under way ({thread}); ask again when it is over")]
    Migrating {
        /// The QEMU's thread that tells.
        thread: String,
    },
    /// A file of the QEMU could not be read.
    #[error("could not read {}: {source}; it takes root on the node", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No mapping looks like a guest's memory.
    #[error("no part of the QEMU's memory looks like a guest's: none is writable and at least 64 MiB long")]
    NoGuestMemory,
}

/// The QEMU of `vm` (namespace/name) on this node.
///
/// # Errors
/// When it is not here.
pub fn qemu_of(sources: &Sources, launchers: &Launchers, vm: &str) -> Result<u32, DirtyRateError> {
    let missing = || DirtyRateError::NoSuchVm(vm.to_owned());
    let trees = Hierarchies::below(&sources.cgroup).ok_or_else(missing)?;
    let node_group = sources.node_cgroup.clone().unwrap_or_default();
    let root = trees.processes_of(&node_group);
    let groups = pod_groups(&root).map_err(|source| DirtyRateError::File { path: root.clone(), source })?;
    let known = launchers.now();
    let pods = known.iter().filter(|(_, launcher)| launcher.vm.to_string() == vm).take(MAX_VMS_PER_SAMPLE);
    let mut pids = Vec::new();
    let mut found = false;
    for group in pods.filter_map(|(pod, _)| groups.get(pod)) {
        found = true;
        processes_below(&root.join(group), 0, &mut pids);
    }
    let comm = |pid: &u32| fs::read_to_string(sources.proc.join(format!("{pid}/comm"))).unwrap_or_default();
    let qemu = pids.into_iter().find(|pid| task::is_qemu(&comm(pid)));
    if found { qemu.ok_or_else(|| DirtyRateError::NoQemu(vm.to_owned())) } else { Err(missing()) }
}

/// Estimates the dirty rate of a QEMU's guest over `period`.
///
/// # Errors
/// When a migration runs or begins meanwhile, or its memory may not be read.
pub async fn measure(proc: &Path, qemu: u32, period: Duration) -> Result<DirtyRate, DirtyRateError> {
    let directory = proc.join(qemu.to_string());
    not_migrating(&directory)?;
    let maps = directory.join("maps");
    let text = fs::read_to_string(&maps).map_err(|source| DirtyRateError::File { path: maps, source })?;
    let regions = memory_regions(&text);
    if regions.is_empty() {
        return Err(DirtyRateError::NoGuestMemory);
    }
    let memory = GuestMemory::open(&directory)?;
    let pages = sample::pages(&regions, u64::from(qemu));
    let before = memory.hashes(&pages)?;
    let begun = Instant::now();
    sleep(period).await;
    not_migrating(&directory)?;
    let elapsed = begun.elapsed();
    let after = memory.hashes(&pages)?;
    // What began while we read is not ours to judge.
    not_migrating(&directory)?;
    let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    let bytes = regions.iter().map(|region| region.end - region.start).sum();
    Ok(estimate(pages.len(), changed, bytes, elapsed))
}

/// Refuses while one of a QEMU's threads carries a migration, as a source or as a target.
fn not_migrating(directory: &Path) -> Result<(), DirtyRateError> {
    let path = directory.join("task");
    let tasks = fs::read_dir(&path).map_err(|source| DirtyRateError::File { path, source })?;
    for task in tasks.flatten() {
        let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if task::is_migrating(&comm) {
            return Err(DirtyRateError::Migrating { thread: comm.trim_end().to_owned() });
        }
    }
    Ok(())
}
