//! Where the controllers are mounted: one tree (version 2), or one for each controller (version 1).

use std::path::{Path, PathBuf};

/// The trees of control groups of this machine. A group has the same path in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    pub(super) version: Version,
    /// CPU time used; pods are looked for here.
    pub(super) accounting: PathBuf,
    /// Quotas, and the time that they held groups back.
    pub(super) quota: Option<PathBuf>,
    pub(super) memory: Option<PathBuf>,
    pub(super) disk: Option<PathBuf>,
    /// PSI, which version 1 does not have, but a machine may have the empty tree of version 2 beside it.
    pub(super) pressure: Option<PathBuf>,
}

/// The two interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// Where version 1 mounts a controller, alone or with others.
const CPU_ACCOUNTING: [&str; 3] = ["cpuacct", "cpu,cpuacct", "cpuacct,cpu"];
const CPU_QUOTA: [&str; 3] = ["cpu", "cpu,cpuacct", "cpuacct,cpu"];

impl Hierarchies {
    /// Looks at what is mounted below `mount` (`/sys/fs/cgroup`); none if it is no such place.
    pub(crate) fn below(mount: &Path) -> Option<Self> {
        let there = |name: &str| Some(mount.join(name)).filter(|path| path.is_dir());
        if mount.join("cgroup.controllers").exists() {
            let tree = || Some(mount.to_owned());
            return Some(Self {
                version: Version::Two,
                accounting: mount.to_owned(),
                quota: tree(),
                memory: tree(),
                disk: tree(),
                pressure: tree(),
            });
        }
        Some(Self {
            version: Version::One,
            accounting: CPU_ACCOUNTING.into_iter().find_map(there)?,
            quota: CPU_QUOTA.into_iter().find_map(there),
            memory: there("memory"),
            disk: there("blkio"),
            pressure: there("unified"),
        })
    }

    /// The directory whose groups hold all processes: `group` is a path as in `/proc/<pid>/cgroup`.
    pub(crate) fn processes_of(&self, group: &Path) -> PathBuf {
        in_tree(&self.accounting, group)
    }
}

/// The directory of `group` in one tree.
pub(super) fn in_tree(tree: &Path, group: &Path) -> PathBuf {
    tree.join(group.strip_prefix("/").unwrap_or(group))
}
