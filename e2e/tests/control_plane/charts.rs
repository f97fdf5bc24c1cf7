//! The charts by the real helm: they install, install again without changing anything, and leave nothing behind.

use crate::world::{self, Setting};
use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, ResourceExt as _};
use miyako_e2e::child::Program;
use miyako_e2e::control_plane::access::TokenFor;
use miyako_e2e::control_plane::objects::{self, api_of, kind_of};
use miyako_e2e::control_plane::servers::Server;
use miyako_e2e::installation::{Chart, helm};
use miyako_e2e::scene::Scene;
use miyako_e2e::wait::{Look, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_mins(2);

/// Installing over itself writes nothing, neither by helm nor by server-side apply (as GitOps tools do it).
pub(crate) async fn install_again_changes_nothing(scene: Arc<Scene>) -> anyhow::Result<()> {
    scene.install_our_crds().await?;
    scene.install_kubevirt_crds().await?;
    Chart::Miyako.install(&scene, &[]).await?;
    let manifest = objects::documents(&helm(&scene, &["get", "manifest", Chart::Miyako.name()]).await?)?;
    ensure!(!manifest.is_empty(), "an empty manifest");
    let before = generations(&scene, &manifest).await?;
    Chart::Miyako.upgrade(&scene, &[]).await?;
    ensure!(generations(&scene, &manifest).await? == before, "an upgrade to the same changed something");
    objects::apply(&scene.admin(), &manifest).await?;
    let applied = generations(&scene, &manifest).await?;
    ensure!(applied == before, "applying the manifest changed something: {before:?} → {applied:?}");
    Ok(())
}

/// `metadata.generation` (the resource's version where there is none) of each object of a manifest: what counts
/// changes of the wish, but not of its status.
pub(crate) async fn generations(scene: &Scene, manifest: &[Value]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for object in manifest {
        let kind = kind_of(object)?;
        let name = object["metadata"]["name"].as_str().context("an object without a name")?;
        let namespace = object["metadata"]["namespace"].as_str();
        let there = api_of(&scene.admin(), &kind, namespace).await?.get(name).await?;
        let version = there.metadata.generation.map(|generation| generation.to_string());
        // A Lease's, Role's or ServiceAccount's content: everything but the bookkeeping.
        let content = || json!([there.data, there.metadata.labels, there.metadata.annotations]).to_string();
        found.insert(format!("{} {name}", kind.kind), version.unwrap_or_else(content));
    }
    Ok(found)
}

/// After `helm uninstall` nothing of ours is left but the custom resources, which are another chart's.
pub(crate) async fn uninstall_leaves_nothing(scene: Arc<Scene>) -> anyhow::Result<()> {
    world::furnish(&scene, Setting::default()).await?;
    leave_what_an_operator_leaves(&scene).await?;
    uninstall(&scene).await
}

/// Uninstalls the chart with its hooks, and sees that nothing of ours is left.
pub(crate) async fn uninstall(scene: &Scene) -> anyhow::Result<()> {
    // kwok would say of the hooks' pods that they have ended; here they are processes that must run.
    let kwok = scene.stand().server(Server::Kwok)?;
    kwok.pause()?;
    let uninstalled = {
        let hooks = async {
            run_the_hook(scene, "wake-all").await?;
            run_the_hook(scene, "clean-up").await
        };
        let (helm, ran) = tokio::join!(Chart::Miyako.uninstall(scene), hooks);
        helm.and(ran)
    };
    kwok.resume()?;
    uninstalled?;
    until("nothing of ours is left", SOON, || async {
        let left = traces(scene).await?;
        Ok(Look::holds(left.is_empty(), format!("{left:?}")))
    })
    .await
}

/// The custom resources' own chart installs all four and takes all four away.
pub(crate) async fn crds_come_and_go(scene: Arc<Scene>) -> anyhow::Result<()> {
    let ours = scene.install_our_crds().await?;
    let crds = api_of(&scene.admin(), &kind_of(&ours[0])?, None).await?;
    let names: Vec<String> = ours.iter().filter_map(|crd| Some(crd["metadata"]["name"].as_str()?.to_owned())).collect();
    for name in &names {
        crds.delete(name, &kube::api::DeleteParams::default()).await?;
    }
    gone(&crds, &names).await?;
    Chart::Crds.install(&scene, &[]).await?;
    objects::wait_for_crds(&scene.admin(), &ours).await?;
    Chart::Crds.uninstall(&scene).await?;
    gone(&crds, &names).await
}

async fn gone(crds: &Api<DynamicObject>, names: &[String]) -> anyhow::Result<()> {
    until("our custom resources are gone", SOON, || async {
        let all = crds.list(&ListParams::default()).await?.items;
        let left: Vec<String> = all.iter().map(|crd| crd.name_any()).filter(|name| names.contains(name)).collect();
        Ok(Look::holds(left.is_empty(), format!("{left:?}")))
    })
    .await
}

/// A label on a VM and a MigrationPolicy, as the operator writes them.
async fn leave_what_an_operator_leaves(scene: &Scene) -> anyhow::Result<()> {
    let policy = json!({
        "apiVersion": "migrations.kubevirt.io/v1alpha1", "kind": "MigrationPolicy",
        "metadata": { "name": "miyako-post-copy", "labels": { "app.kubernetes.io/managed-by": "miyako" } },
        "spec": {
            "allowPostCopy": true,
            "selectors": { "virtualMachineInstanceSelector": { "miyako.dev/migration-mode": "post-copy" } },
        },
    });
    let person = json!({
        "apiVersion": "migrations.kubevirt.io/v1alpha1", "kind": "MigrationPolicy",
        "metadata": { "name": "a-persons" },
        "spec": { "selectors": { "virtualMachineInstanceSelector": { "tier": "web" } } },
    });
    objects::apply(&scene.admin(), &[policy, person]).await?;
    let vmis: Api<miyako_api::kubevirt::VirtualMachineInstance> = Api::namespaced(scene.admin(), scene.namespace());
    let label = json!({ "metadata": { "labels": { "miyako.dev/migration-mode": "post-copy" } } });
    vmis.patch("vm-0", &PatchParams::default(), &Patch::Merge(label)).await?;
    Ok(())
}

/// Plays the kubelet for a Job among the chart's hooks: its program runs with the pod's own token and arguments, and how
/// it ended decides how the pod ends.
async fn run_the_hook(scene: &Scene, component: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(scene.admin(), scene.namespace());
    let job = ListParams::default().labels(&format!("app.kubernetes.io/component={component}"));
    let pod = until("the hook's pod is bound", SOON, || async {
        let bound = pods
            .list(&job)
            .await?
            .items
            .into_iter()
            .find(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()));
        Ok(Look::some(bound, "none"))
    })
    .await?;
    let how = TokenFor { audiences: &[], pod: Some(&pod) };
    let token = scene.stand().token(scene.namespace(), &format!("miyako-{component}"), how).await?;
    let kubeconfig = scene.stand().kubeconfig_for_token(component, &token)?;
    let program = Program::new(component, env!("CARGO_BIN_EXE_miyako-under-test")).env("KUBECONFIG", kubeconfig);
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let program = containers.flat_map(|container| container.args.iter().flatten()).fold(program, Program::arg);
    let ran = scene.run(&program, SOON).await;
    let phase = if ran.is_ok() { "Succeeded" } else { "Failed" };
    let ended = Patch::Merge(json!({ "status": { "phase": phase } }));
    pods.patch_status(&pod.name_any(), &PatchParams::default(), &ended).await?;
    ran.map(drop)
}

/// Everything in the cluster that bears our name or one of our labels, but for Events and the custom resources.
async fn traces(scene: &Scene) -> anyhow::Result<Vec<String>> {
    let discovery = Discovery::new(scene.admin()).run().await?;
    let mut traces = Vec::new();
    for (resource, capabilities) in discovery.groups().flat_map(|group| group.recommended_resources()) {
        let passing =
            resource.kind == "Event" || resource.kind == "CustomResourceDefinition" || resource.group == "miyako.dev";
        if passing || !capabilities.supports_operation(verbs::LIST) {
            continue;
        }
        let everywhere: Api<DynamicObject> = Api::all_with(scene.admin(), &resource);
        for object in everywhere.list(&ListParams::default()).await? {
            let ours = |text: &str| text == "miyako" || text.contains("miyako-") || text.starts_with("miyako.dev/");
            let owned = |(key, value): (&String, &String)| {
                // Nodes keep the labels by which a person sorted them into pools.
                (ours(key) && resource.kind != "Node") || (key.starts_with("app.kubernetes.io/") && ours(value))
            };
            if ours(&object.name_any()) || object.labels().iter().any(owned) {
                let scope = if capabilities.scope == Scope::Namespaced { "in a namespace" } else { "cluster-wide" };
                traces.push(format!("{} {} ({scope})", resource.kind, object.name_any()));
            }
        }
    }
    Ok(traces)
}
