//! Hooks that see every write before it happens, as admission webhooks do.

use super::{error::ApiError, registry::Resource, store::State};
use serde_json::Value;

/// What is being done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Create,
    /// It is replaced or patched.
    Update,
    /// It is deleted.
    Delete,
}

/// One write, before it happens.
pub struct Review<'a> {
    /// What is being done.
    pub operation: Operation,
    /// To which resource.
    pub resource: &'a Resource,
    /// `status`, `binding`, … or empty.
    pub subresource: &'a str,
    /// The object's namespace; empty for cluster-scoped ones.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// Who asks, as given to [`super::ApiServer::client`].
    pub actor: &'a str,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The object as it is stored now.
    pub old: Option<&'a Value>,
    /// Everything else that is stored.
    pub cluster: ClusterView<'a>,
}

/// Why a pod may not be evicted.
#[derive(Debug)]
pub struct Refused {
    /// The answer.
    pub error: ApiError,
    /// What the hook changes while it refuses, as KubeVirt's marks the VM: as which user, which object (its
    /// `apiVersion`, `kind`, name and namespace), and the merge patch.
    pub change: Option<(String, Value, Value)>,
}

/// Mutates and judges writes. Hooks run in the order of their registration, all mutations before all judgements.
pub trait Admission: Send + Sync {
    /// Whether this hook wants to see the write.
    fn handles(&self, review: &Review<'_>) -> bool;

    /// Changes the object that is about to be stored. Not called for deletes.
    ///
    /// # Errors
    /// Refuses the write.
    fn mutate(&self, _review: &Review<'_>, _object: &mut Value) -> Result<(), ApiError> {
        Ok(())
    }

    /// Judges the write; `object` is `None` for deletes.
    ///
    /// # Errors
    /// Refuses the write.
    fn validate(&self, _review: &Review<'_>, _object: Option<&Value>) -> Result<(), ApiError> {
        Ok(())
    }

    /// Judges an eviction of a pod; `review.old` is the pod. Asked of every hook, whatever it handles.
    ///
    /// # Errors
    /// Refuses the eviction.
    fn evict(&self, _review: &Review<'_>, _eviction: &Value) -> Result<(), Box<Refused>> {
        Ok(())
    }
}

/// A look at what is stored.
#[derive(Clone, Copy)]
pub struct ClusterView<'a> {
    pub(crate) state: &'a State,
}

impl<'a> ClusterView<'a> {
    /// One object by group, plural, namespace (empty for cluster-scoped ones) and name.
    #[must_use]
    pub fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<&'a Value> {
        let key = (namespace.to_owned(), name.to_owned());
        let stored = self.state.collection(&storage_of(group, plural))?.objects.get(&key)?;
        Some(&stored.value)
    }

    /// All objects of a resource in one namespace (or, where it is empty, in all), by namespace and name.
    pub fn list(&self, group: &str, plural: &str, namespace: &'a str) -> impl Iterator<Item = &'a Value> + use<'a> {
        self.state.objects(&storage_of(group, plural), namespace).map(|(_, stored)| &stored.value)
    }

    /// The newest resourceVersion.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state.version
    }
}

fn storage_of(group: &str, plural: &str) -> String {
    if plural == "events" { "events".to_owned() } else { format!("{plural}.{group}") }
}
