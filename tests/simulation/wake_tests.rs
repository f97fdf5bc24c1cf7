//! Nodes show that they wake before they are trusted to sleep, and don't sleep for ever.

use super::{begin, run, small_vm, unfinished};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, Patch, PatchParams};
use miyako::sim::cluster::{Fate, WakeFate};
use miyako::sim::simulation::{Scenario, Simulation, USER};
use miyako::sim::workload::Pattern;
use miyako_api::ConsolidationPlan;
use miyako_api::names::reason;
use miyako_api::node_power::{NodePower, NodePowerStatus, PowerPhase};
use miyako_core::model::Bytes;
use serde_json::{Value, json};

/// A fresh cluster: nobody ever tried whether these nodes wake, and nobody needs the dedicated ones.
fn fresh(dedicated: u32) -> Scenario {
    let mut scenario = Scenario::sleeping(11);
    scenario.add_node("shared-0", "shared", 1, Bytes::gib(20));
    for index in 0..dedicated {
        scenario.add_node(&format!("dedicated-{index}"), "dedicated", 1, Bytes::gib(20));
    }
    scenario.vms.push(small_vm("vm0", "shared-0", Pattern::Constant(0.1)));
    scenario
}

/// The same cluster a while later: all nodes have shown that they wake.
pub(super) fn rested(dedicated: u32) -> Scenario {
    let mut scenario = fresh(dedicated);
    scenario.trust_all_nodes();
    scenario
}

pub(super) fn classes(scenario: &mut Scenario, change: impl Fn(&mut Value)) {
    for object in scenario.objects.iter_mut().filter(|object| object["kind"] == "NodePowerClass") {
        change(&mut object["spec"]);
    }
}

async fn status(world: &Simulation, node: &str) -> NodePowerStatus {
    let api: Api<NodePower> = Api::all(world.world.server.client(USER));
    let power = api.get(node).await.expect("every node has a NodePower");
    power.status.unwrap_or_default()
}

/// Two dedicated nodes sleep, because nobody needs them.
pub(super) async fn two_asleep() -> Simulation {
    let mut world = begin(rested(2)).await;
    run(&mut world, 300).await;
    assert_eq!(phases(&world).await, [PowerPhase::Suspended; 2]);
    world
}

pub(super) async fn phases(world: &Simulation) -> [PowerPhase; 2] {
    [phase(world, "dedicated-0").await, phase(world, "dedicated-1").await]
}

pub(super) async fn phase(world: &Simulation, node: &str) -> PowerPhase {
    status(world, node).await.phase.unwrap_or(PowerPhase::Awake)
}

async fn has_proved(world: &Simulation, node: &str) -> Option<bool> {
    status(world, node).await.last_wake_test.map(|test| test.succeeded)
}

/// What is said in Events about this node for this reason.
async fn events(world: &Simulation, node: &str, why: &str) -> Vec<String> {
    let api: Api<Event> = Api::all(world.world.server.client(USER));
    let events = api.list(&Default::default()).await.expect("Events are listed").items;
    let about = |event: &Event| event.regarding.as_ref().and_then(|subject| subject.name.clone());
    let of = |event: &Event| event.reason.as_deref() == Some(why) && about(event).as_deref() == Some(node);
    events.into_iter().filter(of).filter_map(|event| event.note).collect()
}

async fn plans(world: &Simulation) -> Vec<ConsolidationPlan> {
    let api: Api<ConsolidationPlan> = Api::all(world.world.server.client(USER));
    api.list(&Default::default()).await.expect("plans are listed").items
}

#[tokio::test(start_paused = true)]
async fn a_fresh_cluster_tests_its_empty_nodes_one_after_the_other_and_they_sleep() {
    let mut world = begin(fresh(3)).await;
    let nodes = ["dedicated-0", "dedicated-1", "dedicated-2"];
    for _ in 0..100 {
        run(&mut world, 10).await;
        let asleep = world.machines.as_ref().expect("there are machines").asleep().len();
        let mut untested = 0;
        for node in nodes {
            untested += usize::from(has_proved(&world, node).await.is_none());
        }
        // Those that are trusted may sleep on while the next is tested.
        assert!(asleep <= nodes.len() - untested + 1, "{asleep} sleep while {untested} were never tested");
    }
    for node in nodes {
        assert_eq!(phase(&world, node).await, PowerPhase::Suspended, "{node}");
        assert_eq!(has_proved(&world, node).await, Some(true), "{node}");
        assert_eq!(events(&world, node, reason::WAKE_TEST_PASSED).await.len(), 1, "{node}");
    }
    assert_eq!(phase(&world, "shared-0").await, PowerPhase::Awake, "its VM keeps it awake");
    assert_eq!(has_proved(&world, "shared-0").await, None);
    let sleeps = world.machines.as_ref().map(|machines| machines.sleeps());
    assert_eq!(sleeps, Some(6), "each slept once for its test, and then because nobody needs it");
    assert_eq!(unfinished(&world), 0);
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_fails_its_test_is_quarantined_and_rests_and_the_others_are_tested() {
    let mut world = begin(fresh(2)).await;
    let fails = Fate { wake: WakeFate::Fails, ..Fate::default() };
    world.machines.as_mut().expect("there are machines").set_fate("dedicated-0", fails);
    run(&mut world, 900).await;
    assert_eq!(phase(&world, "dedicated-0").await, PowerPhase::Quarantined);
    assert_eq!(has_proved(&world, "dedicated-0").await, Some(false));
    assert_eq!(events(&world, "dedicated-0", reason::WAKE_TEST_FAILED).await.len(), 1);
    let failed: Vec<_> = plans(&world).await.into_iter().filter(|plan| plan.spec.created_for == "WakeTest").collect();
    let failed = failed
        .iter()
        .filter_map(|plan| plan.status.as_ref())
        .filter(|status| status.message.as_ref().is_some_and(|message| message.contains("dedicated-0 did not wake")));
    assert_eq!(failed.count(), 1, "the plan names it");
    assert_eq!(phase(&world, "dedicated-1").await, PowerPhase::Suspended, "the other one is tested and sleeps");
    // Somebody repairs it: it is awake, and not tested again at once.
    world.machines.as_mut().expect("there are machines").set_fate("dedicated-0", Fate::default());
    let now = (world.world.now)();
    world.machines.as_mut().expect("there are machines").press_button("dedicated-0", now);
    run(&mut world, 1200).await;
    assert_eq!(phase(&world, "dedicated-0").await, PowerPhase::Awake);
    let why = status(&world, "dedicated-0").await.why_awake.unwrap_or_default();
    assert!(why.contains("failed to wake"), "{why}");
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_recommended_test_waits_for_approval() {
    let mut scenario = fresh(2);
    scenario.policy(|spec| spec["mode"] = json!("Recommend"));
    let mut world = begin(scenario).await;
    run(&mut world, 300).await;
    let proposed = plans(&world).await;
    let steps: Vec<_> = proposed.iter().flat_map(|plan| &plan.spec.steps).collect();
    assert_eq!(steps.len(), 1, "one after the other: {steps:?}");
    assert_eq!(steps[0].reason, "WakeTest");
    let first = steps[0].target_node.as_str();
    let other = if first == "dedicated-0" { "dedicated-1" } else { "dedicated-0" };
    assert_eq!(world.machines.as_ref().map(|machines| machines.sleeps()), Some(0));
    let api: Api<ConsolidationPlan> = Api::all(world.world.server.client(USER));
    let name = proposed[0].metadata.name.clone().expect("plans have names");
    let approval = Patch::Merge(json!({"spec": {"approved": true, "approvedBy": USER}}));
    api.patch(&name, &PatchParams::default(), &approval).await.expect("the approval is taken");
    run(&mut world, 200).await;
    assert_eq!(has_proved(&world, first).await, Some(true));
    assert_eq!(phase(&world, first).await, PowerPhase::Awake, "its sleep waits for approval like any other");
    assert_eq!(has_proved(&world, other).await, None);
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_test_that_a_crash_interrupts_ends_all_the_same() {
    for second in [45, 60, 75, 90, 105] {
        let mut world = begin(fresh(1)).await;
        run(&mut world, second).await;
        world.kill_operator("operator-0");
        world.start_operator("operator-0").expect("metrics register");
        run(&mut world, 400).await;
        assert_eq!(has_proved(&world, "dedicated-0").await, Some(true), "a crash after {second} s");
        assert_eq!(phase(&world, "dedicated-0").await, PowerPhase::Suspended, "a crash after {second} s");
        assert_eq!(unfinished(&world), 0, "a crash after {second} s");
        assert_eq!(world.broken_rules(), [""; 0], "a crash after {second} s");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_sleeps_longer_than_the_class_lets_it() {
    let mut scenario = rested(2);
    classes(&mut scenario, |spec| spec["suspend"] = json!({"maxAsleep": "1h"}));
    let mut world = begin(scenario).await;
    run(&mut world, 600).await;
    for node in ["dedicated-0", "dedicated-1"] {
        assert_eq!(phase(&world, node).await, PowerPhase::Suspended, "{node}");
    }
    let sleeps = |world: &Simulation| world.machines.as_ref().map(|machines| machines.sleeps());
    assert_eq!(sleeps(&world), Some(2));
    let mut awake_at_once = 0;
    for _ in 0..400 {
        run(&mut world, 10).await;
        let asleep = world.machines.as_ref().expect("there are machines").asleep().len();
        awake_at_once = awake_at_once.max(2 - asleep);
    }
    assert_eq!(sleeps(&world), Some(4), "each was awake for a while, and sleeps again");
    assert!(awake_at_once >= 1);
    for node in ["dedicated-0", "dedicated-1"] {
        assert_eq!(phase(&world, node).await, PowerPhase::Suspended, "{node}");
    }
    assert_eq!(world.broken_rules(), [""; 0]);
}
