//! Real control groups with a kubelet's layout.

use anyhow::Context as _;
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// Groups of one node; they are removed at the end, with what still runs in them.
pub struct Groups {
    /// Where the node's group is in each tree.
    trees: Vec<PathBuf>,
    name: String,
}

const MOUNT: &str = "/sys/fs/cgroup";

impl Groups {
    /// Makes the node's group.
    pub fn new() -> anyhow::Result<Self> {
        let name = format!("miyako-burners-{}", std::process::id());
        let mount = Path::new(MOUNT);
        let trees = if mount.join("cgroup.controllers").exists() {
            offer_controllers(mount);
            vec![mount.join(&name)]
        } else {
            let controllers = ["cpu", "cpuacct", "cpu,cpuacct", "memory", "blkio", "unified"];
            controllers
                .map(|tree| mount.join(tree))
                .into_iter()
                .filter(|tree| tree.is_dir())
                .map(|tree| tree.join(&name))
                .collect()
        };
        let groups = Self { trees, name };
        for tree in &groups.trees {
            fs::create_dir_all(tree.join("kubepods/burstable")).with_context(|| tree.display().to_string())?;
            for group in ["", "kubepods", "kubepods/burstable"] {
                offer_controllers(&tree.join(group));
            }
        }
        Ok(groups)
    }

    /// The node's group, as in `/proc/<pid>/cgroup`.
    pub fn name(&self) -> PathBuf {
        Path::new("/").join(&self.name)
    }

    /// Puts a process into the group of a pod's container.
    pub fn add(&self, pod: &str, process: u32) -> anyhow::Result<()> {
        for tree in &self.trees {
            let group = tree.join(format!("kubepods/burstable/pod{pod}"));
            fs::create_dir_all(group.join("compute"))?;
            offer_controllers(&group);
            fs::write(group.join("compute/cgroup.procs"), process.to_string())
                .with_context(|| format!("could not put a process into {}", group.display()))?;
        }
        Ok(())
    }
}

/// Version 2 wants to be told what a group's children count.
fn offer_controllers(group: &Path) {
    for controller in ["+cpu", "+memory", "+io"] {
        // Where there is no such file, or the controller is taken, there is nothing to offer.
        drop(fs::write(group.join("cgroup.subtree_control"), controller));
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for tree in &self.trees {
            // Processes that were killed a moment ago are still being taken out.
            for _ in 0..100 {
                if remove(tree) {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Removes a group and those below it; false if something still runs in one.
fn remove(group: &Path) -> bool {
    let below = fs::read_dir(group).into_iter().flatten().flatten();
    let emptied = below.filter(|entry| entry.path().is_dir()).all(|entry| remove(&entry.path()));
    emptied && fs::remove_dir(group).is_ok()
}
