//! Cgroups of both versions, as far as the lab needs them: CPU quotas, and who is inside.

use super::error::NodeError;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The controllers whose figures an agent reads.
const CONTROLLERS_V1: [&str; 4] = ["cpu", "cpuacct", "memory", "blkio"];
const CONTROLLERS_V2: [&str; 3] = ["cpu", "memory", "io"];
/// The kernel's default: a quota is counted anew every 100 ms.
const PERIOD_MICROSECONDS: u32 = 100_000;
/// How long killed processes may take to be gone on a busy machine.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// Where this machine's cgroups are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cgroups {
    /// A hierarchy for each controller: its name and where it is mounted.
    V1(Vec<(&'static str, PathBuf)>),
    /// One hierarchy for all.
    V2(PathBuf),
}

/// One cgroup, in every hierarchy.
#[derive(Debug, Clone)]
pub(super) struct Group {
    cgroups: Cgroups,
    path: PathBuf,
}

impl Cgroups {
    /// Looks where they are mounted.
    pub(super) fn find() -> Result<Self, NodeError> {
        let mounts = fs::read_to_string("/proc/mounts").map_err(NodeError::file("reading", "/proc/mounts"))?;
        Self::among(&mounts).ok_or(NodeError::NoCgroups("neither version's CPU controller is mounted"))
    }

    fn among(mounts: &str) -> Option<Self> {
        let mut v1 = Vec::new();
        let mut v2 = None;
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let &[_, place, kind, options, ..] = fields.as_slice() else { continue };
            match kind {
                "cgroup" => {
                    let options: Vec<&str> = options.split(',').collect();
                    let held = CONTROLLERS_V1.into_iter().filter(|controller| options.contains(controller));
                    v1.extend(held.map(|controller| (controller, PathBuf::from(place))));
                }
                "cgroup2" => v2 = Some(PathBuf::from(place)),
                _ => {}
            }
        }
        // With both mounted, the controllers are where the first version has them.
        if v1.iter().any(|(controller, _)| *controller == "cpu") {
            return Some(Self::V1(v1));
        }
        v2.map(Self::V2)
    }

    /// A cgroup by its path below the mount; it need not exist.
    pub(super) fn group(&self, path: &str) -> Group {
        Group { cgroups: self.clone(), path: PathBuf::from(path) }
    }
}

impl Group {
    /// One below it.
    pub(super) fn child(&self, name: &str) -> Self {
        Self { cgroups: self.cgroups.clone(), path: self.path.join(name) }
    }

    /// Its folder in each hierarchy. A hierarchy with several controllers counts once.
    pub(super) fn folders(&self) -> BTreeSet<PathBuf> {
        match &self.cgroups {
            Cgroups::V1(mounts) => mounts.iter().map(|(_, place)| place.join(&self.path)).collect(),
            Cgroups::V2(place) => BTreeSet::from([place.join(&self.path)]),
        }
    }

    /// Makes it, with everything above it.
    pub(super) fn create(&self) -> Result<(), NodeError> {
        for folder in self.folders() {
            fs::create_dir_all(&folder).map_err(NodeError::file("creating", folder))?;
        }
        if let Cgroups::V2(place) = &self.cgroups {
            // Each level hands its controllers down to the next.
            let wanted: String = CONTROLLERS_V2.iter().map(|controller| format!("+{controller} ")).collect();
            let mut above = place.clone();
            for level in self.path.iter() {
                write(&above.join("cgroup.subtree_control"), wanted.trim())?;
                above.push(level);
            }
        }
        Ok(())
    }

    /// Limits everything inside to so many cores together.
    pub(super) fn set_quota(&self, cores: f64) -> Result<(), NodeError> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a few cores
        let quota = (cores * f64::from(PERIOD_MICROSECONDS)).max(1000.0) as u32;
        match &self.cgroups {
            Cgroups::V1(_) => {
                let folder = self.folder_of("cpu")?;
                write(&folder.join("cpu.cfs_period_us"), &PERIOD_MICROSECONDS.to_string())?;
                write(&folder.join("cpu.cfs_quota_us"), &quota.to_string())
            }
            Cgroups::V2(place) => {
                write(&place.join(&self.path).join("cpu.max"), &format!("{quota} {PERIOD_MICROSECONDS}"))
            }
        }
    }

    /// Lets everything inside go before what else runs on this machine, as far as quotas allow: a machine of its own would
    /// not wait for a compiler.
    pub(super) fn set_first(&self) -> Result<(), NodeError> {
        match &self.cgroups {
            // 64 times the default.
            Cgroups::V1(_) => write(&self.folder_of("cpu")?.join("cpu.shares"), "65536"),
            Cgroups::V2(place) => write(&place.join(&self.path).join("cpu.weight"), "6400"),
        }
    }

    /// Stops everything inside and below where it is, or lets it go on. By signals: a process that the first version's
    /// freezer holds can't even be killed.
    pub(super) fn set_stopped(&self, stopped: bool) {
        let signal = if stopped { Signal::STOP } else { Signal::CONT };
        let mut told = BTreeSet::new();
        loop {
            // What a process started before it was stopped shows in the next look.
            let fresh: Vec<i32> = self.members().difference(&told).copied().collect();
            if fresh.is_empty() {
                return;
            }
            send(&fresh, signal);
            told.extend(fresh);
        }
    }

    /// The CPU time that everything inside and below has used.
    pub(super) fn cpu_time(&self) -> Result<Duration, NodeError> {
        let (file, field, unit) = match &self.cgroups {
            Cgroups::V1(_) => {
                (self.folder_of("cpuacct")?.join("cpuacct.usage"), "", Duration::from_nanos as fn(u64) -> Duration)
            }
            Cgroups::V2(place) => {
                (place.join(&self.path).join("cpu.stat"), "usage_usec ", Duration::from_micros as fn(u64) -> Duration)
            }
        };
        let text = fs::read_to_string(&file).map_err(NodeError::file("reading", &file))?;
        let used = text.lines().find_map(|line| line.strip_prefix(field)?.trim().parse::<u64>().ok());
        let used = used.ok_or_else(|| NodeError::Program(format!("{} holds no figure", file.display())))?;
        Ok(unit(used))
    }

    /// Its path, as `/proc/<pid>/cgroup` has it.
    pub(super) fn path(&self) -> PathBuf {
        Path::new("/").join(&self.path)
    }

    /// The files by which a process becomes a member: it writes its process id into each.
    pub(super) fn doors(&self) -> Vec<PathBuf> {
        self.folders().into_iter().map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// A folder in which each controller of the first version, or the one hierarchy of the second, begins at this
    /// cgroup: what a node whose root this is would find in `/sys/fs/cgroup`.
    pub(super) fn show_as_root(&self, folder: &Path) -> Result<(), NodeError> {
        use std::os::unix::fs::symlink;
        match &self.cgroups {
            Cgroups::V1(mounts) => {
                fs::create_dir_all(folder).map_err(NodeError::file("creating", folder))?;
                for (controller, place) in mounts {
                    let link = folder.join(controller);
                    symlink(place.join(&self.path), &link).map_err(NodeError::file("linking", link))?;
                }
                Ok(())
            }
            Cgroups::V2(place) => symlink(place.join(&self.path), folder).map_err(NodeError::file("linking", folder)),
        }
    }

    /// The processes inside and below.
    pub(super) fn members(&self) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        for folder in self.folders() {
            each_below(&folder, &mut |folder| {
                let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
                found.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
            });
        }
        found
    }

    /// Kills everything inside and below, stopped or not, and waits until it is gone.
    pub(super) fn kill(&self) -> Result<(), NodeError> {
        let begin = Instant::now();
        loop {
            let members = self.members();
            if members.is_empty() {
                return Ok(());
            }
            send(&members.iter().copied().collect::<Vec<_>>(), Signal::KILL);
            if begin.elapsed() > GONE_WITHIN {
                let left = format!("processes {members:?} in {} do not die", self.path.display());
                return Err(NodeError::Program(left));
            }
            sleep(Duration::from_millis(10));
        }
    }

    /// Kills everything inside and removes it with all below it. One that does not exist is fine.
    pub(super) fn remove(&self) -> Result<(), NodeError> {
        self.kill()?;
        let begin = Instant::now();
        for root in self.folders() {
            let mut folders = Vec::new();
            each_below(&root, &mut |folder| folders.push(folder.to_owned()));
            for folder in folders.iter().rev() {
                loop {
                    match fs::remove_dir(folder) {
                        Ok(()) => break,
                        Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                        // The last process is gone for `cgroup.procs` a little earlier than for the kernel.
                        Err(_) if begin.elapsed() < GONE_WITHIN => sleep(Duration::from_millis(10)),
                        Err(source) => {
                            return Err(NodeError::File { what: "removing", path: folder.clone(), source });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn folder_of(&self, controller: &str) -> Result<PathBuf, NodeError> {
        let Cgroups::V1(mounts) = &self.cgroups else { return Err(NodeError::NoCgroups("not the first version")) };
        let mount = mounts.iter().find(|(name, _)| *name == controller);
        let (_, place) = mount.ok_or(NodeError::NoCgroups("the CPU controller is not mounted"))?;
        Ok(place.join(&self.path))
    }
}

/// Calls back for the folder and those below it, parents first.
fn each_below(folder: &Path, visit: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    visit(folder);
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            each_below(&entry.path(), visit);
        }
    }
}

/// Signals processes; any of them may end while we look.
fn send(pids: &[i32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        let _ = kill_process(pid, signal);
    }
}

fn write(file: &Path, text: &str) -> Result<(), NodeError> {
    fs::write(file, text).map_err(NodeError::file("writing", file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_wins_where_both_are_mounted() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
            cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = Cgroups::among(mounts).unwrap();
        let folders: Vec<_> = found.group("a").folders().into_iter().collect();
        assert_eq!(folders, [PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/a"), "/sys/fs/cgroup/memory/a".into()]);
    }

    #[test]
    fn the_second_version_alone_is_found() {
        let found = Cgroups::among("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n");
        assert_eq!(found, Some(Cgroups::V2("/sys/fs/cgroup".into())));
        assert_eq!(Cgroups::among("proc /proc proc rw 0 0\n"), None);
    }
}
