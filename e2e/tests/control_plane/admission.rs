//! The chart's ValidatingAdmissionPolicies: what our own accounts, and people, are held to.
//!
//! Everything is asked as a dry run, which admission judges like the real thing.

use crate::world::{self, Setting};
use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use miyako_e2e::control_plane::objects::{self, api_of};
use miyako_e2e::installation::{AGENT, OPERATOR};
use miyako_e2e::scene::Scene;
use miyako_e2e::sleepers::client_of_agent;
use miyako_e2e::wait::{Look, until};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// What somebody tries to do.
pub(crate) enum Attempt {
    /// A merge patch.
    Patch(&'static str, Value),
    /// A merge patch of the status subresource.
    PatchStatus(&'static str, Value),
    /// A strategic merge patch of the status subresource, as the operator writes its condition.
    PatchStatusStrategically(&'static str, Value),
    /// A new object.
    Create(Value),
    /// A deletion.
    Delete(&'static str),
}

use Attempt::{Create, Delete, Patch as Change, PatchStatus};

impl Attempt {
    async fn perform(&self, api: &Api<DynamicObject>) -> kube::Result<()> {
        let patch = PatchParams { dry_run: true, ..PatchParams::default() };
        let post = PostParams { dry_run: true, ..PostParams::default() };
        match self {
            Change(name, change) => api.patch(name, &patch, &Patch::Merge(change)).await.map(drop),
            PatchStatus(name, change) => api.patch_status(name, &patch, &Patch::Merge(change)).await.map(drop),
            Self::PatchStatusStrategically(name, change) => {
                api.patch_status(name, &patch, &Patch::Strategic(change)).await.map(drop)
            }
            Create(object) => {
                let object = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
                api.create(&post, &object).await.map(drop)
            }
            Delete(name) => {
                let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
                api.delete(name, &dry).await.map(drop)
            }
        }
    }
}

/// The API server's verdicts on one account's attempts with one kind.
pub(crate) struct Trial {
    api: Api<DynamicObject>,
    wrong: Vec<String>,
}

impl Trial {
    pub(crate) async fn new(
        client: &Client,
        group: &str,
        version: &str,
        kind: &str,
        namespace: &str,
    ) -> anyhow::Result<Self> {
        let api = api_of(client, &GroupVersionKind::gvk(group, version, kind), Some(namespace)).await?;
        Ok(Self { api, wrong: Vec::new() })
    }

    /// Waits until the policy that refuses this attempt has come into force.
    pub(crate) async fn in_force(&self, attempt: Attempt) -> anyhow::Result<()> {
        until("the admission policy is in force", Duration::from_secs(30), || async {
            Ok(Look::holds(attempt.perform(&self.api).await.is_err(), "what it must refuse is taken"))
        })
        .await
    }

    pub(crate) async fn takes(&mut self, attempt: Attempt, what: &str) {
        if let Err(error) = attempt.perform(&self.api).await {
            self.wrong.push(format!("{what}: refused: {error}"));
        }
    }

    pub(crate) async fn refuses(&mut self, attempt: Attempt, what: &str, because: &str) {
        match attempt.perform(&self.api).await {
            Ok(()) => self.wrong.push(format!("{what}: taken")),
            Err(error) if error.to_string().contains(because) => {}
            Err(error) => self.wrong.push(format!("{what}: refused for another reason than {because:?}: {error}")),
        }
    }

    pub(crate) fn verdict(self) -> anyhow::Result<()> {
        ensure!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        Ok(())
    }
}

/// The operator may change one label of a VMI.
pub(crate) async fn operator_and_vmis(scene: Arc<Scene>) -> anyhow::Result<()> {
    world::furnish(&scene, Setting::default()).await?;
    let operator = scene.stand().client_for_service_account(scene.namespace(), OPERATOR).await?;
    let mut trial = Trial::new(&operator, "kubevirt.io", "v1", "VirtualMachineInstance", scene.namespace()).await?;
    let vm = "vm-0";
    trial.in_force(Change(vm, json!({ "metadata": { "annotations": { "a": "b" } } }))).await?;
    let label = |key: &str, value: Value| json!({ "metadata": { "labels": { key: value } } });
    trial.takes(Change(vm, label("miyako.dev/migration-mode", json!("post-copy"))), "its own label").await;
    trial.takes(Change(vm, label("miyako.dev/migration-mode", Value::Null)), "taking its own label away").await;
    trial
        .refuses(
            Change(vm, label("miyako.dev/migration-mode", json!("maybe"))),
            "another value",
            "pre-copy or post-copy",
        )
        .await;
    trial.refuses(Change(vm, label("team", json!("ours"))), "another label", "may not change other labels").await;
    trial
        .refuses(
            Change(vm, json!({ "metadata": { "annotations": { "a": "b" } } })),
            "an annotation",
            "may not change the annotations",
        )
        .await;
    trial
        .refuses(Change(vm, json!({ "metadata": { "finalizers": [] } })), "finalizers", "may not change the finalizers")
        .await;
    trial
        .refuses(Change(vm, json!({ "spec": { "evictionStrategy": "None" } })), "the spec", "may not change the spec")
        .await;
    trial.refuses(Delete(vm), "deleting it", "cannot delete").await;
    trial.verdict()
}

/// The operator may say on a Node that it sleeps, and change nothing else of it.
pub(crate) async fn operator_and_nodes(scene: Arc<Scene>) -> anyhow::Result<()> {
    world::furnish(&scene, Setting::default()).await?;
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(scene.admin());
    let theirs = json!({ "spec": { "taints": [{ "key": "team", "value": "a", "effect": "NoSchedule" }] } });
    nodes.patch("dedicated-0", &PatchParams::default(), &Patch::Merge(theirs)).await?;
    let operator = scene.stand().client_for_service_account(scene.namespace(), OPERATOR).await?;
    let mut trial = Trial::new(&operator, "", "v1", "Node", "").await?;
    let node = "dedicated-0";
    let label = |key: &str, value: Value| json!({ "metadata": { "labels": { key: value } } });
    trial.in_force(Change(node, label("team", json!("ours")))).await?;
    let team = json!({ "key": "team", "value": "a", "effect": "NoSchedule" });
    let taint = |value: &str, effect: &str| json!({ "key": "miyako.dev/power", "value": value, "effect": effect });
    let taints = |taints: Value| json!({ "spec": { "taints": taints } });
    let marked = json!({
        "metadata": {
            "labels": {
                "miyako.dev/power": "asleep",
                "node.kubernetes.io/exclude-disruption": "true",
                "remediation.medik8s.io/exclude-from-remediation": "true",
            },
            "annotations": { "miyako.dev/own-labels": "miyako.dev/power" },
        },
        "spec": { "taints": [team.clone(), taint("asleep", "NoSchedule")] },
    });
    trial.takes(Change(node, marked), "its taint and labels").await;
    for deterring in ["emptying", "waking", "quarantined"] {
        let deterred = taints(json!([team.clone(), taint(deterring, "PreferNoSchedule")]));
        trial.takes(Change(node, deterred), deterring).await;
    }
    trial
        .refuses(Change(node, taints(json!([team.clone(), taint("asleep", "NoExecute")]))), "evicting", "never evicts")
        .await;
    trial.refuses(Change(node, taints(json!([]))), "taking another's taint away", "may not change other taints").await;
    let other = json!([team, { "key": "mine", "effect": "NoSchedule" }]);
    trial.refuses(Change(node, taints(other)), "another taint", "may not change other taints").await;
    let cordon = json!({ "spec": { "unschedulable": true } });
    trial.refuses(Change(node, cordon), "a cordon", "may not cordon").await;
    trial.refuses(Change(node, label("team", json!("ours"))), "another label", "may not change other labels").await;
    let annotation = json!({ "metadata": { "annotations": { "a": "b" } } });
    trial.refuses(Change(node, annotation), "an annotation", "may not change other annotations").await;
    // Every field of a Node's status but its conditions, whether kwok's kubelet has written it or not.
    for (field, value) in [
        ("addresses", json!([{ "type": "Hostname", "address": "elsewhere" }])),
        ("allocatable", json!({ "cpu": "1" })),
        ("capacity", json!({ "cpu": "1" })),
        ("daemonEndpoints", json!({ "kubeletEndpoint": { "Port": 4711 } })),
        ("features", json!({ "supplementalGroupsPolicy": true })),
        ("images", json!([{ "names": ["registry.invalid/made-up:1"], "sizeBytes": 1 }])),
        ("nodeInfo", json!({ "kubeletVersion": "v9.9.9" })),
        ("phase", json!("Terminated")),
        ("runtimeHandlers", json!([{ "name": "made-up" }])),
        ("volumesAttached", json!([{ "name": "made-up", "devicePath": "/dev/null" }])),
        ("volumesInUse", json!(["made-up"])),
    ] {
        let change = json!({ "status": { field: value } });
        trial.refuses(PatchStatus(node, change), field, "nothing in the status").await;
    }
    let own = json!({ "status": { "conditions": [{
        "type": "MiyakoSuspended", "status": "True", "reason": "Suspended", "message": "it sleeps",
    }] } });
    trial.takes(Attempt::PatchStatusStrategically(node, own), "its own condition").await;
    let address = json!({ "spec": { "podCIDR": "10.99.0.0/24", "podCIDRs": ["10.99.0.0/24"] } });
    trial.refuses(Change(node, address), "its pod CIDR", "nothing in the spec").await;
    let provider = json!({ "spec": { "providerID": "cloud://made-up" } });
    trial.refuses(Change(node, provider), "its provider ID", "nothing in the spec").await;
    let conditions = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } });
    trial.refuses(PatchStatus(node, conditions), "its conditions", "may not change other conditions").await;
    trial.refuses(Delete(node), "deleting it", "cannot delete").await;
    trial.verdict()
}

/// The operator's migrations carry its labels and go to one named node; others' are not its to delete.
pub(crate) async fn operator_and_migrations(scene: Arc<Scene>) -> anyhow::Result<()> {
    world::furnish(&scene, Setting::default()).await?;
    let operator = scene.stand().client_for_service_account(scene.namespace(), OPERATOR).await?;
    let kind = "VirtualMachineInstanceMigration";
    let migration = |labels: Value, selector: Value| {
        json!({
            "apiVersion": "kubevirt.io/v1", "kind": kind,
            "metadata": { "name": "m", "namespace": scene.namespace(), "labels": labels },
            "spec": { "vmiName": "vm-0", "addedNodeSelector": selector },
        })
    };
    let ours = json!({ "app.kubernetes.io/managed-by": "miyako", "miyako.dev/plan": "p" });
    let target = json!({ "kubernetes.io/hostname": "dedicated-0" });
    let mut theirs = migration(json!({}), json!({ "kubernetes.io/hostname": "absent" }));
    theirs["metadata"]["name"] = json!("theirs");
    objects::apply(&scene.admin(), &[theirs]).await?;

    let mut trial = Trial::new(&operator, "kubevirt.io", "v1", kind, scene.namespace()).await?;
    trial.in_force(Delete("theirs")).await?;
    trial.refuses(Delete("theirs"), "deleting another's", "may delete only").await;
    // The VM of the one above is migrating, so this asks for another.
    let mut good = migration(ours.clone(), target.clone());
    good["spec"]["vmiName"] = json!("vm-1");
    trial.takes(Create(good), "its own").await;
    trial.refuses(Create(migration(json!({}), target)), "one without labels", "only with the labels").await;
    trial
        .refuses(
            Create(migration(ours, json!({ "topology.kubernetes.io/zone": "zone-a" }))),
            "one to any node of a zone",
            "only to a named node",
        )
        .await;
    trial.verdict()
}

/// The operator's MigrationPolicies are its own by name, label and selector; people's are not its to touch.
pub(crate) async fn operator_and_migration_policies(scene: Arc<Scene>) -> anyhow::Result<()> {
    world::furnish(&scene, Setting::default()).await?;
    let operator = scene.stand().client_for_service_account(scene.namespace(), OPERATOR).await?;
    let policy = |name: &str, labels: Value, selector: Value| {
        json!({
            "apiVersion": "migrations.kubevirt.io/v1alpha1", "kind": "MigrationPolicy",
            "metadata": { "name": name, "labels": labels },
            "spec": { "selectors": { "virtualMachineInstanceSelector": selector } },
        })
    };
    let ours = json!({ "app.kubernetes.io/managed-by": "miyako" });
    let selector = json!({ "miyako.dev/migration-mode": "post-copy" });
    objects::apply(&scene.admin(), &[policy("theirs", json!({}), json!({ "tier": "web" }))]).await?;
    let mut trial = Trial::new(&operator, "migrations.kubevirt.io", "v1alpha1", "MigrationPolicy", "").await?;
    trial.in_force(Delete("theirs")).await?;
    trial.refuses(Delete("theirs"), "deleting a person's", "whose names begin with miyako-").await;
    trial
        .refuses(Change("theirs", json!({ "spec": { "allowPostCopy": true } })), "changing a person's", "miyako-")
        .await;
    trial.takes(Create(policy("miyako-post-copy", ours.clone(), selector.clone())), "its own").await;
    trial.refuses(Create(policy("miyako-post-copy", json!({}), selector)), "one without its label", "label").await;
    trial
        .refuses(
            Create(policy("miyako-post-copy", ours, json!({}))),
            "one for every VM",
            "that select VMs by the label",
        )
        .await;
    trial.verdict()
}

/// An agent writes `status.agent` of its own node's NodePower, and nothing else.
pub(crate) async fn agents_and_node_powers(scene: Arc<Scene>) -> anyhow::Result<()> {
    world::furnish(&scene, Setting::default()).await?;
    let order = json!({
        "desired": "Awake", "generation": 1, "reason": "a test",
        "issuedAt": "2026-01-02T03:04:05Z", "expiresAt": "2026-01-02T03:04:15Z",
    });
    let power = |name: &str| {
        json!({
            "apiVersion": "miyako.dev/v1alpha1", "kind": "NodePower", "metadata": { "name": name }, "spec": order,
        })
    };
    objects::apply(&scene.admin(), &[power("shared-0"), power("shared-1")]).await?;
    let bound = client_of_agent(&scene, "shared-0").await?;
    let mut trial = Trial::new(&bound, "miyako.dev", "v1alpha1", "NodePower", "").await?;
    let acknowledged = json!({ "status": { "agent": { "acknowledgedGeneration": 1 } } });
    trial.in_force(PatchStatus("shared-1", acknowledged.clone())).await?;
    trial.takes(PatchStatus("shared-0", acknowledged.clone()), "its own node's status").await;
    trial
        .refuses(PatchStatus("shared-1", acknowledged.clone()), "another node's", "only the NodePower of its own node")
        .await;
    trial
        .refuses(
            PatchStatus("shared-0", json!({ "status": { "phase": "Suspended" } })),
            "the operator's part of the status",
            "only status.agent",
        )
        .await;
    trial
        .refuses(Change("shared-0", json!({ "spec": { "desired": "Suspended" } })), "the order itself", "forbidden")
        .await;
    trial.verdict()?;

    let unbound = scene.stand().client_for_service_account(scene.namespace(), AGENT).await?;
    let mut trial = Trial::new(&unbound, "miyako.dev", "v1alpha1", "NodePower", "").await?;
    trial.refuses(PatchStatus("shared-0", acknowledged), "by a token of no node", "bound to no node").await;
    trial.verdict()
}

/// An agent that may put its node to sleep gives KubeVirt's heartbeat of that node afterwards, and no more.
pub(crate) async fn agents_and_heartbeats(scene: Arc<Scene>) -> anyhow::Result<()> {
    world::furnish(&scene, Setting { values: &["agent.power.enabled=true"], ..Setting::default() }).await?;
    let heartbeat = |time: &str, schedulable: &str| {
        json!({ "metadata": {
            "annotations": { "kubevirt.io/heartbeat": time }, "labels": { "kubevirt.io/schedulable": schedulable },
        }})
    };
    let nodes: Api<Node> = Api::all(scene.admin());
    let old = heartbeat("2026-01-02T03:04:05Z", "false");
    for node in ["shared-0", "shared-1"] {
        nodes.patch(node, &PatchParams::default(), &Patch::Merge(&old)).await?;
    }
    let fresh = heartbeat("2026-01-02T04:04:05Z", "true");
    let bound = client_of_agent(&scene, "shared-0").await?;
    let mut trial = Trial::new(&bound, "", "v1", "Node", "").await?;
    trial.in_force(Change("shared-1", fresh.clone())).await?;
    trial.takes(Change("shared-0", fresh.clone()), "its own node's heartbeat").await;
    trial.refuses(Change("shared-1", fresh.clone()), "another node's", "of its own node only").await;
    trial.refuses(Change("dedicated-0", fresh), "a node without virt-handler", "of its own node only").await;
    let cases = [
        (
            json!({ "metadata": { "labels": { "kubevirt.io/schedulable": "maybe" } } }),
            "with kubevirt.io/schedulable true",
        ),
        (json!({ "metadata": { "labels": { "miyako.dev/pool": "other" } } }), "other labels"),
        (json!({ "metadata": { "labels": { "miyako.dev/pool": null } } }), "other labels"),
        (json!({ "metadata": { "annotations": { "miyako.dev/keep-awake": "no" } } }), "other annotations"),
        (json!({ "metadata": { "finalizers": ["miyako.dev/plan"] } }), "finalizers or owners"),
        (json!({ "spec": { "unschedulable": true } }), "the spec of a Node"),
    ];
    for (change, because) in cases {
        let what = change.to_string();
        trial.refuses(Change("shared-0", change), &what, because).await;
    }
    let status = json!({ "status": { "capacity": { "cpu": "512" } } });
    trial.refuses(PatchStatus("shared-0", status), "the status", "forbidden").await;
    trial.verdict()
}

/// Plans are the operator's, but for their approval, which is a person's.
pub(crate) async fn people_and_plans(scene: Arc<Scene>) -> anyhow::Result<()> {
    world::furnish(&scene, Setting::default()).await?;
    let plan = |name: &str| -> anyhow::Result<Value> {
        let text = std::fs::read_to_string(
            miyako_e2e::tools::workspace_root().join("e2e/fixtures/crs/good/plan-proposed.yaml"),
        )?;
        let mut plan = objects::documents(&text)?.into_iter().next().context("an empty fixture")?;
        plan["metadata"] = json!({ "name": name });
        Ok(plan)
    };
    let operator = scene.stand().client_for_service_account(scene.namespace(), OPERATOR).await?;
    let jane = crate::approval::editor(&scene, "jane").await?;
    // Before the policies came into force anybody could have created it; then only the operator.
    let kind = GroupVersionKind::gvk("miyako.dev", "v1alpha1", "ConsolidationPlan");
    let operators = api_of(&operator, &kind, None).await?;
    operators.create(&PostParams::default(), &serde_json::from_value(plan("made")?)?).await?;

    let mut trial = Trial::new(&scene.admin(), "miyako.dev", "v1alpha1", "ConsolidationPlan", "").await?;
    trial.in_force(Create(plan("forged")?)).await?;
    trial.refuses(Create(plan("forged")?), "a forged plan", "only miyako-operator creates").await;
    trial
        .refuses(
            PatchStatus("made", json!({ "status": { "phase": "Succeeded" } })),
            "a forged outcome",
            "only miyako-operator writes the status",
        )
        .await;
    trial.verdict()?;

    let approval = |name: &str| json!({ "spec": { "approved": true, "approvedBy": name } });
    let mut trial = Trial::new(&jane, "miyako.dev", "v1alpha1", "ConsolidationPlan", "").await?;
    trial.takes(Change("made", approval("jane")), "approving in her own name").await;
    trial.refuses(Change("made", approval("john")), "approving in another's name", "in your own name").await;
    trial.refuses(Change("made", json!({ "spec": { "summary": "else" } })), "changing what it is", "is a record").await;
    trial.verdict()?;

    let mut trial = Trial::new(&operator, "miyako.dev", "v1alpha1", "ConsolidationPlan", "").await?;
    trial
        .refuses(
            Change("made", approval("system:serviceaccount:x:miyako-operator")),
            "approving its own plan",
            "may not approve",
        )
        .await;
    trial.takes(PatchStatus("made", json!({ "status": { "phase": "Proposed" } })), "its status").await;
    trial.verdict()
}
