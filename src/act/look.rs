//! What the last look before a suspend reads from the API server, past all caches, in bounded memory: migrations are
//! listed page by page, and finished ones, of which KubeVirt keeps up to five for every VM, are dropped at once.

use crate::observe::{Lenient, convert};
use crate::pages;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use miyako_api::kubevirt::VirtualMachineInstanceMigration;
use miyako_core::model::{self, Migration, MigrationName, Node, NodeName};
use std::collections::BTreeMap;

/// The pods of one node, and which of them can't be read.
pub(super) struct OnNode {
    pub(super) pods: Vec<model::Pod>,
    /// Namespace and name of the first that can't be read, with why.
    pub(super) unreadable: Option<String>,
}

/// The pods of a node.
pub(super) async fn pods_on(client: &Client, node: &NodeName) -> kube::Result<OnNode> {
    let api: Api<Lenient<Pod>> = Api::all(client.clone());
    let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let empty = || OnNode { pods: Vec::new(), unreadable: None };
    pages::fold(&api, &on_node, empty, |kept, seen| match &seen.object {
        Ok(pod) => kept.pods.push(convert::pod::convert(pod).value.pod),
        Err(error) => {
            let place = seen.namespace().unwrap_or_default();
            kept.unreadable.get_or_insert_with(|| format!("pod {place}/{} can't be read: {error}", seen.name_any()));
        }
    })
    .await
}

/// The migrations that are not over, as far as this node is an end of them: by its host name it may be a target before
/// KubeVirt says so. One that can't be read is left out, as the watches do: the VM that it moves, and the
/// pod that it moves it to, are seen on their nodes.
pub(super) async fn unfinished_migrations(
    client: &Client,
    node: &Node,
) -> kube::Result<BTreeMap<MigrationName, Migration>> {
    let api: Api<Lenient<VirtualMachineInstanceMigration>> = Api::all(client.clone());
    pages::fold(&api, &ListParams::default(), BTreeMap::new, |kept, seen| {
        let migration = seen.object.ok().map(|migration| convert::migration::convert(&migration).value.to([node]));
        if let Some(migration) = migration.filter(Migration::is_unfinished) {
            kept.insert(migration.name.clone(), migration);
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::apiserver::{ApiServer, Options};
    use serde_json::{Value, json};

    const MIGRATIONS: &str = "virtualmachineinstancemigrations.kubevirt.io";

    fn migration(name: &str, phase: &str) -> Value {
        json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"vmiName": "vm"}, "status": {"phase": phase},
        })
    }

    #[tokio::test(start_paused = true)]
    async fn finished_migrations_are_dropped_page_by_page() {
        let server = ApiServer::new(Options::default());
        let finished = 4 * usize::try_from(pages::PAGE).unwrap();
        for index in 0..finished {
            let phase = if index % 2 == 0 { "Succeeded" } else { "Failed" };
            server.create("setup", migration(&format!("old-{index:05}"), phase)).unwrap();
        }
        // The first of the first page, and the last of the last one.
        for (name, phase) in [("a-first", "Running"), ("z-last", "Pending")] {
            server.create("setup", migration(name, phase)).unwrap();
        }
        let mut odd = migration("odd", "Running");
        odd["spec"]["vmiName"] = json!(7);
        server.create("setup", odd).unwrap();
        let node = Node::new("n", model::Resources::default());
        let held = unfinished_migrations(&server.client("look"), &node).await.unwrap();
        let names: Vec<_> = held.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["default/a-first", "default/z-last"], "one that can't be read hides no other");
        assert_eq!(server.longest_list("look", MIGRATIONS), pages::PAGE as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_cannot_be_read_is_named() {
        let server = ApiServer::new(Options::default());
        let pod = |name: &str, hours: Value| {
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
                "spec": {"nodeName": "n", "containers": [{"name": "main"}], "terminationGracePeriodSeconds": hours},
            })
        };
        server.create("setup", pod("plain", json!(30))).unwrap();
        server.create("setup", pod("odd", json!("a while"))).unwrap();
        let found = pods_on(&server.client("look"), &NodeName::new("n")).await.unwrap();
        assert_eq!(found.pods.len(), 1);
        let unreadable = found.unreadable.unwrap();
        assert!(unreadable.starts_with("pod default/odd can't be read"), "{unreadable}");
    }
}
