//! Which pod on this node is which VM. The API server says so; for labs and people a file can.

mod file;
mod identity;
mod watch;

pub use file::{PodsFileError, follow_file, read_file};
pub use identity::{Launcher, VmIdentity, launcher_of};
pub use watch::{WatchError, follow_api_server, list_api_server};

use super::cgroups::PodUid;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The launcher pods of this node by pod uid. Cloning is cheap; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Launchers(Arc<Mutex<Arc<BTreeMap<PodUid, Launcher>>>>);

impl Launchers {
    /// The launchers that are known now.
    #[must_use]
    pub fn now(&self) -> Arc<BTreeMap<PodUid, Launcher>> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces what is known.
    pub fn set(&self, launchers: BTreeMap<PodUid, Launcher>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(launchers);
    }
}
