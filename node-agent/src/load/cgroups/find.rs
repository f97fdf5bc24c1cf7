//! A pod's control group, whatever made it. Kubelets lay them out like this (`pkg/kubelet/cm`, kubernetes.io, "Node
//! resource managers"; container runtimes add a group per container within):
//!
//! ```text
//!  systemd   kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid with _>.slice/cri-containerd-<id>.scope
//!            kubepods.slice/kubepods-pod<uid with _>.slice/crio-<id>.scope                      (Guaranteed: no level)
//!  cgroupfs  kubepods/burstable/pod<uid>/<id>
//!            kubepods/pod<uid>/crio-<id>
//!  nested    kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod….slice
//! ```

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// A pod's uid, as the API server writes it.
pub(crate) type PodUid = String;

/// Kubelets nest no deeper: a few levels above, three of their own.
const DEEPEST: usize = 10;

/// Groups that one search looks at. A node with 500 pods has a few thousand.
const MOST_GROUPS: usize = 50_000;

/// All pods' groups below `root`, as paths below it.
///
/// # Errors
/// When `root` can't be listed. Groups that vanish meanwhile, or may not be listed, are passed over.
pub(crate) fn pod_groups(root: &Path) -> io::Result<BTreeMap<PodUid, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut looked_at = 0;
    let mut pending = vec![(PathBuf::new(), 0, false)];
    while let Some((group, depth, of_kubelet)) = pending.pop() {
        let entries = match fs::read_dir(root.join(&group)) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(error),
            Err(_) => continue,
        };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            looked_at += 1;
            if looked_at > MOST_GROUPS {
                return Ok(found);
            }
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let path = group.join(name);
            match pod_uid(name).filter(|_| of_kubelet) {
                Some(uid) => drop(found.insert(uid, path)),
                None if depth < DEEPEST => pending.push((path, depth + 1, of_kubelet || is_kubelets(name))),
                None => {}
            }
        }
    }
    Ok(found)
}

/// Whether everything below a group of this name is the kubelet's.
fn is_kubelets(name: &str) -> bool {
    let stem = name.strip_suffix(".slice").unwrap_or(name);
    stem == "kubepods" || stem.ends_with("-kubepods")
}

/// The uid of the pod whose group has this name.
pub(super) fn pod_uid(name: &str) -> Option<PodUid> {
    let uid = match name.strip_suffix(".slice") {
        // systemd takes dashes for levels, so a uid's are written as underscores.
        Some(slice) => slice.rsplit_once("-pod").map(|(_, uid)| uid.replace('_', "-")),
        None => name.strip_prefix("pod").map(str::to_owned),
    }?;
    (!uid.is_empty()).then_some(uid)
}
