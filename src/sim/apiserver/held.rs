//! How much a server holds, by owner: a simulation of weeks must not grow.

use super::server::{ApiServer, lock};
use super::store::Collection;
use std::collections::BTreeMap;

/// What one collection holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Objects that exist.
    pub objects: usize,
    /// Bytes of their JSON text.
    pub object_bytes: usize,
    /// Changes that watches can still read.
    pub changes: usize,
    /// Bytes of the changed objects' JSON text.
    pub change_bytes: usize,
}

impl Held {
    fn of(collection: &Collection) -> Self {
        Self {
            objects: collection.objects.len(),
            object_bytes: collection.objects.values().map(|object| object.json().len()).sum(),
            changes: collection.history.len(),
            change_bytes: collection.history.bytes(),
        }
    }
}

impl ApiServer {
    /// What each collection holds, by its name (`plural.group`).
    #[must_use]
    pub fn held(&self) -> BTreeMap<String, Held> {
        let state = lock(&self.shared.state);
        state.collections().map(|(name, collection)| (name.clone(), Held::of(collection))).collect()
    }
}
