//! Programs of others that act on nodes, beside the operator: none of them does to a sleeping node what its owner would
//! regret, people are told what stands in the way, and what they are told to do about it works. `docs/neighbours.md`.

use super::wake_tests::{phase, rested};
use super::{begin, condition, moves, on_a_runtime_of_its_own, one_busy_vm, run, unfinished};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use miyako::sim::cluster::Fate;
use miyako::sim::neighbours::{
    Acts, Autoscaler, ClusterApi, Descheduler, Karpenter, Kured, MachineConfigOperator, MachineHealthChecks, Metal3,
    NodeHealthChecks, SelfRemediation, SystemUpgrades, Velero,
};
use miyako::sim::simulation::{CLASS_LABEL, Scenario, Simulation, USER};
use miyako_api::ConsolidationPolicy;
use miyako_api::NodePower;
use miyako_api::names::{condition, ours};
use miyako_api::node_power::PowerPhase;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const DEDICATED: (&str, &str) = (CLASS_LABEL, "dedicated");
const NONE: [&str; 0] = [];

/// So many dedicated nodes that nobody needs, one shared node, and a program of somebody else's from the beginning.
async fn beside(dedicated: u32, neighbour: impl Acts + 'static, objects: &[Value]) -> Simulation {
    let mut world = begin(rested(dedicated)).await;
    world.add_neighbour(neighbour).expect("its definitions are understood");
    for object in objects {
        world.world.server.create(USER, object.clone()).expect("it is taken");
    }
    world
}

fn asleep(world: &Simulation) -> Vec<String> {
    let machines = world.machines.as_ref().expect("there are machines");
    machines.asleep().into_iter().map(str::to_owned).collect()
}

async fn change(world: &Simulation, gvk: (&str, &str, &str), name: &str, patch: Value) {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(gvk.0, gvk.1, gvk.2));
    let client = world.world.server.client(USER);
    let api: Api<DynamicObject> = match gvk.2 {
        "BareMetalHost" | "MachineHealthCheck" => Api::namespaced_with(client, "default", &kind),
        _ => Api::all_with(client, &kind),
    };
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("people may change it");
}

async fn annotate(world: &Simulation, node: &str, key: &str) {
    change(world, ("", "v1", "Node"), node, json!({"metadata": {"annotations": {key: "true"}}})).await;
}

/// The policy's blockers with what it advises.
async fn blockers(world: &Simulation) -> BTreeMap<String, String> {
    let api: Api<ConsolidationPolicy> = Api::all(world.world.server.client(USER));
    let status = api.get_status("pack").await.expect("the policy is there").status.unwrap_or_default();
    status.blockers.into_iter().map(|blocker| (blocker.reason, blocker.message)).collect()
}

async fn assert_told(world: &Simulation, reason: &str, cure: &str) {
    let told = blockers(world).await;
    let advice = told.get(reason).unwrap_or_else(|| panic!("{reason} is not told: {told:?}"));
    assert!(advice.contains(cure), "{advice:?} does not say {cure:?}");
}

/// Ten minutes later nobody needs the dedicated nodes, and nothing was broken on the way.
async fn both_sleep_again(world: &mut Simulation) {
    run(world, 600).await;
    assert_eq!(asleep(world), ["dedicated-0", "dedicated-1"]);
    assert_unbroken(world);
}

fn assert_unbroken(world: &Simulation) {
    assert_eq!(world.broken_rules(), [""; 0]);
}

fn host(name: &str) -> Value {
    json!({
        "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
        "metadata": {"name": name, "namespace": "default"}, "spec": {"online": true},
    })
}

#[tokio::test(start_paused = true)]
async fn metal3_turns_no_sleeping_node_on() {
    const DETACHED: &str = "baremetalhost.metal3.io/detached";
    let mut world = beside(2, Metal3, &[host("dedicated-0"), host("dedicated-1")]).await;
    run(&mut world, 600).await;
    assert_eq!(asleep(&world), NONE);
    assert_told(&world, "powered by Metal3", DETACHED).await;
    let patch = json!({"metadata": {"annotations": {DETACHED: ""}}});
    change(&world, ("metal3.io", "v1alpha1", "BareMetalHost"), "dedicated-0", patch).await;
    run(&mut world, 900).await;
    assert_eq!(asleep(&world), ["dedicated-0"]);
    assert_eq!(world.deeds(), NONE, "they fought over a node's power");
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn the_machine_config_operator_updates_nodes_that_slept_and_they_sleep_again() {
    let pool = json!({
        "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfigPool",
        "metadata": {"name": "worker"},
        "spec": {
            "nodeSelector": {"matchLabels": {DEDICATED.0: DEDICATED.1}}, "maxUnavailable": 1,
            "configuration": {"name": "rendered-1"},
        },
    });
    let mut world = beside(2, MachineConfigOperator::default(), &[pool]).await;
    run(&mut world, 400).await;
    assert_eq!(asleep(&world), ["dedicated-0", "dedicated-1"], "a pool that changes nothing is in nobody's way");
    let gvk = ("machineconfiguration.openshift.io", "v1", "MachineConfigPool");
    change(&world, gvk, "worker", json!({"spec": {"configuration": {"name": "rendered-2"}}})).await;
    run(&mut world, 100).await;
    assert_eq!(asleep(&world), NONE, "a sleeping node would take the pool's only place");
    assert_told(&world, "rollout of MachineConfigPool worker", "rollout is over").await;
    run(&mut world, 500).await;
    let updated = ["dedicated-0", "dedicated-1"].map(|node| format!("the machine-config operator updated {node}"));
    assert_eq!(world.deeds(), updated);
    both_sleep_again(&mut world).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_health_check_repairs_what_really_failed_and_no_sleeping_node() {
    let check = json!({
        "apiVersion": "remediation.medik8s.io/v1alpha1", "kind": "NodeHealthCheck", "metadata": {"name": "workers"},
        "spec": {
            "selector": {"matchExpressions": [{"key": CLASS_LABEL, "operator": "Exists"}]}, "minHealthy": "51%",
            "unhealthyConditions": [{"type": "Ready", "status": "Unknown", "duration": "300s"}],
        },
    });
    let mut world = beside(4, NodeHealthChecks, &[check]).await;
    run(&mut world, 900).await;
    let sleepers = asleep(&world);
    assert_eq!(sleepers.len(), 1, "one more may fail, and is repaired: {sleepers:?}");
    let (why, message) = condition(&world, condition::SLEEPERS_COUNTED).await.expect("people are told");
    assert!(why == "NodeHealthCheck" && message.contains(ours::POWER), "{message}");
    // A node that is awake hangs.
    let broken = (0..4).map(|index| format!("dedicated-{index}")).find(|node| !sleepers.contains(node));
    let broken = broken.expect("three are awake");
    let now = (world.world.now)();
    let machines = world.machines.as_mut().expect("there are machines");
    machines.hang(&broken, now).await.expect("the Node is there");
    run(&mut world, 400).await;
    assert_eq!(world.deeds(), [format!("NodeHealthCheck rebooted the awake node {broken}")]);
    // Somebody does what the message says: all sleep, and none is repaired.
    let expressions = json!([
        {"key": CLASS_LABEL, "operator": "Exists"},
        {"key": ours::POWER, "operator": "NotIn", "values": ["asleep"]},
    ]);
    let patch = json!({"spec": {"selector": {"matchExpressions": expressions}}});
    change(&world, ("remediation.medik8s.io", "v1alpha1", "NodeHealthCheck"), "workers", patch).await;
    run(&mut world, 1800).await;
    assert_eq!(asleep(&world).len(), 4);
    assert_eq!(world.deeds().len(), 1, "{:?}", world.deeds());
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn a_machine_health_check_replaces_no_sleeping_node() {
    const GROUP: &str = "machine.openshift.io/v1beta1";
    let machine = json!({
        "apiVersion": GROUP, "kind": "Machine",
        "metadata": {"name": "machine-0", "namespace": "default", "labels": {"role": "worker"}},
        "spec": {}, "status": {"nodeRef": {"kind": "Node", "name": "dedicated-0"}},
    });
    let check = json!({
        "apiVersion": GROUP, "kind": "MachineHealthCheck", "metadata": {"name": "workers", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"role": "worker"}},
            "unhealthyConditions": [{"type": "Ready", "status": "Unknown", "timeout": "300s"}],
        },
    });
    let mut world = beside(2, MachineHealthChecks, &[machine, check]).await;
    run(&mut world, 900).await;
    assert_eq!(asleep(&world), ["dedicated-1"]);
    assert_told(&world, "MachineHealthCheck default/workers", "cluster.x-k8s.io/paused").await;
    let patch = json!({"metadata": {"annotations": {"cluster.x-k8s.io/paused": ""}}});
    change(&world, ("machine.openshift.io", "v1beta1", "MachineHealthCheck"), "workers", patch).await;
    run(&mut world, 1200).await;
    assert_eq!(asleep(&world), ["dedicated-0", "dedicated-1"]);
    assert_eq!(world.deeds(), NONE, "a node was lost");
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn the_cluster_autoscaler_removes_no_sleeping_node() {
    const DISABLED: &str = "cluster-autoscaler.kubernetes.io/scale-down-disabled";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "autoscaler-0", "namespace": "default", "labels": {"app": "cluster-autoscaler"}},
        "spec": {"nodeName": "shared-0", "containers": [{"name": "main", "image": "mirror/autoscaler:1"}]},
    });
    let mut world = beside(2, Autoscaler { group: DEDICATED }, &[pod]).await;
    run(&mut world, 900).await;
    assert_eq!(asleep(&world), NONE);
    assert_told(&world, "removed by the cluster autoscaler", DISABLED).await;
    annotate(&world, "dedicated-0", DISABLED).await;
    run(&mut world, 2400).await;
    assert_eq!(asleep(&world), ["dedicated-0"]);
    assert_eq!(world.deeds(), NONE, "a node was lost");
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn karpenter_removes_no_sleeping_node() {
    const KEPT: &str = "karpenter.sh/do-not-disrupt";
    let mut world = beside(2, Karpenter { consolidate_after: 1200, empty: BTreeMap::new() }, &[]).await;
    for node in ["dedicated-0", "dedicated-1"] {
        let label = json!({"metadata": {"labels": {"karpenter.sh/nodepool": "general"}}});
        change(&world, ("", "v1", "Node"), node, label).await;
    }
    annotate(&world, "dedicated-0", KEPT).await;
    run(&mut world, 900).await;
    assert_eq!(asleep(&world), ["dedicated-0"]);
    assert_told(&world, "removed by Karpenter", KEPT).await;
    run(&mut world, 1500).await;
    // What is awake and empty is Karpenter's to remove.
    assert_eq!(world.deeds(), ["Karpenter removed the awake node dedicated-1"]);
    assert_eq!((asleep(&world), unfinished(&world)), (vec!["dedicated-0".to_owned()], 0));
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn kured_reboots_nodes_when_they_are_awake_and_none_falls_asleep_meanwhile() {
    let mut world = begin(rested(2)).await;
    run(&mut world, 300).await;
    assert_eq!(asleep(&world), ["dedicated-0", "dedicated-1"]);
    world.add_neighbour(Kured::of(&["dedicated-0", "dedicated-1"])).expect("it has no definitions");
    run(&mut world, 300).await;
    assert_eq!(world.deeds(), NONE, "its pods sleep with their nodes");
    for node in ["dedicated-0", "dedicated-1"] {
        let ask = json!({"metadata": {"annotations": {ours::REQUEST: "wake alice 1"}}});
        let powers: Api<NodePower> = Api::all(world.world.server.client(USER));
        powers.patch(node, &PatchParams::default(), &Patch::Merge(ask)).await.expect("people may ask");
        run(&mut world, 300).await;
    }
    assert_eq!(world.deeds(), ["kured rebooted dedicated-0", "kured rebooted dedicated-1"]);
    both_sleep_again(&mut world).await;
}

#[tokio::test(start_paused = true)]
async fn the_system_upgrade_controller_reaches_nodes_that_sleep() {
    let mut world = begin(rested(2)).await;
    run(&mut world, 300).await;
    let namespaces: Api<Namespace> = Api::all(world.world.server.client(USER));
    let namespace = serde_json::from_value(json!({"metadata": {"name": "system-upgrade"}})).expect("a Namespace");
    namespaces.create(&PostParams::default(), &namespace).await.expect("people may");
    let upgrades = SystemUpgrades { group: DEDICATED, done: "plan.upgrade.cattle.io/k3s", working: None };
    world.add_neighbour(upgrades).expect("it has no definitions");
    run(&mut world, 600).await;
    let upgraded = ["dedicated-0", "dedicated-1"].map(|node| format!("the system-upgrade-controller upgraded {node}"));
    assert_eq!(world.deeds(), upgraded);
    both_sleep_again(&mut world).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_own_agent_reboots_it_after_the_resume_comes_back_all_the_same() {
    let mut world = beside(2, SelfRemediation::default(), &[]).await;
    run(&mut world, 300).await;
    assert_eq!(asleep(&world), ["dedicated-0", "dedicated-1"]);
    let pods: Api<Pod> = Api::namespaced(world.world.server.client(USER), "default");
    let web = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"nodeSelector": {CLASS_LABEL: "dedicated"}, "containers": [{"name": "main", "image": "main"}]},
    });
    let web: Pod = serde_json::from_value(web).expect("a Pod");
    pods.create(&PostParams::default(), &web).await.expect("pods may come");
    run(&mut world, 240).await;
    let node = pods.get("web").await.expect("it is there").spec.and_then(|spec| spec.node_name);
    let node = node.expect("it was scheduled");
    assert_eq!(phase(&world, &node).await, PowerPhase::Awake);
    assert_eq!(world.deeds(), [format!("the agent of {node} rebooted it")], "no more nodes than needed are woken");
    assert_unbroken(&world);
}

#[test]
fn a_node_that_cluster_api_removes_in_its_sleep_leaves_nothing_behind() {
    on_a_runtime_of_its_own(async {
        let mut world = beside(3, ClusterApi { group: DEDICATED, replicas: 3 }, &[]).await;
        run(&mut world, 300).await;
        assert_eq!(asleep(&world).len(), 3);
        world.neighbours.clear();
        world.add_neighbour(ClusterApi { group: DEDICATED, replicas: 2 }).expect("it has no definitions");
        run(&mut world, 120).await;
        let [deed] = world.deeds() else { panic!("{:?}", world.deeds()) };
        let gone =
            deed.strip_prefix("Cluster API removed the sleeping node ").expect("it takes sleepers first").to_owned();
        assert_eq!(unfinished(&world), 0);
        // The others are woken when they are needed, and nobody waits for the one that is gone.
        let pods: Api<Pod> = Api::namespaced(world.world.server.client(USER), "default");
        let web = json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"nodeSelector": {CLASS_LABEL: "dedicated"}, "containers": [{"name": "main", "image": "main"}]},
        });
        let web: Pod = serde_json::from_value(web).expect("a Pod");
        pods.create(&PostParams::default(), &web).await.expect("pods may come");
        run(&mut world, 60).await;
        let node = pods.get("web").await.expect("it is there").spec.and_then(|spec| spec.node_name);
        assert!(node.is_some_and(|node| node != gone));
        let nodes: Api<Node> = Api::all(world.world.server.client(USER));
        assert!(nodes.get_opt(&gone).await.expect("the API server answers").is_none());
        assert_unbroken(&world);
    });
}

#[tokio::test(start_paused = true)]
async fn nothing_is_packed_against_a_descheduler_that_spreads_it() {
    let job = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "spread", "namespace": "default"},
        "spec": {"schedule": "*/2 * * * *", "suspend": false, "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "d", "image": "registry.k8s.io/descheduler/descheduler:v0.35.0"}],
        }}}}},
    });
    // Programs of others act on machines.
    let scenario = Scenario { machines: Some(Fate::default()), ..one_busy_vm(1) };
    let mut world = begin(scenario).await;
    world.world.server.create(USER, job).expect("it is taken");
    world.add_neighbour(Descheduler).expect("it has no definitions");
    run(&mut world, 600).await;
    assert!(!world.deeds().is_empty(), "it evicts");
    assert_eq!(moves(&world), 0, "they would move the same VMs to and fro");
    let (why, message) = condition(&world, condition::DEGRADED).await.expect("people are told");
    assert!(why == "RivalDescheduler" && message.contains("default/spread"), "{why}: {message}");
    let jobs: Api<k8s_openapi::api::batch::v1::CronJob> = Api::namespaced(world.world.server.client(USER), "default");
    let suspended = Patch::Merge(json!({"spec": {"suspend": true}}));
    jobs.patch("spread", &PatchParams::default(), &suspended).await.expect("people may suspend it");
    let evictions = world.deeds().len();
    run(&mut world, 300).await;
    assert_eq!(world.deeds().len(), evictions);
    assert_eq!(condition(&world, condition::DEGRADED).await, None);
    // Where evictions put VMs is none of our rules.
}

#[tokio::test(start_paused = true)]
async fn a_backup_of_what_is_on_a_sleeping_node_is_made_and_the_node_sleeps_again() {
    let mut world = begin(rested(2)).await;
    let namespaces: Api<Namespace> = Api::all(world.world.server.client(USER));
    let namespace = serde_json::from_value(json!({"metadata": {"name": "velero"}})).expect("a Namespace");
    namespaces.create(&PostParams::default(), &namespace).await.expect("people may");
    world.add_neighbour(Velero { node: "dedicated-0", last: None, running: None }).expect("it has no definitions");
    run(&mut world, 600).await;
    assert_eq!(asleep(&world), ["dedicated-0", "dedicated-1"]);
    run(&mut world, 390).await;
    assert_eq!(asleep(&world), ["dedicated-1"], "the other one sleeps on");
    run(&mut world, 600).await;
    assert_eq!(world.deeds(), ["Velero backed up what is on the awake node dedicated-0"]);
    assert_eq!(asleep(&world), ["dedicated-0", "dedicated-1"]);
    assert_unbroken(&world);
}
