//! Launchers from a file, for labs without an API server and for people who look at one node.

use super::{Launcher, Launchers, VmIdentity};
use crate::load::cgroups::PodUid;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::sleep;

/// How often the file is looked at.
const AGAIN: Duration = Duration::from_secs(1);

/// One entry.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    pod_uid: PodUid,
    namespace: String,
    name: String,
    uid: String,
}

/// Why there are no launchers from a file.
#[derive(Debug, thiserror::Error)]
pub enum PodsFileError {
    /// It could not be read.
    #[error("could not read {}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a list of launchers.
    #[error("{}: {source}; write a list of {{podUid, namespace, name, uid}}, as YAML or JSON", .path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: serde_yaml::Error,
    },
}

/// Reads the file: a list of `{podUid, namespace, name, uid}`, where the last three are the VMI's.
///
/// # Errors
/// Says what is wrong with it.
pub fn read_file(path: &Path) -> Result<BTreeMap<PodUid, Launcher>, PodsFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| PodsFileError::Read { path: path.to_owned(), source })?;
    let entries: Option<Vec<Entry>> =
        serde_yaml::from_str(&text).map_err(|source| PodsFileError::Format { path: path.to_owned(), source })?;
    let launcher = |entry: Entry| {
        let vm = VmIdentity { namespace: entry.namespace, name: entry.name, uid: entry.uid };
        (entry.pod_uid, Launcher { vm, created: 0 })
    };
    Ok(entries.unwrap_or_default().into_iter().map(launcher).collect())
}

/// Takes the file in whenever it says something else, for ever. While it can't be read, what is known stays.
pub async fn follow_file(path: PathBuf, launchers: Launchers) {
    let mut last_error = None;
    loop {
        match read_file(&path) {
            Ok(found) => {
                last_error = None;
                if found != *launchers.now() {
                    tracing::info!(launchers = found.len(), file = %path.display(), "took launchers in");
                    launchers.set(found);
                }
            }
            Err(error) => {
                let text = error.to_string();
                if last_error.as_ref() != Some(&text) {
                    tracing::error!(error = text, "kept the launchers that were known");
                    last_error = Some(text);
                }
            }
        }
        sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_launchers_is_understood_and_anything_else_is_explained() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pods.yaml");
        std::fs::write(&path, "- {podUid: p1, namespace: shop, name: db, uid: u1}\n").unwrap();
        let vm = VmIdentity { namespace: "shop".into(), name: "db".into(), uid: "u1".into() };
        assert_eq!(read_file(&path).unwrap(), BTreeMap::from([("p1".into(), Launcher { vm, created: 0 })]));
        std::fs::write(&path, "").unwrap();
        assert_eq!(read_file(&path).unwrap(), BTreeMap::new());
        std::fs::write(&path, "- {podUid: p1, vm: db}\n").unwrap();
        let error = read_file(&path).unwrap_err().to_string();
        assert!(error.contains("`vm`") && error.contains("podUid, namespace, name, uid"), "{error}");
        assert!(read_file(&directory.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
