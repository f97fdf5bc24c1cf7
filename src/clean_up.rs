//! `miyako clean-up`: takes back what the operator left on objects of others, once the operator is gone. The chart runs
//! it after it was uninstalled; until then the operator would write the same again.
//!
//! It takes back the label by which VMs choose how they migrate, the MigrationPolicies that it chooses, and what Nodes
//! carry that sleep or slept. It leaves
//! migrations alone: KubeVirt carries them through, and one in post-copy must never be cancelled
//! (`SPECIFICATION.md`, rule 7).

pub mod hook;
mod nodes;
pub mod wake_first;

use crate::pages;
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, Preconditions},
};
use miyako_api::{
    answer::{is_absent, is_unknown_kind},
    kubevirt::{MigrationPolicy, VirtualMachineInstance},
    names::{manager, ours},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt;

/// What was taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CleanedUp {
    /// VMs that lost the label.
    pub virtual_machine_instances: usize,
    /// MigrationPolicies that were deleted.
    pub migration_policies: usize,
    /// Nodes that lost our taint, labels and condition.
    pub nodes: usize,
}

impl fmt::Display for CleanedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "took the label {} off {} VirtualMachineInstances, deleted {} MigrationPolicies and cleared {} Nodes",
            ours::MIGRATION_MODE,
            self.virtual_machine_instances,
            self.migration_policies,
            self.nodes
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
    #[error("left as they were: {first}{}; run `miyako clean-up` again", and_more(*.more))]
    Left {
        /// The first of them.
        first: String,
        /// How many more.
        more: usize,
        /// The API server's answer about the first.
        #[source]
        source: kube::Error,
    },
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" and {more} more") }
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
    done.nodes = nodes::run(client, &mut left).await?;
    left.into_result().map(|()| done)
}

/// The metadata of all objects with these labels; none if there is no such kind.
async fn list<K>(client: &Client, labels: &str) -> Result<Vec<ObjectMeta>, CleanUpError>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    match pages::metadata(&api, &ListParams::default().labels(labels)).await {
        Err(error) if is_unknown_kind(&error) => Ok(Vec::new()),
        found => found.map_err(|source| CleanUpError::List { plural: K::plural(&()).into_owned(), source }),
    }
}

/// What could not be changed.
#[derive(Default)]
struct Left {
    first: Option<(String, kube::Error)>,
    more: usize,
}

impl Left {
    /// How many objects an answer took back: one, or none. An object that is gone, or that is another one by now, has
    /// nothing of ours.
    fn judge(&mut self, object: &ObjectMeta, answer: Result<(), kube::Error>) -> usize {
        match answer {
            Ok(()) => 1,
            Err(error) if is_absent(&error) => 0,
            Err(kube::Error::Api(status)) if status.is_conflict() => 0,
            Err(error) => {
                if self.first.is_some() {
                    self.more += 1;
                } else {
                    let name = object.name.clone().unwrap_or_default();
                    let place = object.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
                    self.first = Some((format!("{place}{name}"), error));
                }
                0
            }
        }
    }

    fn into_result(self) -> Result<(), CleanUpError> {
        match self.first {
            Some((first, source)) => Err(CleanUpError::Left { first, more: self.more, source }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::apiserver::{Admission, ApiError, ApiServer, Operation, Options, Review};
    use serde_json::Value;
    use std::sync::Arc;

    fn vm(name: &str, labels: Value) -> Value {
        json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": name, "namespace": "default", "labels": labels},
            "spec": {"domain": {"devices": {}}},
        })
    }

    fn migration_policy(name: &str, labels: Value) -> Value {
        json!({
            "apiVersion": "migrations.kubevirt.io/v1alpha1", "kind": "MigrationPolicy",
            "metadata": {"name": name, "labels": labels},
            "spec": {"selectors": {"virtualMachineInstanceSelector": {"miyako.dev/migration-mode": "post-copy"}}},
        })
    }

    /// A node that was asleep when Miyako went.
    fn sleeper() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": "sleeper",
                "labels": {"rack": "r1", ours::POWER: "asleep", "node.kubernetes.io/exclude-disruption": "true"},
                "annotations": {ours::OWN_LABELS: "miyako.dev/power,node.kubernetes.io/exclude-disruption"},
            },
            "spec": {"taints": [
                {"key": "team", "effect": "NoSchedule"}, {"key": ours::POWER, "value": "asleep", "effect": "NoSchedule"},
            ]},
            "status": {"conditions": [{"type": "MiyakoSuspended", "status": "True"}]},
        })
    }

    /// A cluster that ran Miyako: two VMs with the label, one without, our MigrationPolicy and somebody's.
    fn cluster() -> ApiServer {
        let server = ApiServer::new(Options::default());
        for object in [
            vm("a", json!({"miyako.dev/migration-mode": "post-copy", "app": "shop"})),
            vm("b", json!({"miyako.dev/migration-mode": "pre-copy"})),
            vm("c", json!({"app": "shop"})),
            migration_policy(ours::POST_COPY_POLICY, json!({"app.kubernetes.io/managed-by": "miyako"})),
            migration_policy("somebody", json!({"app.kubernetes.io/managed-by": "somebody"})),
            sleeper(),
        ] {
            server.create("setup", object).unwrap();
        }
        server
    }

    fn labels(server: &ApiServer, vm: &str) -> Value {
        server.view(|cluster| {
            cluster.get("kubevirt.io", "virtualmachineinstances", "default", vm).unwrap()["metadata"]["labels"].clone()
        })
    }

    fn migration_policies(server: &ApiServer) -> Vec<String> {
        server.view(|cluster| {
            let names = cluster.list("migrations.kubevirt.io", "migrationpolicies", "");
            names.map(|policy| policy["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn takes_back_what_is_ours_and_nothing_else() {
        let server = cluster();
        let done = run(&server.client("clean-up")).await.unwrap();
        assert_eq!(done, CleanedUp { virtual_machine_instances: 2, migration_policies: 1, nodes: 1 });
        let node = server.view(|cluster| cluster.get("", "nodes", "", "sleeper").unwrap().clone());
        assert_eq!(node["spec"]["taints"], json!([{"key": "team", "effect": "NoSchedule"}]));
        assert_eq!(node["metadata"]["labels"], json!({"rack": "r1"}));
        assert!(!node.to_string().contains("MiyakoSuspended"), "{node}");
        assert_eq!(labels(&server, "a"), json!({"app": "shop"}));
        assert!(labels(&server, "b").get("miyako.dev/migration-mode").is_none());
        assert_eq!(labels(&server, "c"), json!({"app": "shop"}));
        assert_eq!(migration_policies(&server), ["somebody"]);

        let again = run(&server.client("clean-up")).await.unwrap();
        assert_eq!(again, CleanedUp::default());
    }

    #[tokio::test(start_paused = true)]
    async fn has_nothing_to_do_without_kubevirt() {
        let server = ApiServer::new(Options { kubevirt: false, ..Options::default() });
        assert_eq!(run(&server.client("clean-up")).await.unwrap(), CleanedUp::default());
    }

    /// Lets nobody change the VM `a`.
    struct Guard;

    impl Admission for Guard {
        fn handles(&self, review: &Review<'_>) -> bool {
            review.operation == Operation::Update && review.name == "a"
        }

        fn validate(&self, review: &Review<'_>, _: Option<&Value>) -> Result<(), ApiError> {
            Err(ApiError::forbidden(review.resource, review.name, "guarded"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn goes_on_with_the_rest_and_names_what_it_left() {
        let server = cluster();
        server.add_admission(Arc::new(Guard));
        let error = run(&server.client("clean-up")).await.unwrap_err();
        assert_eq!(error.to_string(), "left as they were: default/a; run `miyako clean-up` again");
        assert!(labels(&server, "b").get("miyako.dev/migration-mode").is_none());
        assert_eq!(migration_policies(&server), ["somebody"]);
    }
}
