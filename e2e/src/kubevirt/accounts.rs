//! KubeVirt's ServiceAccounts with the rights that its controllers need for VMs and migrations.

use crate::control_plane::objects;
use crate::scene::Scene;
use kube::Client;
use miyako::sim::kubevirt::NAMESPACE;
use serde_json::{Value, json};

/// virt-api's account.
pub(super) const VIRT_API: &str = "kubevirt-apiserver";
/// virt-controller's account.
pub(super) const VIRT_CONTROLLER: &str = "kubevirt-controller";
/// The virt-handlers' account.
pub(super) const VIRT_HANDLER: &str = "kubevirt-handler";
/// Not KubeVirt's: tells for every kubelet that a launcher's processes have ended, which kwok can't know.
pub(super) const KUBELETS: &str = "kubelets";

/// Creates the namespace, the accounts and their rights. They stay when a scenario ends: another one finds them.
pub(super) async fn create(admin: &Client) -> anyhow::Result<()> {
    let mut wanted = vec![json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } })];
    for (account, rules) in rights() {
        wanted.push(json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "namespace": NAMESPACE, "name": account },
        }));
        wanted.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": { "name": account }, "rules": rules,
        }));
        wanted.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": account },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": account },
            "subjects": [{ "kind": "ServiceAccount", "namespace": NAMESPACE, "name": account }],
        }));
    }
    objects::apply(admin, &wanted).await?;
    Ok(())
}

/// A client of one of the accounts.
pub(super) async fn client(scene: &Scene, account: &str) -> anyhow::Result<Client> {
    scene.stand().client_for_service_account(NAMESPACE, account).await
}

/// The accounts and what they may do.
fn rights() -> [(&'static str, Value); 4] {
    let read = json!(["get", "list", "watch"]);
    let everything = json!(["get", "list", "watch", "create", "update", "patch", "delete"]);
    let events = json!({ "apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"] });
    let kubevirt = json!({ "apiGroups": ["kubevirt.io"], "resources": ["*"], "verbs": everything });
    [
        (
            VIRT_API,
            json!([
                { "apiGroups": [""], "resources": ["pods"], "verbs": read },
                { "apiGroups": ["kubevirt.io"], "resources": ["*"], "verbs": ["get", "list", "watch", "patch"] },
            ]),
        ),
        (
            VIRT_CONTROLLER,
            json!([
                kubevirt,
                events,
                { "apiGroups": [""], "resources": ["pods"], "verbs": everything },
                { "apiGroups": [""], "resources": ["nodes", "namespaces", "resourcequotas"], "verbs": read },
                { "apiGroups": ["migrations.kubevirt.io"], "resources": ["migrationpolicies"], "verbs": read },
            ]),
        ),
        (
            VIRT_HANDLER,
            json!([
                events,
                { "apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch", "patch"] },
                {
                    "apiGroups": ["kubevirt.io"], "resources": ["virtualmachineinstances"],
                    "verbs": ["get", "list", "watch", "update", "patch"],
                },
            ]),
        ),
        (KUBELETS, json!([{ "apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"] }])),
    ]
}
