//! Nodes that sleep: the whole life cycle with machines that obey, refuse, lie and fail.

mod crashes;
mod cycles;
mod hangs;
mod restless;
mod stopwatch;

use super::{begin, moves, node_of, on_a_runtime_of_its_own, run, side_by_side, small_vm, unfinished};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use miyako::sim::apiserver::Verb;
use miyako::sim::cluster::{AgentFate, Fate, WakeFate};
use miyako::sim::simulation::{BEGINS, Scenario, Simulation, USER};
use miyako::sim::workload::Pattern;
use miyako_api::ConsolidationPlan;
use miyako_api::names::{kubernetes, ours};
use miyako_api::node_power::{NodePower, PowerPhase};
use miyako_core::model::{Bytes, Span, Timestamp};
use serde_json::{Value, json};

/// A shared node with four VMs of which VM 0 is busy for a while from second `busy` on, and two dedicated nodes that
/// nobody needs before.
fn scenario(busy: u64) -> Scenario {
    let mut scenario = Scenario::sleeping(5);
    scenario.add_node("shared-0", "shared", 1, Bytes::gib(20));
    scenario.add_node("dedicated-0", "dedicated", 1, Bytes::gib(20));
    scenario.add_node("dedicated-1", "dedicated", 1, Bytes::gib(20));
    let step = |seconds: u64, share: f64| (Span::from_secs(seconds), share);
    let busy = Pattern::Steps { from: BEGINS, steps: vec![step(0, 0.10), step(busy, 0.95), step(busy + 120, 0.10)] };
    for (index, pattern) in
        [busy, Pattern::Constant(0.1), Pattern::Constant(0.1), Pattern::Constant(0.1)].into_iter().enumerate()
    {
        scenario.vms.push(small_vm(&format!("vm{index}"), "shared-0", pattern));
    }
    scenario.trust_all_nodes();
    scenario
}

/// Nobody is ever busy.
const NEVER: u64 = 1_000_000;

async fn power(world: &Simulation, node: &str) -> NodePower {
    let api: Api<NodePower> = Api::all(world.world.server.client(USER));
    api.get(node).await.expect("every node has a NodePower")
}

async fn phase(world: &Simulation, node: &str) -> PowerPhase {
    power(world, node).await.status.and_then(|status| status.phase).unwrap_or(PowerPhase::Awake)
}

async fn phases(world: &Simulation) -> Vec<PowerPhase> {
    let mut phases = Vec::new();
    for node in ["dedicated-0", "dedicated-1", "shared-0"] {
        phases.push(phase(world, node).await);
    }
    phases
}

async fn node(world: &Simulation, name: &str) -> Value {
    let api: Api<Node> = Api::all(world.world.server.client(USER));
    serde_json::to_value(api.get(name).await.expect("the node is there")).expect("a Node")
}

/// Chance that follows from a seed alone.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.roll(6);
        dice
    }

    /// From 0 on, less than this.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let number = self.roll(u64::try_from(from.len()).unwrap_or(u64::MAX));
        &from[usize::try_from(number).unwrap_or_default()]
    }
}

/// A pod of a person's, on this node or wherever it fits.
async fn create_pod(world: &Simulation, name: &str, spec: Value) {
    let pods: Api<Pod> = Api::namespaced(world.world.server.client(USER), "default");
    let mut pod = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    pod["spec"]["containers"][0]["name"] = json!("main");
    pod["spec"]["containers"][0]["image"] = json!("main");
    let pod: Pod = serde_json::from_value(pod).expect("a Pod");
    pods.create(&PostParams::default(), &pod).await.expect("pods may come");
}

async fn delete_pod(world: &Simulation, name: &str) {
    let pods: Api<Pod> = Api::namespaced(world.world.server.client(USER), "default");
    pods.delete(name, &DeleteParams::default()).await.expect("pods may go");
}

async fn change_node(world: &Simulation, name: &str, change: Value) {
    let nodes: Api<Node> = Api::all(world.world.server.client(USER));
    nodes.patch(name, &PatchParams::default(), &Patch::Merge(change)).await.expect("people may change nodes");
}

/// Nothing of ours is on the node.
fn is_clean(node: &Value) -> bool {
    let text = node.to_string();
    !text.contains(ours::POWER) && !text.contains(kubernetes::EXCLUDE_DISRUPTION) && !text.contains("MiyakoSuspended")
}

async fn run_until(world: &mut Simulation, node: &str, wanted: PowerPhase, seconds: u32) {
    for _ in 0..seconds {
        if phase(world, node).await == wanted {
            return;
        }
        run(world, 1).await;
    }
    let power = power(world, node).await;
    panic!("{node} is not {wanted:?} after {seconds} s: {:?} {:?}", power.spec, power.status);
}

fn assert_unbroken(world: &Simulation) {
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn empty_nodes_sleep_and_come_back_when_load_does() {
    let mut world = begin(scenario(400)).await;
    run(&mut world, 390).await;
    // One node stays awake whatever happens (minAwake), and it is the one with the VMs.
    assert_eq!(phases(&world).await, [PowerPhase::Suspended, PowerPhase::Suspended, PowerPhase::Awake]);
    assert_eq!(world.machines.as_ref().map(|machines| machines.asleep().len()), Some(2));
    let sleeper = node(&world, "dedicated-0").await;
    assert_eq!(sleeper["metadata"]["labels"][kubernetes::EXCLUDE_REMEDIATION], "true");
    assert!(sleeper["metadata"]["labels"][kubernetes::EXCLUDE_DISRUPTION].is_string());
    // The load comes back: one node is woken, and the VM moves to it.
    run(&mut world, 60).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{:?}", world.placement());
    let awake = node_of(&world, "vm0");
    assert_eq!(phase(&world, &awake).await, PowerPhase::Awake);
    assert!(is_clean(&node(&world, &awake).await), "{}", node(&world, &awake).await);
    let asleep = phases(&world).await.into_iter().filter(|phase| *phase == PowerPhase::Suspended).count();
    assert_eq!(asleep, 1, "no more nodes than needed are woken");
    // It idles again, goes home, and its node sleeps again.
    run(&mut world, 400).await;
    assert_eq!(node_of(&world, "vm0"), "shared-0");
    assert_eq!(phases(&world).await, [PowerPhase::Suspended, PowerPhase::Suspended, PowerPhase::Awake]);
    assert_eq!((moves(&world), unfinished(&world)), (2, 0));
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn the_migration_is_created_within_a_tick_of_its_node_being_usable() {
    let mut world = begin(Scenario { journal: true, ..scenario(400) }).await;
    run(&mut world, 400).await;
    let mut ready = None;
    for _ in 0..90 {
        run(&mut world, 1).await;
        if moves(&world) > 0 {
            let journal = world.journal();
            let created = journal.iter().find(|request| {
                request.kind.verb == Verb::Create
                    && request.kind.resource.starts_with("virtualmachineinstancemigrations")
            });
            let waited = created.zip(ready).map(|(created, ready)| created.at_millis - ready);
            assert!(waited.is_some_and(|waited| waited <= 1000), "it waited {waited:?} ms for a tick");
            return;
        }
        let nodes = [node(&world, "dedicated-0").await, node(&world, "dedicated-1").await];
        if nodes.iter().any(stopwatch::is_ready) {
            ready.get_or_insert(world.now().millis());
        }
    }
    panic!("the VM never moved");
}

#[tokio::test(start_paused = true)]
async fn nothing_sleeps_that_was_never_woken_for_a_test() {
    let mut scenario = scenario(NEVER);
    scenario.objects.retain(|object| object["kind"] != "NodePower");
    for object in scenario.objects.iter_mut().filter(|object| object["kind"] == "NodePowerClass") {
        object["spec"]["wakeTest"] = json!({"start": "Request"});
    }
    let mut world = begin(scenario).await;
    run(&mut world, 300).await;
    assert_eq!(phases(&world).await, [PowerPhase::Awake; 3]);
    assert_eq!(world.machines.as_ref().map(|machines| machines.sleeps()), Some(0));
    // A person asks for the test: the node sleeps and wakes, and from then on it is trusted.
    let api: Api<NodePower> = Api::all(world.world.server.client(USER));
    let ask = Patch::Merge(json!({"metadata": {"annotations": {ours::REQUEST: "wake-test alice 1"}}}));
    api.patch("dedicated-1", &PatchParams::default(), &ask).await.expect("a person may ask");
    run_until(&mut world, "dedicated-1", PowerPhase::Suspended, 120).await;
    run_until(&mut world, "dedicated-1", PowerPhase::Awake, 120).await;
    run(&mut world, 2).await;
    let tested = power(&world, "dedicated-1").await;
    assert!(tested.status.and_then(|status| status.last_wake_test).is_some_and(|test| test.succeeded));
    assert_eq!(tested.metadata.annotations.unwrap_or_default().get(ours::REQUEST), None, "it is answered");
    run_until(&mut world, "dedicated-1", PowerPhase::Suspended, 400).await;
    assert_eq!(phase(&world, "dedicated-0").await, PowerPhase::Awake, "the other one is not trusted");
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn a_recommended_suspend_waits_for_approval() {
    let mut scenario = scenario(NEVER);
    scenario.policy(|spec| spec["mode"] = json!("Recommend"));
    let mut world = begin(scenario).await;
    run(&mut world, 200).await;
    assert_eq!(phases(&world).await, [PowerPhase::Awake; 3]);
    let plans: Api<ConsolidationPlan> = Api::all(world.world.server.client(USER));
    let proposed = plans.list(&Default::default()).await.expect("plans are listed").items;
    let of = |node: &str| {
        let found = proposed.iter().find(|plan| plan.spec.steps.iter().any(|step| step.target_node == node));
        found.and_then(|plan| plan.metadata.name.clone()).expect("it is proposed")
    };
    assert_eq!(proposed.len(), 2, "one for each node: {proposed:?}");
    let approval = Patch::Merge(json!({"spec": {"approved": true, "approvedBy": USER}}));
    plans.patch(&of("dedicated-1"), &PatchParams::default(), &approval).await.expect("the approval is taken");
    run_until(&mut world, "dedicated-1", PowerPhase::Suspended, 120).await;
    assert_eq!(phase(&world, "dedicated-0").await, PowerPhase::Awake);
    assert_unbroken(&world);
}

/// What policies keep awake unless they say otherwise, and what each suspend's plan rests on.
#[tokio::test(start_paused = true)]
async fn by_default_the_vms_of_a_node_that_fails_still_fit_and_the_plan_proves_it() {
    let mut scenario = scenario(NEVER);
    scenario.policy(|spec| spec["keepAwake"] = Value::Null);
    let mut world = begin(scenario).await;
    run(&mut world, 390).await;
    let mut asleep = phases(&world).await;
    asleep.sort_by_key(|phase| *phase != PowerPhase::Suspended);
    assert_eq!(asleep, [PowerPhase::Suspended, PowerPhase::Awake, PowerPhase::Awake]);
    let plans: Api<ConsolidationPlan> = Api::all(world.world.server.client(USER));
    let plans = plans.list(&ListParams::default()).await.expect("plans may be listed").items;
    let steps: Vec<_> = plans.into_iter().flat_map(|plan| plan.spec.steps).collect();
    let [step] = &steps[..] else { panic!("one plan suspends one node: {steps:?}") };
    let proof = step.proof.as_ref().expect("a suspend is proved");
    assert_eq!((proof.awake_nodes, proof.spare_nodes), (2, 1));
    assert!(proof.empty_since.is_some() && proof.wake_tested_at.is_some(), "{proof:?}");
    let failover = proof.failover.as_ref().expect("it is on by default");
    assert_eq!((failover.failures, failover.tried, failover.worst_vms, failover.homeless_vms), (1, 1, 4, 0));
    assert_eq!(failover.worst_nodes, ["shared-0"]);
    let said =
        "2 nodes stay awake, 1 of them spare; failures tried: 1, each leaves room for its VMs (at most 4, of shared-0)";
    assert!(step.message.ends_with(said), "{}", step.message);
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_fails_to_wake_is_quarantined_and_the_next_one_is_woken() {
    let mut world = begin(scenario(400)).await;
    run(&mut world, 390).await;
    let fails = Fate { wake: WakeFate::Fails, ..Fate::default() };
    let machines = world.machines.as_mut().expect("there are machines");
    machines.set_fate("dedicated-0", fails);
    run(&mut world, 110).await;
    assert_eq!(node_of(&world, "vm0"), "dedicated-1", "it goes elsewhere when the first does not come");
    run_until(&mut world, "dedicated-0", PowerPhase::Quarantined, 400).await;
    let broken = node(&world, "dedicated-0").await;
    assert!(broken["metadata"]["labels"].get(kubernetes::EXCLUDE_REMEDIATION).is_none(), "others may repair it");
    let test = power(&world, "dedicated-0").await.status.and_then(|status| status.last_wake_test);
    assert!(test.is_some_and(|test| !test.succeeded), "it is not trusted any more");
    // Somebody repairs it.
    let machines = world.machines.as_mut().expect("there are machines");
    machines.set_fate("dedicated-0", Fate { wake: WakeFate::Boots(0), ..Fate::default() });
    let now = (world.world.now)();
    world.machines.as_mut().expect("there are machines").press_button("dedicated-0", now);
    run_until(&mut world, "dedicated-0", PowerPhase::Awake, 60).await;
    assert!(is_clean(&node(&world, "dedicated-0").await));
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn agents_that_refuse_lie_or_are_silent_keep_their_nodes_awake_and_clean() {
    for agent in [AgentFate::Refuses, AgentFate::StaysAwake, AgentFate::Silent] {
        let mut scenario = scenario(NEVER);
        scenario.machines = Some(Fate { agent, ..Fate::default() });
        let mut world = begin(scenario).await;
        run(&mut world, 600).await;
        assert_eq!(world.machines.as_ref().map(|machines| machines.sleeps()), Some(0), "{agent:?}");
        assert_unbroken(&world);
        // No new wish while things calm down: nothing of ours stays.
        switch(&world, "paused", Some("alice: looking")).await;
        run(&mut world, 180).await;
        for name in ["dedicated-0", "dedicated-1"] {
            assert_eq!(phase(&world, name).await, PowerPhase::Awake, "{agent:?}");
            assert!(is_clean(&node(&world, name).await), "{agent:?}");
        }
        assert_eq!(unfinished(&world), 0, "{agent:?}");
    }
}

async fn switch(world: &Simulation, name: &str, value: Option<&str>) {
    let maps: Api<ConfigMap> = Api::namespaced(world.world.server.client(USER), "default");
    let map = json!({"metadata": {"name": ours::SWITCHES, "namespace": "default"}, "data": {}});
    let map: ConfigMap = serde_json::from_value(map).expect("a ConfigMap");
    // It may be there already.
    let _ = maps.create(&PostParams::default(), &map).await;
    let data = Patch::Merge(json!({"data": {name: value}}));
    maps.patch(ours::SWITCHES, &PatchParams::default(), &data).await.expect("people may switch");
}

#[tokio::test(start_paused = true)]
async fn a_hold_wakes_everything_and_nothing_sleeps_until_it_is_released() {
    let mut world = begin(scenario(NEVER)).await;
    run(&mut world, 300).await;
    assert_eq!(world.machines.as_ref().map(|machines| machines.asleep().len()), Some(2));
    switch(&world, "held", Some("alice: upgrade")).await;
    run(&mut world, 60).await;
    assert_eq!(phases(&world).await, [PowerPhase::Awake; 3]);
    run(&mut world, 600).await;
    assert_eq!(phases(&world).await, [PowerPhase::Awake; 3]);
    for name in ["dedicated-0", "dedicated-1"] {
        assert!(is_clean(&node(&world, name).await));
    }
    switch(&world, "held", None).await;
    run(&mut world, 600).await;
    assert_eq!(world.machines.as_ref().map(|machines| machines.asleep().len()), Some(2));
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn a_cordon_in_the_middle_calls_a_suspend_off_and_stays() {
    let mut world = begin(scenario(NEVER)).await;
    run_until(&mut world, "dedicated-0", PowerPhase::Suspending, 200).await;
    change_node(&world, "dedicated-0", json!({"spec": {"unschedulable": true}})).await;
    run(&mut world, 200).await;
    // Whoever was faster: the node sleeps on, or is awake with nothing but the cordon.
    let cordoned = node(&world, "dedicated-0").await;
    assert_eq!(cordoned["spec"]["unschedulable"], true, "a person's cordon is never undone");
    if phase(&world, "dedicated-0").await == PowerPhase::Awake {
        assert!(is_clean(&cordoned), "{cordoned}");
    }
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_lands_on_a_node_being_suspended_calls_it_off() {
    for wait in 0..8 {
        let mut world = begin(scenario(NEVER)).await;
        run_until(&mut world, "dedicated-0", PowerPhase::Emptying, 200).await;
        run(&mut world, wait).await;
        create_pod(&world, "late", json!({"nodeName": "dedicated-0", "containers": [{}]})).await;
        run(&mut world, 200).await;
        assert_eq!(phase(&world, "dedicated-0").await, PowerPhase::Awake, "after {wait} s");
        assert!(is_clean(&node(&world, "dedicated-0").await), "after {wait} s");
        delete_pod(&world, "late").await;
        run(&mut world, 400).await;
        assert_eq!(phase(&world, "dedicated-0").await, PowerPhase::Suspended, "after {wait} s");
        assert_unbroken(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_that_wake_by_themselves_are_simply_awake() {
    for wake in [WakeFate::After(0), WakeFate::Boots(0)] {
        let mut scenario = scenario(NEVER);
        scenario.policy(|spec| spec["sleep"] = json!({"leastAwake": "1h"}));
        scenario.machines = Some(Fate { wake, alarm: Some(300), ..Fate::default() });
        let mut world = begin(scenario).await;
        run(&mut world, 600).await;
        assert_eq!(phases(&world).await, [PowerPhase::Awake; 3], "{wake:?}");
        for name in ["dedicated-0", "dedicated-1"] {
            assert!(is_clean(&node(&world, name).await), "{wake:?}");
        }
        assert_eq!(world.machines.as_ref().map(|machines| machines.sleeps()), Some(2), "{wake:?}");
        assert_unbroken(&world);
    }
}
