//! KubeVirt's stand-in on the real API server and scheduler: it does there what KubeVirt was seen to do.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use miyako::sim::kubevirt::ClockSettings;
use miyako::sim::kubevirt::create::VmSpec;
use miyako_api::kubevirt::{VirtualMachineInstance, VirtualMachineInstanceMigration};
use miyako_api::names::kubevirt::{CREATED_BY, EVACUATION_MIGRATION, MIGRATION_FINALIZER, MIGRATION_JOB_UID, VMI_NAME};
use miyako_core::model::Bytes;
use miyako_e2e::control_plane::nodes::NewNode;
use miyako_e2e::kubevirt::KubeVirt;
use miyako_e2e::scene::Scene;
use miyako_e2e::wait::{Look, until};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_mins(1);

/// A network on which a VM moves within seconds.
fn ten_gigabit() -> ClockSettings {
    ClockSettings { bandwidth: 1.1e9, ..ClockSettings::default() }
}

/// Three nodes, and the VM `web` on `a`.
async fn begin(scene: &Scene) -> anyhow::Result<VirtualMachineInstance> {
    scene.add_nodes(&[NewNode::new("a"), NewNode::new("b"), NewNode::new("tiny").memory("1Gi")]).await?;
    let kubevirt = KubeVirt::install(scene, json!({}), ten_gigabit(), |_| {}).await?;
    kubevirt.wait_for_handlers(&["a", "b", "tiny"]).await?;
    scene.wait_for_default_account().await?;
    kubevirt.running_vm(&VmSpec::new(scene.namespace(), "web", 1, Bytes::mib(2048)), "a").await
}

fn vmis(scene: &Scene) -> Api<VirtualMachineInstance> {
    Api::namespaced(scene.admin(), scene.namespace())
}

fn migrations(scene: &Scene) -> Api<VirtualMachineInstanceMigration> {
    Api::namespaced(scene.admin(), scene.namespace())
}

fn migration(name: &str, to: &str) -> anyhow::Result<VirtualMachineInstanceMigration> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceMigration",
        "metadata": { "name": name },
        "spec": { "vmiName": "web", "addedNodeSelector": { "kubernetes.io/hostname": to } },
    }))?)
}

async fn wait_for_node(scene: &Scene, node: &str) -> anyhow::Result<()> {
    until(&format!("the VM runs on {node}"), SOON, || async {
        let status = vmis(scene).get("web").await?.status.context("no status")?;
        let over = status.migration_state.as_ref().is_some_and(|state| state.completed);
        let there = status.node_name.as_deref() == Some(node);
        Ok(Look::holds(there && over, format!("on {:?}, {:?}", status.node_name, status.migration_state)))
    })
    .await
}

/// A migration gets virt-api's finalizer and label, its target is placed by the real scheduler, the VM moves, its old
/// launcher ends. A second one for the same VM is refused meanwhile.
pub(crate) async fn moves_a_vm(scene: Arc<Scene>) -> anyhow::Result<()> {
    let vmi = begin(&scene).await?;
    let created = migrations(&scene).create(&PostParams::default(), &migration("one", "b")?).await?;
    ensure!(created.finalizers().iter().any(|finalizer| finalizer == MIGRATION_FINALIZER), "no finalizer: {created:?}");
    ensure!(created.labels().get(VMI_NAME).map(String::as_str) == Some("web"), "no label: {created:?}");
    let second = migrations(&scene).create(&PostParams::default(), &migration("two", "b")?).await;
    let refusal = second.err().context("a second migration of the same VM was taken")?.to_string();
    ensure!(refusal.contains("in-flight migration detected"), "{refusal}");
    wait_for_node(&scene, "b").await?;

    let pods: Api<Pod> = Api::namespaced(scene.admin(), scene.namespace());
    let launchers =
        ListParams::default().labels(&format!("{CREATED_BY}={}", vmi.uid().context("a VMI without a uid")?));
    until("the old launcher has ended and the new one runs", SOON, || async {
        let mut states: Vec<_> = pods
            .list(&launchers)
            .await?
            .into_iter()
            .map(|pod| {
                let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
                (node, pod.status.and_then(|status| status.phase).unwrap_or_default())
            })
            .collect();
        states.sort();
        let expected = [("a".to_owned(), "Succeeded".to_owned()), ("b".to_owned(), "Running".to_owned())];
        Ok(Look::holds(states == expected, format!("{states:?}")))
    })
    .await
}

/// A VMI's status is KubeVirt's: somebody else's change succeeds and does nothing; one of the spec is refused.
pub(crate) async fn guards_a_vmi(scene: Arc<Scene>) -> anyhow::Result<()> {
    begin(&scene).await?;
    let patch = |patch| Patch::Merge(patch);
    let taken =
        vmis(&scene).patch("web", &PatchParams::default(), &patch(json!({ "status": { "nodeName": "b" } }))).await?;
    ensure!(taken.status.and_then(|status| status.node_name).as_deref() == Some("a"), "the status was changed");
    let refused = vmis(&scene)
        .patch("web", &PatchParams::default(), &patch(json!({ "spec": { "evictionStrategy": "None" } })))
        .await;
    ensure!(refused.is_err(), "the spec was changed");
    Ok(())
}

/// A migration to a node without room waits unschedulable; deleting it takes its target pod along, and the VM can go
/// elsewhere at once.
pub(crate) async fn gives_up_a_target_without_room(scene: Arc<Scene>) -> anyhow::Result<()> {
    begin(&scene).await?;
    let created = migrations(&scene).create(&PostParams::default(), &migration("one", "tiny")?).await?;
    let pods: Api<Pod> = Api::namespaced(scene.admin(), scene.namespace());
    let target = ListParams::default().labels(&format!("{MIGRATION_JOB_UID}={}", created.uid().unwrap_or_default()));
    until("the target is unschedulable", SOON, || async {
        let found = pods.list(&target).await?.items;
        let unschedulable = found.iter().any(|pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|condition| condition.reason.as_deref() == Some("Unschedulable"))
        });
        Ok(Look::holds(unschedulable, format!("{} target pods", found.len())))
    })
    .await?;
    migrations(&scene).delete("one", &DeleteParams::default()).await?;
    until("the target is gone", SOON, || async {
        let left = pods.list(&target).await?.items.len();
        Ok(Look::holds(left == 0, format!("{left} target pods")))
    })
    .await?;
    until("another migration is taken", SOON, || async {
        migrations(&scene).create(&PostParams::default(), &migration("two", "b")?).await?;
        Ok(Look::Done(()))
    })
    .await?;
    wait_for_node(&scene, "b").await
}

/// An eviction is answered with 429 and becomes an evacuation.
pub(crate) async fn turns_an_eviction_into_an_evacuation(scene: Arc<Scene>) -> anyhow::Result<()> {
    let vmi = begin(&scene).await?;
    let pods: Api<Pod> = Api::namespaced(scene.admin(), scene.namespace());
    let launchers =
        ListParams::default().labels(&format!("{CREATED_BY}={}", vmi.uid().context("a VMI without a uid")?));
    let launcher = pods.list(&launchers).await?.items.into_iter().next().context("no launcher")?;
    // The client tries again while the answer is 429, as `kubectl drain` does, with ever longer pauses.
    let eviction = tokio::spawn(async move { pods.evict(&launcher.name_any(), &EvictParams::default()).await });
    wait_for_node(&scene, "b").await?;
    eviction.abort();
    let evacuations = migrations(&scene).list(&ListParams::default()).await?.items;
    ensure!(
        evacuations.iter().any(|migration| migration.annotations().contains_key(EVACUATION_MIGRATION)),
        "no evacuation among {evacuations:?}"
    );
    Ok(())
}
