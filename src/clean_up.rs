//! `miyako clean-up`: takes back what the operator left on objects of others, once the operator is gone. The chart runs
//! it after it was uninstalled; until then the operator would write the same again.
//!
//! It takes back the label by which VMs choose how they migrate, and the MigrationPolicies that it chooses. It leaves
//! migrations alone: KubeVirt carries them through, and one in post-copy must never be cancelled (`DESIGN.md` §4,
//! rule 7).

use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, ObjectMeta, PartialObjectMeta, Patch, PatchParams, Preconditions},
};
use miyako_api::{
    kubevirt::{MigrationPolicy, VirtualMachineInstance},
    names::{manager, ours},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt;

/// Objects that one request lists: a cluster may hold tens of thousands of VMs.
const PAGE: u32 = 500;

/// What was taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CleanedUp {
    /// VMs that lost the label.
    pub virtual_machine_instances: usize,
    /// MigrationPolicies that were deleted.
    pub migration_policies: usize,
}

impl fmt::Display for CleanedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "took the label {} off {} VirtualMachineInstances and deleted {} MigrationPolicies",
            ours::MIGRATION_MODE,
            self.virtual_machine_instances,
            self.migration_policies
        )
    }
}

/// Why something was left behind. What had been taken back stays so; running it again goes on with the rest.
#[derive(Debug, thiserror::Error)]
pub enum CleanUpError {
    /// Objects could not be found out.
    #[error("cannot list {plural}")]
    List {
        /// What was listed.
        plural: String,
        /// The API server's answer.
        #[source]
        source: kube::Error,
    },
    /// Objects could not be changed.
    #[error("{count} objects are left as they were, the first of them {first}; run `miyako clean-up` again")]
    Left {
        /// How many.
        count: usize,
        /// Which one.
        first: String,
        /// The API server's answer about it.
        #[source]
        source: kube::Error,
    },
}

/// Takes everything back. A cluster without KubeVirt, or one that was cleaned up before, has nothing to take back.
///
/// # Errors
/// See [`CleanUpError`]. One object that can't be changed does not stop the others.
pub async fn run(client: &Client) -> Result<CleanedUp, CleanUpError> {
    let mut left = Left::default();
    let mut done = CleanedUp::default();

    let unlabel = Patch::Merge(json!({ "metadata": { "labels": { ours::MIGRATION_MODE: null } } }));
    let params = PatchParams { field_manager: Some(manager::MIGRATION_MODE.into()), ..PatchParams::default() };
    for vm in list::<VirtualMachineInstance>(client, ours::MIGRATION_MODE).await? {
        let api: Api<VirtualMachineInstance> =
            Api::namespaced(client.clone(), vm.namespace.as_deref().unwrap_or_default());
        let name = vm.name.as_deref().unwrap_or_default();
        let answer = api.patch_metadata(name, &params, &unlabel).await.map(drop);
        done.virtual_machine_instances += left.judge(&vm, answer);
    }

    let api: Api<MigrationPolicy> = Api::all(client.clone());
    for policy in list::<MigrationPolicy>(client, ours::SELECTOR).await? {
        // By uid: one of this name that somebody wrote since is not ours.
        let preconditions = Preconditions { uid: policy.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let name = policy.name.as_deref().unwrap_or_default();
        let answer = api.delete(name, &params).await.map(drop);
        done.migration_policies += left.judge(&policy, answer);
    }
    left.into_result().map(|()| done)
}

/// The metadata of all objects with these labels; none if there is no such kind.
async fn list<K>(client: &Client, labels: &str) -> Result<Vec<ObjectMeta>, CleanUpError>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let mut params = ListParams::default().labels(labels).limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = match api.list_metadata(&params).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(found),
            answer => answer.map_err(|source| CleanUpError::List { plural: K::plural(&()).into_owned(), source })?,
        };
        found.extend(page.items.into_iter().map(|PartialObjectMeta { metadata, .. }| metadata));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// What could not be changed.
#[derive(Default)]
struct Left {
    count: usize,
    first: Option<(String, kube::Error)>,
}

impl Left {
    /// How many objects an answer took back: one, or none. An object that is gone, or that is another one by now, has
    /// nothing of ours.
    fn judge(&mut self, object: &ObjectMeta, answer: Result<(), kube::Error>) -> usize {
        match answer {
            Ok(()) => 1,
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => 0,
            Err(error) => {
                self.count += 1;
                let name = object.name.clone().unwrap_or_default();
                let name = object.namespace.as_ref().map_or(name.clone(), |namespace| format!("{namespace}/{name}"));
                self.first.get_or_insert((name, error));
                0
            }
        }
    }

    fn into_result(self) -> Result<(), CleanUpError> {
        match self.first {
            Some((first, source)) => Err(CleanUpError::Left { count: self.count, first, source }),
            None => Ok(()),
        }
    }
}
