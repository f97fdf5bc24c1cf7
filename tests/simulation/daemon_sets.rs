//! DaemonSets whose pods don't tolerate our taint, and nodes that sleep: virt-handler is one of them.

use super::wake_tests::{classes, phase, rested};
use super::{begin, run, unfinished};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use miyako::sim::cluster::{Fate, WakeFate};
use miyako::sim::simulation::{CLASS_LABEL, Simulation, USER};
use miyako_api::names::{marks, ours};
use miyako_api::node_power::PowerPhase;
use serde_json::json;

const NODES: [&str; 3] = ["dedicated-0", "dedicated-1", "shared-0"];

/// A DaemonSet that a node needs before it counts.
const PLUGIN: &str = "network-plugin";

fn sets(world: &Simulation, namespace: &str) -> Api<DaemonSet> {
    Api::namespaced(world.world.server.client(USER), namespace)
}

/// Pods of a DaemonSet with these labels: node and revision.
async fn pods(world: &Simulation, labels: &str) -> Vec<(String, String)> {
    let pods: Api<Pod> = Api::all(world.world.server.client(USER));
    let pods = pods.list(&ListParams::default().labels(labels)).await.expect("pods are listed");
    let mut found: Vec<(String, String)> = pods
        .into_iter()
        .map(|pod| {
            let revision = pod.labels().get("pod-template-generation").cloned().unwrap_or_default();
            (pod.spec.and_then(|spec| spec.node_name).unwrap_or_default(), revision)
        })
        .collect();
    found.sort();
    found
}

/// Somebody changes a DaemonSet's template: it is rolled out.
async fn roll_out(world: &Simulation, namespace: &str, name: &str) {
    let template = json!({"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}});
    let patched = sets(world, namespace).patch(name, &PatchParams::default(), &Patch::Merge(template)).await;
    patched.expect("people may restart it");
}

async fn run_a_pod(world: &Simulation, name: &str) {
    let pod = json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeSelector": {CLASS_LABEL: "dedicated"},
            "containers": [{"name": "main", "image": "main", "resources": {"requests": {"cpu": "100m"}}}],
        },
    });
    let pods: Api<Pod> = Api::namespaced(world.world.server.client(USER), "default");
    pods.create(&PostParams::default(), &serde_json::from_value(pod).expect("a Pod")).await.expect("pods may come");
}

async fn taints(world: &Simulation, node: &str) -> Vec<String> {
    let nodes: Api<Node> = Api::all(world.world.server.client(USER));
    let node = nodes.get(node).await.expect("the node is there");
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    taints
        .into_iter()
        .map(|taint| format!("{}={}:{}", taint.key, taint.value.unwrap_or_default(), taint.effect))
        .collect()
}

/// The nodes that were ever given up while so many seconds went by.
async fn given_up(world: &mut Simulation, seconds: u32) -> Vec<&'static str> {
    let mut given_up = Vec::new();
    for _ in 0..seconds {
        run(world, 1).await;
        for node in NODES {
            if phase(world, node).await == PowerPhase::Quarantined && !given_up.contains(&node) {
                given_up.push(node);
            }
        }
    }
    given_up
}

fn assert_unbroken(world: &Simulation) {
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_of_virt_handler_reaches_nodes_that_slept_through_its_beginning() {
    let mut world = begin(rested(2)).await;
    run(&mut world, 300).await;
    assert_eq!(world.machines.as_ref().map(|machines| machines.asleep().len()), Some(2));
    roll_out(&world, "kubevirt", "virt-handler").await;
    run(&mut world, 3).await;
    let left = pods(&world, "kubevirt.io=virt-handler").await;
    assert!(left.len() < 3, "the pods of sleeping nodes are gone, and none can come: {left:?}");
    // Nodes that take no new pods are not counted, so the rollout is over for everybody; then somebody needs all nodes.
    assert_eq!(given_up(&mut world, 60).await, [""; 0]);
    let nodes: Api<Node> = Api::all(world.world.server.client(USER));
    for node in ["dedicated-0", "dedicated-1"] {
        let mark = Patch::Merge(json!({"metadata": {"annotations": {marks::KEEP_AWAKE: "work"}}}));
        nodes.patch(node, &PatchParams::default(), &mark).await.expect("people may mark nodes");
    }
    assert_eq!(given_up(&mut world, 60).await, [""; 0]);
    let updated: Vec<_> = NODES.map(|node| (node.to_owned(), "2".to_owned())).into();
    assert_eq!(pods(&world, "kubevirt.io=virt-handler").await, updated);
    for node in NODES {
        assert_eq!((phase(&world, node).await, taints(&world, node).await), (PowerPhase::Awake, Vec::new()));
    }
    assert_eq!(unfinished(&world), 0);
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_virt_handler_was_lost_in_the_sleep_gets_a_new_one_and_counts_again() {
    for wake in [WakeFate::After(5), WakeFate::Boots(30)] {
        let mut scenario = rested(2);
        scenario.machines = Some(Fate { wake, ..Fate::default() });
        let mut world = begin(scenario).await;
        run(&mut world, 300).await;
        // As after a shutdown in order: the kubelet ended it, and the DaemonSet's controller took it away.
        for (node, revision) in pods(&world, "kubevirt.io=virt-handler").await {
            let handlers: Api<Pod> = Api::namespaced(world.world.server.client(USER), "kubevirt");
            if node != "shared-0" {
                let name = format!("virt-handler-{node}-{revision}");
                handlers.delete(&name, &DeleteParams::default()).await.expect("pods may go");
            }
        }
        run(&mut world, 60).await;
        assert_eq!(pods(&world, "kubevirt.io=virt-handler").await.len(), 1, "none comes to a node that sleeps");
        assert_eq!(phase(&world, "dedicated-0").await, PowerPhase::Suspended);
        run_a_pod(&world, "web").await;
        assert_eq!(given_up(&mut world, 60).await, [""; 0]);
        let mut awake = Vec::new();
        for node in NODES {
            if phase(&world, node).await == PowerPhase::Awake {
                awake.push(node);
                assert_eq!(taints(&world, node).await, [""; 0]);
            }
        }
        assert_eq!(awake.len(), 2, "{wake:?}: one is woken for the pod, and is usable");
        assert_eq!(pods(&world, "kubevirt.io=virt-handler").await.len(), 2);
        assert_unbroken(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_that_a_node_must_have_is_rolled_out_while_it_sleeps() {
    let mut scenario = rested(2);
    classes(&mut scenario, |spec| {
        spec["suspend"] = json!({"ignoreDaemonSets": [format!("plugins/{PLUGIN}")]});
        spec["readyWhen"] = json!({"daemonSets": [format!("plugins/{PLUGIN}")]});
    });
    let mut world = begin(scenario).await;
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "plugins"}})).expect("a Namespace");
    let namespaces: Api<Namespace> = Api::all(world.world.server.client(USER));
    namespaces.create(&PostParams::default(), &namespace).await.expect("people may");
    let set = json!({
        "metadata": {"name": PLUGIN, "namespace": "plugins"},
        "spec": {
            "selector": {"matchLabels": {"app": PLUGIN}},
            "template": {
                "metadata": {"labels": {"app": PLUGIN}},
                "spec": {"containers": [{"name": "main", "image": "main"}]},
            },
        },
    });
    let set: DaemonSet = serde_json::from_value(set).expect("a DaemonSet");
    sets(&world, "plugins").create(&PostParams::default(), &set).await.expect("people may");
    run(&mut world, 300).await;
    assert_eq!(pods(&world, &format!("app={PLUGIN}")).await.len(), 3);
    assert_eq!(world.machines.as_ref().map(|machines| machines.asleep().len()), Some(2));
    roll_out(&world, "plugins", PLUGIN).await;
    run(&mut world, 300).await;
    assert_eq!(world.machines.as_ref().map(|machines| machines.asleep().len()), Some(2), "nobody wakes for a rollout");
    for node in ["dedicated-0", "dedicated-1"] {
        assert!(taints(&world, node).await.contains(&format!("{}=asleep:NoSchedule", ours::POWER)));
    }
    run_a_pod(&world, "web").await;
    assert_eq!(given_up(&mut world, 60).await, [""; 0]);
    let updated = pods(&world, &format!("app={PLUGIN}")).await;
    assert_eq!(updated.iter().filter(|(_, revision)| revision == "2").count(), 2, "{updated:?}");
    let pods: Api<Pod> = Api::namespaced(world.world.server.client(USER), "default");
    let node = pods.get("web").await.expect("it is there").spec.and_then(|spec| spec.node_name);
    assert_eq!(phase(&world, &node.expect("it runs somewhere")).await, PowerPhase::Awake);
    assert_unbroken(&world);
}
