//! The ways in that are no fresh `helm install`: a plain manifest, upgrades from earlier values, clusters whose
//! control-plane nodes are labelled otherwise.

use crate::charts::generations;
use anyhow::{Context as _, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::ListParams;
use miyako_api::names::ours;
use miyako_e2e::child::Program;
use miyako_e2e::control_plane::nodes::NewNode;
use miyako_e2e::control_plane::objects;
use miyako_e2e::installation::{Chart, helm};
use miyako_e2e::scene::Scene;
use miyako_e2e::tools::workspace_root;
use miyako_e2e::wait::{Look, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_mins(2);

/// "Without Helm" of docs/install.md: the manifest that charts/manifest prints, by the real kubectl. Nothing of it acts at
/// once, and applied again it changes nothing.
pub(crate) async fn a_plain_manifest(scene: Arc<Scene>) -> anyhow::Result<()> {
    scene.install_kubevirt_crds().await?;
    let print = Program::new("manifest", workspace_root().join("charts/manifest"))
        .env("HELM", scene.stand().tools().path("helm"))
        .flag("namespace", scene.namespace())
        .arg("--set")
        .arg("waker.enabled=true,agent.power.enabled=true");
    let text = scene.run(&print, SOON).await?;
    let manifest = objects::documents(&text)?;
    let kinds: BTreeSet<&str> = manifest.iter().filter_map(|object| object["kind"].as_str()).collect();
    for kind in ["Namespace", "CustomResourceDefinition", "Deployment", "DaemonSet", "ValidatingAdmissionPolicy"] {
        ensure!(kinds.contains(kind), "no {kind} in the manifest: {kinds:?}");
    }
    ensure!(!kinds.contains("Job"), "the manifest has a Job, which would run at once");
    ensure!(!text.contains("helm.sh/hook"), "the manifest has a hook, which is an ordinary object without Helm");

    let file = scene.stand().folder().join("miyako.yaml");
    fs::write(&file, &text)?;
    kubectl_apply(&scene, &file).await?;
    let before = generations(&scene, &manifest).await?;
    kubectl_apply(&scene, &file).await?;
    let after = generations(&scene, &manifest).await?;
    ensure!(before == after, "applying it again changed something: {before:?} → {after:?}");
    ensure!(jobs(&scene).await?.is_empty(), "something runs at once");
    ensure!(switches(&scene).await?.is_empty(), "everything is held");

    // Whoever renders the chart with its hooks, and applies them, is told so, and nothing is held.
    let hook = Program::new("hook", env!("CARGO_BIN_EXE_miyako-under-test"))
        .env("KUBECONFIG", scene.stand().admin_kubeconfig())
        .arg("clean-up")
        .arg("--hook")
        .flag("namespace", scene.namespace());
    for hook in [hook.clone().arg("--wake-first"), hook] {
        let refused = scene.run(&hook, SOON).await;
        let Err(refused) = refused else { anyhow::bail!("a hook ran although Helm installed nothing") };
        ensure!(format!("{refused:#}").contains("--no-hooks"), "it does not say what to do: {refused:#}");
    }
    ensure!(switches(&scene).await?.is_empty(), "everything is held");
    Ok(())
}

async fn kubectl_apply(scene: &Scene, file: &Path) -> anyhow::Result<String> {
    let kubectl = Program::new("kubectl", scene.stand().tools().path("kubectl"))
        .flag("kubeconfig", scene.stand().admin_kubeconfig())
        .arg("apply")
        .arg("--server-side")
        .arg("--filename")
        .arg(file);
    scene.run(&kubectl, SOON).await
}

async fn jobs(scene: &Scene) -> anyhow::Result<Vec<Job>> {
    let jobs: Api<Job> = Api::namespaced(scene.admin(), scene.namespace());
    Ok(jobs.list(&ListParams::default()).await?.items)
}

async fn switches(scene: &Scene) -> anyhow::Result<Vec<String>> {
    let maps: Api<ConfigMap> = Api::namespaced(scene.admin(), scene.namespace());
    Ok(maps.get(ours::SWITCHES).await?.data.into_iter().flatten().map(|(key, said)| format!("{key}: {said}")).collect())
}

/// What every earlier values.yaml (e2e/fixtures/values) becomes: the documented way with this chart's defaults, and
/// Helm's other way at least with all that protects.
pub(crate) async fn upgrades_from_earlier_values(scene: Arc<Scene>) -> anyhow::Result<()> {
    scene.install_our_crds().await?;
    let mut fixtures: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(workspace_root().join("e2e/fixtures/values"))? {
        fixtures.push(entry?.path());
    }
    fixtures.sort();
    ensure!(fixtures.len() >= 2, "only {fixtures:?}");
    let fresh = rendered(&scene, &[]).await?;
    let chart = workspace_root().join("charts/miyako");
    let chart = chart.to_string_lossy();
    for values in &fixtures {
        for how in ["--reset-then-reuse-values", "--reuse-values"] {
            let old = earlier_chart(&scene, values)?;
            let said = || format!("an upgrade from {} by {how}", values.display());
            helm(&scene, &["install", "miyako", &old.to_string_lossy(), "--set", "operator.logFilter=debug"]).await?;
            helm(&scene, &["upgrade", "miyako", &chart, how]).await.with_context(said)?;
            let text = helm(&scene, &["get", "manifest", "miyako"]).await?;
            ensure!(text.contains("value: \"debug\""), "{}: the user's own value is lost", said());
            let upgraded = names(&objects::documents(&text)?);
            ensure!(upgraded == fresh, "{}: {:?} differ", said(), upgraded.symmetric_difference(&fresh));
            helm(&scene, &["uninstall", "miyako", "--no-hooks"]).await?;
        }
    }
    Ok(())
}

/// A chart of an earlier release, as far as Helm remembers one: its values. What it installed does not matter here.
fn earlier_chart(scene: &Scene, values: &Path) -> anyhow::Result<PathBuf> {
    let folder = scene.stand().folder().join("earlier-chart");
    fs::create_dir_all(folder.join("templates"))?;
    fs::copy(workspace_root().join("charts/miyako/Chart.yaml"), folder.join("Chart.yaml"))?;
    fs::copy(values, folder.join("values.yaml"))?;
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: earlier-release}\n";
    fs::write(folder.join("templates/map.yaml"), template)?;
    Ok(folder)
}

/// What this chart renders with these values, hooks left out.
async fn rendered(scene: &Scene, values: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let chart = workspace_root().join("charts/miyako");
    let chart = chart.to_string_lossy();
    let mut arguments = vec!["template", Chart::Miyako.name(), &chart, "--no-hooks"];
    for value in values {
        arguments.extend(["--set", value]);
    }
    Ok(names(&objects::documents(&helm(scene, &arguments).await?)?))
}

fn names(objects: &[Value]) -> BTreeSet<String> {
    let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
    objects.iter().map(name).collect()
}

/// A group of values that is missing means what values.yaml says of it, word for word.
pub(crate) async fn missing_values_mean_the_defaults(scene: Arc<Scene>) -> anyhow::Result<()> {
    let chart = workspace_root().join("charts/miyako");
    let chart = chart.to_string_lossy();
    let template = |value: String| {
        let (scene, chart) = (&scene, &chart);
        async move { helm(scene, &["template", "miyako", chart, "--set", &value]).await }
    };
    let fresh = template("operator.replicas=2".to_owned()).await?;
    let values: Value = serde_yaml::from_str(&fs::read_to_string(workspace_root().join("charts/miyako/values.yaml"))?)?;
    // Those without which no release ever was; the schema asks for them.
    let required = ["image", "operator", "agent", "wire", "http"];
    let groups: Vec<&String> = values.as_object().context("values")?.keys().collect();
    ensure!(groups.len() > required.len() + 5, "only {groups:?}");
    for group in groups {
        let answer = template(format!("{group}=null")).await;
        if required.contains(&group.as_str()) {
            let Err(refused) = answer else { anyhow::bail!("nobody misses {group}") };
            ensure!(format!("{refused:#}").contains(group), "{refused:#}");
            continue;
        }
        ensure!(answer.with_context(|| group.clone())? == fresh, "without {group} the chart renders something else");
    }
    let answer = template("agent.power=null".to_owned()).await?;
    ensure!(answer == fresh, "without agent.power the chart renders something else");
    Ok(())
}

/// One control-plane node, labelled as k3s and RKE2 do, with all of RKE2's taints: both wakers run there.
pub(crate) async fn wakers_find_a_place_on_any_control_plane(scene: Arc<Scene>) -> anyhow::Result<()> {
    scene.install_our_crds().await?;
    let role = "node-role.kubernetes.io/control-plane";
    let server = NewNode::new("server-0")
        .label(role, "true")
        .label("node-role.kubernetes.io/etcd", "true")
        .taint(role, "true", "NoSchedule")
        .taint("node-role.kubernetes.io/etcd", "true", "NoExecute")
        .taint("CriticalAddonsOnly", "true", "NoExecute");
    scene.add_nodes(&[server, NewNode::new("worker-0")]).await?;
    Chart::Miyako.install(&scene, &["waker.enabled=true"]).await?;
    let pods: Api<Pod> = Api::namespaced(scene.admin(), scene.namespace());
    let wakers = ListParams::default().labels("app.kubernetes.io/component=waker");
    until("both wakers run on the one control-plane node", SOON, || async {
        let found = pods.list(&wakers).await?.items;
        let nodes: Vec<_> = found.iter().map(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone())).collect();
        let there = nodes.iter().filter(|node| node.as_deref() == Some("server-0")).count();
        Ok(Look::holds(there == 2 && nodes.len() == 2, format!("{nodes:?}")))
    })
    .await
}
