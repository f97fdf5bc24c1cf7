//! Nodes that sleep: the whole life cycle with machines that obey, refuse, lie and fail.

use super::{begin, moves, node_of, run, small_vm, unfinished};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use miyako::sim::apiserver::RandomFaults;
use miyako::sim::cluster::{AgentFate, Fate, WakeFate};
use miyako::sim::simulation::{BEGINS, Scenario, Simulation, USER};
use miyako::sim::workload::Pattern;
use miyako_api::names::{kubernetes, ours};
use miyako_api::node_power::{NodePower, PowerPhase};
use miyako_core::model::{Bytes, Span};
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
    let mut world = begin(scenario(400)).await;
    run(&mut world, 400).await;
    let mut usable = None;
    for second in 0..90 {
        run(&mut world, 1).await;
        let ready = |node: &Value| {
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True")
        };
        let nodes = [node(&world, "dedicated-0").await, node(&world, "dedicated-1").await];
        if usable.is_none() && nodes.iter().any(ready) {
            usable = Some(second);
        }
        if moves(&world) > 0 {
            let waited = usable.map(|usable| second - usable);
            assert!(waited.is_some_and(|waited| waited <= 1), "it waited {waited:?} s for a tick");
            return;
        }
    }
    panic!("the VM never moved");
}

#[tokio::test(start_paused = true)]
async fn nothing_sleeps_that_was_never_woken_for_a_test() {
    let mut scenario = scenario(NEVER);
    scenario.objects.retain(|object| object["kind"] != "NodePower");
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
    let plans: Api<miyako_api::ConsolidationPlan> = Api::all(world.world.server.client(USER));
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
    let nodes: Api<Node> = Api::all(world.world.server.client(USER));
    let cordon = Patch::Merge(json!({"spec": {"unschedulable": true}}));
    nodes.patch("dedicated-0", &PatchParams::default(), &cordon).await.expect("people may cordon");
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
        let pods: Api<Pod> = Api::namespaced(world.world.server.client(USER), "default");
        let pod = json!({
            "metadata": {"name": "late", "namespace": "default"},
            "spec": {"nodeName": "dedicated-0", "containers": [{"name": "a", "image": "a"}]},
        });
        let pod: Pod = serde_json::from_value(pod).expect("a Pod");
        pods.create(&PostParams::default(), &pod).await.expect("pods may come");
        run(&mut world, 200).await;
        assert_eq!(phase(&world, "dedicated-0").await, PowerPhase::Awake, "after {wait} s");
        assert!(is_clean(&node(&world, "dedicated-0").await), "after {wait} s");
        pods.delete("late", &DeleteParams::default()).await.expect("pods may go");
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

/// One run of the life cycle with a crash behind one write, and whether it came to it.
async fn crash_after(writes: u64) -> bool {
    let mut world = begin(scenario(150)).await;
    let crash = world.world.server.crash_after_writes("operator-0", writes);
    let mut crashed = false;
    for _ in 0..330 {
        world.second().await.expect("the stand-ins see the cluster");
        if !crashed && *crash.borrow() {
            crashed = true;
            world.kill_operator("operator-0");
            world.start_operator("operator-0").expect("metrics register");
        }
    }
    assert_unbroken(&world);
    run(&mut world, 400).await;
    assert_unbroken(&world);
    assert_eq!(node_of(&world, "vm0"), "shared-0", "after a crash behind write {writes}");
    assert_eq!(
        phases(&world).await,
        [PowerPhase::Suspended, PowerPhase::Suspended, PowerPhase::Awake],
        "after a crash behind write {writes}"
    );
    assert_eq!(unfinished(&world), 0, "after a crash behind write {writes}");
    crashed
}

#[test]
fn a_crash_after_any_single_write_of_a_sleep_and_a_wake_changes_nothing_in_the_end() {
    let next = std::sync::atomic::AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let writes = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let mut runtime = tokio::runtime::Builder::new_current_thread();
                    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime starts");
                    if !runtime.block_on(crash_after(writes)) {
                        break;
                    }
                }
            });
        }
    });
    assert!(next.into_inner() > 60, "the life cycle must have writes to crash after");
}

/// Half an hour in which loads come and go at random, one wake in eight fails, buttons are pressed, and the API server
/// has its bad minutes; then calm.
async fn restless(seed: u64) {
    let mut scenario = Scenario { noise: 0.02, ..Scenario::sleeping(seed) };
    for index in 0..2 {
        scenario.add_node(&format!("shared-{index}"), "shared", 3, Bytes::gib(40));
    }
    for index in 0..5 {
        scenario.add_node(&format!("dedicated-{index}"), "dedicated", 2, Bytes::gib(40));
    }
    for index in 0..12 {
        scenario.vms.push(small_vm(&format!("vm{index}"), &format!("shared-{}", index % 2), Pattern::RandomHours));
    }
    scenario.policy(|spec| spec["spare"] = json!({"dedicatedNodes": 1}));
    scenario.trust_all_nodes();
    let nodes: Vec<String> = scenario.nodes.iter().map(|node| node.name.clone()).collect();
    let mut world = begin(scenario).await;
    let server = world.world.server.clone();
    let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut roll = move |sides: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % sides
    };
    for minute in 0..30 {
        let rates = if minute % 3 == 1 { Some(super::faults::RATES) } else { None };
        let faults = rates.map(|rates| RandomFaults::new(seed + minute, rates).only_for("operator-0"));
        server.set_faults(faults.map(|faults| Box::new(faults) as _));
        let machines = world.machines.as_mut().expect("there are machines");
        for node in &nodes {
            let wake = match roll(8) {
                0 => WakeFate::Fails,
                1 => WakeFate::Boots(20),
                _ => WakeFate::After(5),
            };
            let agent = match roll(12) {
                0 => AgentFate::Refuses,
                1 => AgentFate::StaysAwake,
                _ => AgentFate::Works,
            };
            machines.set_fate(node, Fate { agent, wake, alarm: None });
        }
        let now = (world.world.now)();
        let pressed = usize::try_from(roll(nodes.len() as u64)).unwrap_or_default();
        world.machines.as_mut().expect("there are machines").press_button(&nodes[pressed], now);
        if minute == 17 {
            world.kill_operator("operator-0");
            world.start_operator("operator-0").expect("metrics register");
        }
        run(&mut world, 60).await;
    }
    assert_eq!(world.broken_rules(), [""; 0], "seed {seed}, while things go wrong");
    assert!(world.machines.as_ref().is_some_and(|machines| machines.sleeps() > 3), "seed {seed}: nothing ever slept");
    server.set_faults(None);
    for node in &nodes {
        world.machines.as_mut().expect("there are machines").set_fate(node, Fate::default());
    }
    switch(&world, "held", Some("alice: it is enough")).await;
    // A node that failed to wake is asked again at least every five minutes while somebody wants it.
    run(&mut world, 900).await;
    for name in &nodes {
        assert_eq!(phase(&world, name).await, PowerPhase::Awake, "seed {seed}: {name}");
        assert!(is_clean(&node(&world, name).await), "seed {seed}: {name}");
    }
    assert_eq!(unfinished(&world), 0, "seed {seed}: something never ends");
    assert_eq!(world.placement().len(), 12, "seed {seed}: a VM is lost");
    assert_eq!(world.broken_rules(), [""; 0], "seed {seed}, after all that");
}

#[test]
fn restless_hours_break_no_rule_and_a_hold_ends_them_clean() {
    std::thread::scope(|scope| {
        for half in 0..2_u64 {
            scope.spawn(move || {
                for seed in (0..6).filter(|seed| seed % 2 == half) {
                    println!("seed {seed}");
                    let mut runtime = tokio::runtime::Builder::new_current_thread();
                    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime starts");
                    runtime.block_on(restless(seed));
                }
            });
        }
    });
}
