//! Nodes that sleep, with everybody in it: operator, agents and waker with the chart's rights, real etcd, scheduler and
//! node controller. Only what `mem` and a BMC would do is simulated; a sleeping node's kubelet is silent.

#![allow(clippy::disallowed_methods, reason = "how long a wake takes is measured")]

use crate::approval::bind;
use crate::charts::uninstall;
use crate::world::{Setting, World};
use anyhow::ensure;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use miyako_api::NodePower;
use miyako_api::node_power::{NodePowerStatus, PowerPhase};
use miyako_e2e::child::Program;
use miyako_e2e::control_plane::nodes::{self, NewNode, silence, wait_ready};
use miyako_e2e::control_plane::objects;
use miyako_e2e::scene::Scene;
use miyako_e2e::sleepers::{Sleeper, play_waker};
use miyako_e2e::wait::{Look, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nodes on which nothing runs.
const SLEEPERS: [&str; 2] = ["dedicated-0", "shared-1"];
/// A lease lapses within 50 s, and that is waited for a few times.
const A_WHILE: Duration = Duration::from_mins(5);

/// Classes whose nodes can be woken, and a policy that suspends what is empty.
fn wishes() -> Vec<Value> {
    let class = |name: &str, role: &str| {
        json!({
            "apiVersion": "miyako.dev/v1alpha1", "kind": "NodePowerClass", "metadata": { "name": name },
            "spec": {
                "role": role, "nodeSelector": { "matchLabels": { "miyako.dev/pool": name } },
                "wake": [{ "driver": "wol", "address": "02:00:00:00:00:01" }],
                // People ask for the tests here, so that it is known when there are any.
                "wakeTest": { "start": "Request" },
            },
        })
    };
    let policy = json!({
        "apiVersion": "miyako.dev/v1alpha1", "kind": "ConsolidationPolicy", "metadata": { "name": "main" },
        "spec": {
            "mode": "Automatic", "profile": "Reactive", "nodeClasses": ["shared", "dedicated"],
            "thresholds": { "admissionWindow": "5s" },
            "keepAwake": { "failures": 0 },
            "sleep": { "after": "10s", "leastAwake": "5s", "leastAsleep": "5s" },
        },
    });
    vec![class("shared", "Shared"), class("dedicated", "Dedicated"), policy]
}

/// What the NodePower of a node says, once it is as expected.
async fn status(
    scene: &Scene,
    node: &str,
    what: &str,
    expected: impl Fn(&NodePowerStatus) -> bool,
) -> anyhow::Result<NodePowerStatus> {
    let powers: Api<NodePower> = Api::all(scene.admin());
    until(&format!("{node} {what}"), A_WHILE, || async {
        let status = powers.get_opt(node).await?.and_then(|power| power.status).unwrap_or_default();
        let said = format!("{status:?}");
        Ok(Look::some(Some(status).filter(&expected), said))
    })
    .await
}

/// Whether anything of ours is on a node.
pub(crate) fn is_marked(node: &Node) -> bool {
    let text = json!([node.metadata.labels, node.metadata.annotations, node.spec, node.status]).to_string();
    ["miyako.dev/power", "exclude-disruption", "exclude-from-remediation", "MiyakoSuspended"]
        .iter()
        .any(|mark| text.contains(mark))
}

/// Nodes show in a test that they wake, sleep by policy when nothing is on them, and a pod that only one of them could
/// take wakes it; an uninstall wakes the rest and leaves nothing on any node.
pub(crate) async fn empty_nodes_sleep_until_somebody_needs_them(scene: Arc<Scene>) -> anyhow::Result<()> {
    let values = &[
        "agent.power.enabled=true",
        "waker.enabled=true",
        // Its pods keep nodes awake like any others.
        r"operator.nodeSelector.kubernetes\.io/hostname=shared-0",
    ];
    let world = World::begin_with(&scene, 1, Setting { values, ..Setting::default() }).await?;
    let mut machines = BTreeMap::new();
    for node in SLEEPERS {
        machines.insert(node, Sleeper::begin(&scene, node, Duration::ZERO).await?);
    }
    play_waker(&scene, machines.values()).await?;
    objects::apply(&scene.admin(), &wishes()).await?;

    // Nothing sleeps by policy before it has shown that it wakes.
    bind(&scene, "paul", "miyako-power").await?;
    let paul: Api<NodePower> = Api::all(scene.stand().client_for_user("paul", &[]).await?);
    for node in SLEEPERS {
        status(&scene, node, "is noted", |status| status.empty_since.is_some()).await?;
        ensure!(machines[node].sleeps() == 0, "{node} slept untested");
        let ask = json!({ "metadata": { "annotations": { "miyako.dev/request": "wake-test paul 1" } } });
        paul.patch(node, &PatchParams::default(), &Patch::Merge(ask)).await?;
    }
    for node in SLEEPERS {
        let woke = |status: &NodePowerStatus| status.last_wake_test.as_ref().is_some_and(|test| test.succeeded);
        status(&scene, node, "has shown that it wakes", woke).await?;
    }
    for node in SLEEPERS {
        status(&scene, node, "sleeps", |status| status.phase == Some(PowerPhase::Suspended)).await?;
        ensure!(machines[node].sleeps() == 2 && machines[node].is_asleep(), "{node} does not sleep");
    }

    // A pod that fits no awake node.
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "needy" },
        "spec": {
            "nodeSelector": { "miyako.dev/pool": "dedicated" },
            "containers": [{ "name": "main", "image": "none" }],
        },
    }))?;
    let pods: Api<Pod> = Api::namespaced(scene.admin(), scene.namespace());
    let asked = Instant::now();
    pods.create(&PostParams::default(), &pod).await?;
    until("the pod runs", A_WHILE, || async {
        let status = pods.get("needy").await?.status;
        let running = status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
        Ok(Look::holds(running, format!("{status:?}")))
    })
    .await?;
    eprintln!("from a pod that fits nowhere to its running on a node that slept: {:.1?}", asked.elapsed());
    ensure!(machines["shared-1"].is_asleep(), "a node was woken that nobody needs");
    let nodes: Api<Node> = Api::all(scene.admin());
    until("nothing of ours is on the node that came back", A_WHILE, || async {
        let node = nodes.get("dedicated-0").await?;
        Ok(Look::holds(!is_marked(&node), format!("{:?}", node.spec)))
    })
    .await?;
    ensure!(is_marked(&nodes.get("shared-1").await?), "a sleeper must look like one");
    world.nothing_was_forbidden(&scene)?;

    // What the chart's hook runs, with the operator and the waker still there; then the uninstall itself, whose hook
    // finds all awake.
    let wakes = Program::new("wake-first", env!("CARGO_BIN_EXE_miyako-under-test"))
        .arg("clean-up")
        .arg("--wake-first")
        .flag("namespace", scene.namespace())
        .env("KUBECONFIG", scene.stand().admin_kubeconfig());
    scene.run(&wakes, A_WHILE).await?;
    for node in SLEEPERS {
        ensure!(!machines[node].is_asleep(), "{node} still sleeps");
    }
    pods.delete("needy", &DeleteParams::default()).await?;
    let bindings: Api<ClusterRoleBinding> = Api::all(scene.admin());
    bindings.delete("miyako-power-paul", &DeleteParams::default()).await?;
    uninstall(&scene).await?;
    for node in SLEEPERS {
        wait_ready(&scene.admin(), node).await?;
        ensure!(!is_marked(&nodes.get(node).await?), "something of ours is left on {node}");
    }
    Ok(())
}

/// With most of a zone asleep, a node that really dies still loses its pods, because sleepers are not counted. In another
/// zone, where sleepers do not carry the label that says so, it keeps them.
pub(crate) async fn a_node_that_dies_among_sleepers_loses_its_pods(scene: Arc<Scene>) -> anyhow::Result<()> {
    const ZONES: [&str; 2] = ["told", "untold"];
    const SLEEPING: usize = 5;
    let (mut new, mut sleepers) = (Vec::new(), Vec::new());
    for zone in ZONES {
        for index in 0..SLEEPING + 2 {
            let name = format!("{zone}-{index}");
            new.push(NewNode::new(name.as_str()).label("topology.kubernetes.io/zone", zone));
            if index < SLEEPING {
                sleepers.push(name);
            }
        }
    }
    scene.add_nodes(&new).await?;
    scene.wait_for_default_account().await?;
    let excluded = json!({ "metadata": { "labels": { "node.kubernetes.io/exclude-disruption": "true" } } });
    for node in &sleepers {
        if node.starts_with(ZONES[0]) {
            label(&scene, node, &excluded).await?;
        }
        silence(&scene.admin(), node).await?;
    }
    for node in &sleepers {
        nodes::wait_unreachable(&scene.admin(), node).await?;
    }
    // Five of seven are away in each zone, and a sixth dies.
    let [told, untold] = ZONES.map(|zone| format!("{zone}-{SLEEPING}"));
    for node in [&told, &untold] {
        pod_that_leaves(&scene, node).await?;
        silence(&scene.admin(), node).await?;
    }
    let died = Instant::now();
    left(&scene, &told, A_WHILE).await?;
    let lost = died.elapsed();
    eprintln!("with 71 % of the nodes asleep, pods left a node that died after {lost:.1?}");
    let kept = left(&scene, &untold, Duration::from_secs(30)).await;
    ensure!(kept.is_err(), "without the label nothing should be evicted");
    nodes::wait_unreachable(&scene.admin(), &untold).await
}

async fn label(scene: &Scene, node: &str, change: &Value) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(scene.admin());
    nodes.patch(node, &PatchParams::default(), &Patch::Merge(change)).await?;
    Ok(())
}

/// A pod on a node that tolerates for a second that the node is away.
async fn pod_that_leaves(scene: &Scene, node: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(scene.admin(), scene.namespace());
    let tolerates =
        |key: &str| json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1 });
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": format!("on-{node}") },
        "spec": {
            "nodeName": node,
            "tolerations": [tolerates("node.kubernetes.io/unreachable"), tolerates("node.kubernetes.io/not-ready")],
            "containers": [{ "name": "main", "image": "none" }],
        },
    }))?;
    pods.create(&PostParams::default(), &pod).await?;
    Ok(())
}

/// Waits until that pod is evicted.
async fn left(scene: &Scene, node: &str, at_most: Duration) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(scene.admin(), scene.namespace());
    until(&format!("a pod is evicted from {node}"), at_most, || async {
        let pod = pods.get_opt(&format!("on-{node}")).await?;
        let gone = pod.as_ref().is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
        Ok(Look::holds(gone, "it is still there"))
    })
    .await
}
