//! What else works on nodes, and what becomes of it when a node sleeps: one answer each, told to operators in
//! `docs/sleep.md`.

use super::wake_tests::{classes, phase, phases, rested, two_asleep};
use super::{begin, condition, run, unfinished};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use miyako::sim::neighbours::definition;
use miyako::sim::simulation::{CLASS_LABEL, Simulation, USER};
use miyako_api::machine_health_check::OpenShiftMachineHealthCheck;
use miyako_api::names::{condition, kubernetes, ours};
use miyako_api::neighbours::{BareMetalHost, MachineConfigPool};
use miyako_api::node_health_check::NodeHealthCheck;
use miyako_api::node_power::PowerPhase;
use serde_json::{Value, json};

async fn change_node(world: &Simulation, node: &str, patch: Value) {
    let nodes: Api<Node> = Api::all(world.world.server.client(USER));
    nodes.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await.expect("people may change nodes");
}

fn pods(world: &Simulation) -> Api<Pod> {
    Api::namespaced(world.world.server.client(USER), "default")
}

async fn create_pod(world: &Simulation, name: &str, spec: Value, owner: Option<&str>) {
    let mut pod = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    pod["spec"]["containers"] = json!([{"name": "main", "image": "main", "resources": {"requests": {"cpu": "100m"}}}]);
    if let Some(set) = owner {
        pod["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": set, "uid": set, "controller": true}]);
    }
    let pod: Pod = serde_json::from_value(pod).expect("a Pod");
    pods(world).create(&PostParams::default(), &pod).await.expect("pods may come");
}

async fn node_of_pod(world: &Simulation, name: &str) -> Option<String> {
    let pod = pods(world).get(name).await.expect("the pod is there");
    pod.spec.and_then(|spec| spec.node_name)
}

fn assert_unbroken(world: &Simulation) {
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_pending_pod_wakes_one_node_and_runs_there() {
    let mut world = two_asleep().await;
    create_pod(&world, "web", json!({"nodeSelector": {CLASS_LABEL: "dedicated"}}), None).await;
    run(&mut world, 60).await;
    let node = node_of_pod(&world, "web").await.expect("it was scheduled");
    assert_eq!(phase(&world, &node).await, PowerPhase::Awake);
    let asleep = world.machines.as_ref().expect("there are machines").asleep().len();
    assert_eq!(asleep, 1, "no more nodes than needed are woken");
    run(&mut world, 300).await;
    assert_eq!(phase(&world, &node).await, PowerPhase::Awake, "the pod keeps it awake");
    pods(&world).delete("web", &DeleteParams::default()).await.expect("pods may go");
    run(&mut world, 400).await;
    assert_eq!(phases(&world).await, [PowerPhase::Suspended; 2]);
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_tolerates_everything_wakes_the_node_it_is_bound_to_and_one_of_a_daemon_set_does_not() {
    let mut world = two_asleep().await;
    // A DaemonSet's rollout, or a new one that tolerates all taints: its pod waits until the node wakes.
    let everything = json!([{"operator": "Exists"}]);
    let bound = |node: &str| json!({"nodeName": node, "tolerations": everything});
    create_pod(&world, "node-exporter-x", bound("dedicated-0"), Some("node-exporter")).await;
    run(&mut world, 120).await;
    assert_eq!(phases(&world).await, [PowerPhase::Suspended; 2]);
    create_pod(&world, "web", bound("dedicated-1"), None).await;
    run(&mut world, 60).await;
    assert_eq!(phases(&world).await, [PowerPhase::Suspended, PowerPhase::Awake]);
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_never_falls_asleep_and_a_sleeping_one_that_is_drained_sleeps_on() {
    let cordon = |on: bool| json!({"spec": {"unschedulable": on}});
    // Awake: whoever drains it works on it.
    let mut world = begin(rested(2)).await;
    change_node(&world, "dedicated-0", cordon(true)).await;
    run(&mut world, 300).await;
    assert_eq!(phases(&world).await, [PowerPhase::Awake, PowerPhase::Suspended]);
    // Asleep: there is nothing on it to evict, and nobody wakes it for that.
    change_node(&world, "dedicated-1", cordon(true)).await;
    run(&mut world, 300).await;
    assert_eq!(phases(&world).await, [PowerPhase::Awake, PowerPhase::Suspended]);
    // The drain is over: one falls asleep, the other one sleeps on and is no worse for it.
    for node in ["dedicated-0", "dedicated-1"] {
        change_node(&world, node, cordon(false)).await;
    }
    run(&mut world, 300).await;
    assert_eq!(phases(&world).await, [PowerPhase::Suspended; 2]);
    create_pod(&world, "web", json!({"nodeSelector": {CLASS_LABEL: "dedicated"}}), None).await;
    run(&mut world, 60).await;
    assert!(node_of_pod(&world, "web").await.is_some());
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_sleeper_is_not_woken_for_a_pod_that_could_not_run_there() {
    let mut world = two_asleep().await;
    change_node(&world, "dedicated-0", json!({"spec": {"unschedulable": true}})).await;
    create_pod(&world, "web", json!({"nodeSelector": {CLASS_LABEL: "dedicated"}}), None).await;
    run(&mut world, 60).await;
    assert_eq!(phases(&world).await, [PowerPhase::Suspended, PowerPhase::Awake]);
    assert_eq!(node_of_pod(&world, "web").await.as_deref(), Some("dedicated-1"));
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn a_machine_with_etcd_on_it_never_sleeps_whatever_its_labels_say() {
    let mut world = begin(rested(2)).await;
    for (name, node) in [("etcd-dedicated-0", "dedicated-0"), ("nginx-proxy-dedicated-1", "dedicated-1")] {
        let pod = json!({
            "metadata": {"name": name, "namespace": "default", "annotations": {kubernetes::MIRROR_POD: "1"}},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "main"}]},
        });
        let pod: Pod = serde_json::from_value(pod).expect("a Pod");
        pods(&world).create(&PostParams::default(), &pod).await.expect("kubelets may show their pods");
    }
    run(&mut world, 300).await;
    assert_eq!(phases(&world).await, [PowerPhase::Awake, PowerPhase::Suspended]);
    // Somebody says what it is, and it wakes for a pod.
    let role = json!({"metadata": {"labels": {"node-role.kubernetes.io/etcd": "true"}}});
    change_node(&world, "dedicated-1", role).await;
    create_pod(&world, "web", json!({"nodeName": "dedicated-1"}), None).await;
    run(&mut world, 60).await;
    pods(&world).delete("web", &DeleteParams::default()).await.expect("pods may go");
    run(&mut world, 400).await;
    assert_eq!(phases(&world).await, [PowerPhase::Awake; 2]);
    assert_unbroken(&world);
}

async fn change_taints(world: &Simulation, node: &str, change: impl FnOnce(&mut Vec<Value>)) {
    let nodes: Api<Node> = Api::all(world.world.server.client(USER));
    let found = nodes.get(node).await.expect("the node is there");
    let own = found.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let mut taints: Vec<Value> = own.iter().map(|taint| json!(taint)).collect();
    change(&mut taints);
    change_node(world, node, json!({"spec": {"taints": taints}})).await;
}

#[tokio::test(start_paused = true)]
async fn a_sleeper_that_controllers_have_tainted_is_woken_all_the_same() {
    let mut world = two_asleep().await;
    // Cilium's operator and a cloud controller find that nobody is there. A person keeps the other one for something.
    change_taints(&world, "dedicated-0", |all| {
        for key in ["node.cilium.io/agent-not-ready", "node.cloudprovider.kubernetes.io/shutdown"] {
            all.push(json!({"key": key, "effect": "NoSchedule"}));
        }
    })
    .await;
    change_taints(&world, "dedicated-1", |all| {
        all.push(json!({"key": "example.org/reserved", "effect": "NoSchedule"}))
    })
    .await;
    create_pod(&world, "web", json!({"nodeSelector": {CLASS_LABEL: "dedicated"}}), None).await;
    run(&mut world, 30).await;
    // It answers again, so they take their word back.
    change_taints(&world, "dedicated-0", |all| all.retain(|taint| taint["key"] == ours::POWER)).await;
    run(&mut world, 30).await;
    assert_eq!(node_of_pod(&world, "web").await.as_deref(), Some("dedicated-0"));
    assert_eq!(phases(&world).await, [PowerPhase::Awake, PowerPhase::Suspended]);
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_the_cluster_autoscaler_wants_to_remove_are_left_to_it() {
    let taint = |key: &str, effect: &str| json!({"spec": {"taints": [{"key": key, "value": "1", "effect": effect}]}});
    let mut world = begin(rested(2)).await;
    change_node(&world, "dedicated-0", taint("ToBeDeletedByClusterAutoscaler", "NoSchedule")).await;
    change_node(&world, "dedicated-1", taint("DeletionCandidateOfClusterAutoscaler", "PreferNoSchedule")).await;
    run(&mut world, 300).await;
    assert_eq!(phases(&world).await, [PowerPhase::Awake; 2]);
    // It thinks better of it.
    for node in ["dedicated-0", "dedicated-1"] {
        change_node(&world, node, json!({"spec": {"taints": null}})).await;
    }
    run(&mut world, 300).await;
    assert_eq!(phases(&world).await, [PowerPhase::Suspended; 2]);
    assert_eq!(unfinished(&world), 0);
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn a_node_counts_again_only_when_its_daemon_sets_and_conditions_are_there() {
    let mut scenario = rested(2);
    classes(&mut scenario, |spec| spec["readyWhen"] = json!({"conditions": ["NetworkReady"]}));
    let mut world = begin(scenario).await;
    for node in ["dedicated-0", "dedicated-1", "shared-0"] {
        network_ready(&world, node, "True").await;
    }
    run(&mut world, 300).await;
    assert_eq!(phases(&world).await, [PowerPhase::Suspended; 2]);
    for node in ["dedicated-0", "dedicated-1"] {
        network_ready(&world, node, "False").await;
    }
    create_pod(&world, "web", json!({"nodeSelector": {CLASS_LABEL: "dedicated"}}), None).await;
    run(&mut world, 60).await;
    assert_eq!(node_of_pod(&world, "web").await, None, "no node is usable yet");
    for node in ["dedicated-0", "dedicated-1"] {
        network_ready(&world, node, "True").await;
    }
    run(&mut world, 30).await;
    assert!(node_of_pod(&world, "web").await.is_some());
    assert_unbroken(&world);
}

async fn network_ready(world: &Simulation, node: &str, status: &str) {
    let nodes: Api<Node> = Api::all(world.world.server.client(USER));
    let condition = json!({"type": "NetworkReady", "status": status, "reason": "Test", "message": ""});
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    nodes.patch_status(node, &PatchParams::default(), &patch).await.expect("a network plugin may");
}

/// The CRD of NodeHealthChecks.
fn health_check_crd() -> Value {
    definition("remediation.medik8s.io", "Cluster", "v1alpha1", "NodeHealthCheck")
}

#[tokio::test(start_paused = true)]
async fn a_health_check_that_counts_sleepers_caps_them_until_its_selector_leaves_them_out() {
    let mut world = begin(rested(4)).await;
    world.world.server.add_crd(&health_check_crd()).expect("the CRD is taken");
    let checks: Api<NodeHealthCheck> = Api::all(world.world.server.client(USER));
    // As an operator of medik8s would write it for the workers.
    let check = json!({
        "apiVersion": "remediation.medik8s.io/v1alpha1",
        "kind": "NodeHealthCheck",
        "metadata": {"name": "workers"},
        "spec": {
            "selector": {"matchExpressions": [{"key": CLASS_LABEL, "operator": "Exists"}]},
            "minHealthy": "51%",
            "unhealthyConditions": [{"type": "Ready", "status": "Unknown", "duration": "300s"}],
        },
    });
    let check: NodeHealthCheck = serde_json::from_value(check).expect("a NodeHealthCheck");
    checks.create(&PostParams::default(), &check).await.expect("people may create it");
    run(&mut world, 600).await;
    // Of five nodes three must be healthy, and one more may really fail.
    assert_eq!(world.machines.as_ref().expect("there are machines").asleep().len(), 1);
    let (why, message) = condition(&world, condition::SLEEPERS_COUNTED).await.expect("people are told");
    assert_eq!(why, "NodeHealthCheck");
    for part in ["workers", "at most 1 of its 5", ours::POWER, "NotIn", "asleep"] {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
    // Somebody does what the message says.
    let expressions = json!([
        {"key": CLASS_LABEL, "operator": "Exists"},
        {"key": ours::POWER, "operator": "NotIn", "values": ["asleep"]},
    ]);
    let corrected = Patch::Merge(json!({"spec": {"selector": {"matchExpressions": expressions}}}));
    checks.patch("workers", &PatchParams::default(), &corrected).await.expect("people may correct it");
    run(&mut world, 600).await;
    assert_eq!(world.machines.as_ref().expect("there are machines").asleep().len(), 4);
    assert_eq!(condition(&world, condition::SLEEPERS_COUNTED).await, None);
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_a_machine_health_check_would_replace_stay_awake_until_it_is_paused() {
    const GROUP: &str = "machine.openshift.io";
    let mut world = two_asleep().await;
    for kind in ["MachineHealthCheck", "Machine"] {
        world.world.server.add_crd(&definition(GROUP, "Namespaced", "v1beta1", kind)).expect("the CRD is taken");
    }
    let object = |kind: &str, name: &str, rest: Value| {
        let mut object = json!({
            "apiVersion": format!("{GROUP}/v1beta1"), "kind": kind,
            "metadata": {"name": name, "namespace": "default", "labels": {"role": "worker"}},
        });
        object.as_object_mut().expect("an object").extend(rest.as_object().cloned().unwrap_or_default());
        world.world.server.create(USER, object).expect("it is taken");
    };
    object("Machine", "machine-0", json!({"spec": {}, "status": {"nodeRef": {"kind": "Node", "name": "dedicated-0"}}}));
    object(
        "MachineHealthCheck",
        "workers",
        json!({"spec": {
            "selector": {"matchLabels": {"role": "worker"}},
            "unhealthyConditions": [{"type": "Ready", "status": "Unknown", "timeout": "1800s"}],
        }}),
    );
    // Such a thing is looked for every five minutes.
    run(&mut world, 400).await;
    assert_eq!(phases(&world).await, [PowerPhase::Awake, PowerPhase::Suspended]);
    let (why, message) = condition(&world, condition::SLEEPERS_COUNTED).await.expect("people are told");
    assert_eq!(why, "MachineHealthCheck");
    for part in ["default/workers", "1 nodes", "cluster.x-k8s.io/paused"] {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
    let checks: Api<OpenShiftMachineHealthCheck> = Api::default_namespaced(world.world.server.client(USER));
    let paused = Patch::Merge(json!({"metadata": {"annotations": {"cluster.x-k8s.io/paused": ""}}}));
    checks.patch("workers", &PatchParams::default(), &paused).await.expect("people may pause it");
    run(&mut world, 400).await;
    assert_eq!(phases(&world).await, [PowerPhase::Suspended; 2]);
    assert_eq!(condition(&world, condition::SLEEPERS_COUNTED).await, None);
    assert_unbroken(&world);
}

async fn asleep_beside(world: &mut Simulation, seconds: u32) -> [PowerPhase; 2] {
    run(world, seconds).await;
    phases(world).await
}

#[tokio::test(start_paused = true)]
async fn nodes_that_metal3_would_turn_on_stay_awake_until_their_host_is_detached() {
    let mut world = two_asleep().await;
    let crd = definition("metal3.io", "Namespaced", "v1alpha1", "BareMetalHost");
    world.world.server.add_crd(&crd).expect("the CRD is taken");
    let host = json!({
        "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
        "metadata": {"name": "dedicated-0", "namespace": "default"}, "spec": {"online": true},
    });
    world.world.server.create(USER, host).expect("it is taken");
    // Such a kind is looked for every five minutes.
    assert_eq!(asleep_beside(&mut world, 400).await, [PowerPhase::Awake, PowerPhase::Suspended]);
    let hosts: Api<BareMetalHost> = Api::default_namespaced(world.world.server.client(USER));
    let detached = Patch::Merge(json!({"metadata": {"annotations": {"baremetalhost.metal3.io/detached": ""}}}));
    hosts.patch("dedicated-0", &PatchParams::default(), &detached).await.expect("people may detach it");
    assert_eq!(asleep_beside(&mut world, 400).await, [PowerPhase::Suspended; 2]);
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_rolls_a_configuration_out_has_its_nodes_awake_until_it_is_done() {
    let mut world = two_asleep().await;
    let crd = definition("machineconfiguration.openshift.io", "Cluster", "v1", "MachineConfigPool");
    world.world.server.add_crd(&crd).expect("the CRD is taken");
    let pool = json!({
        "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfigPool",
        "metadata": {"name": "worker"},
        "spec": {"nodeSelector": {"matchLabels": {CLASS_LABEL: "dedicated"}}, "maxUnavailable": 1, "paused": false},
        "status": {"unavailableMachineCount": 2, "conditions": [{"type": "Updating", "status": "True"}]},
    });
    world.world.server.create(USER, pool).expect("it is taken");
    assert_eq!(asleep_beside(&mut world, 400).await, [PowerPhase::Awake; 2]);
    let pools: Api<MachineConfigPool> = Api::all(world.world.server.client(USER));
    let done = Patch::Merge(json!({"status": {"conditions": [{"type": "Updating", "status": "False"}]}}));
    pools.patch("worker", &PatchParams::default(), &done).await.expect("the pool is done");
    assert_eq!(asleep_beside(&mut world, 400).await, [PowerPhase::Suspended; 2]);
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn a_descheduler_that_runs_now_and_then_stops_a_policy_between_its_runs_too() {
    let mut world = begin(rested(2)).await;
    let job = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "spread", "namespace": "kube-system"},
        "spec": {"schedule": "*/2 * * * *", "suspend": false, "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "d", "image": "registry.k8s.io/descheduler/descheduler:v0.35.0"}],
        }}}}},
    });
    world.world.server.create(USER, job).expect("it is taken");
    assert_eq!(asleep_beside(&mut world, 300).await, [PowerPhase::Awake; 2]);
    let (why, message) = condition(&world, condition::DEGRADED).await.expect("people are told");
    assert_eq!(why, "RivalDescheduler");
    assert!(message.contains("CronJob kube-system/spread"), "{message}");
    let jobs: Api<k8s_openapi::api::batch::v1::CronJob> =
        Api::namespaced(world.world.server.client(USER), "kube-system");
    let suspended = Patch::Merge(json!({"spec": {"suspend": true}}));
    jobs.patch("spread", &PatchParams::default(), &suspended).await.expect("people may suspend it");
    assert_eq!(asleep_beside(&mut world, 300).await, [PowerPhase::Suspended; 2]);
    assert_unbroken(&world);
}
