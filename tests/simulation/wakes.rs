//! What wakers say, and how the operator goes on from there.

use super::{begin, node_of, run, small_vm};
use k8s_openapi::api::core::v1::{Event, Node};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use miyako::sim::cluster::{AgentFate, BmcTalk, Fate, WakeFate};
use miyako::sim::simulation::{BEGINS, CLASS_LABEL, Scenario, Simulation, USER};
use miyako::sim::workload::Pattern;
use miyako_api::names::reason;
use miyako_api::node_power::{NodePower, NodePowerStatus, PowerPhase};
use miyako_core::model::{Bytes, Span};
use serde_json::json;

/// A shared node with four VMs of which VM 0 is busy from second 400 on, and two dedicated nodes that sleep by then.
fn scenario() -> Scenario {
    let mut scenario = Scenario::sleeping(5);
    scenario.add_node("shared-0", "shared", 1, Bytes::gib(20));
    scenario.add_node("dedicated-0", "dedicated", 1, Bytes::gib(20));
    scenario.add_node("dedicated-1", "dedicated", 1, Bytes::gib(20));
    let busy = Pattern::Steps { from: BEGINS, steps: vec![(Span::ZERO, 0.10), (Span::from_secs(400), 0.95)] };
    for index in 0..4 {
        let pattern = if index == 0 { busy.clone() } else { Pattern::Constant(0.1) };
        scenario.vms.push(small_vm(&format!("vm{index}"), "shared-0", pattern));
    }
    scenario.trust_all_nodes();
    scenario
}

async fn status(world: &Simulation, node: &str) -> NodePowerStatus {
    let api: Api<NodePower> = Api::all(world.world.server.client(USER));
    api.get(node).await.expect("every node has a NodePower").status.unwrap_or_default()
}

async fn phase(world: &Simulation, node: &str) -> PowerPhase {
    status(world, node).await.phase.unwrap_or(PowerPhase::Awake)
}

async fn run_until(world: &mut Simulation, node: &str, wanted: PowerPhase, seconds: u32) -> u32 {
    for second in 0..seconds {
        if phase(world, node).await == wanted {
            return second;
        }
        run(world, 1).await;
    }
    panic!("{node} is not {wanted:?} after {seconds} s: {:?}", status(world, node).await);
}

async fn notes(world: &Simulation, why: &str) -> Vec<String> {
    let events: Api<Event> = Api::all(world.world.server.client(USER));
    let events = events.list(&ListParams::default()).await.expect("Events are listed").items;
    let told = serde_json::to_value(events).expect("Events");
    let told = told.as_array().cloned().unwrap_or_default();
    let notes = told.iter().filter(|event| event["reason"] == why);
    notes.map(|event| event["note"].as_str().or(event["message"].as_str()).unwrap_or_default().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_drivers_fail_is_quarantined_at_once_and_another_is_woken() {
    let mut world = begin(scenario()).await;
    run(&mut world, 390).await;
    let machines = world.machines.as_mut().expect("there are machines");
    machines.set_fate("dedicated-0", Fate { wake: WakeFate::Refused, ..Fate::default() });
    run_until(&mut world, "dedicated-0", PowerPhase::Waking, 60).await;
    let took = run_until(&mut world, "dedicated-0", PowerPhase::Quarantined, 10).await;
    assert!(took <= 3, "it took {took} s");
    let quarantined = status(&world, "dedicated-0").await;
    assert!(quarantined.message.as_deref().is_some_and(|text| text.contains("password was refused")));
    let condition = quarantined.conditions.first().expect("it has a condition");
    assert_eq!((condition.type_.as_str(), condition.status.as_str()), ("Wakeable", "False"));
    assert_eq!(condition.reason, "DriversFailed");
    assert!(condition.message.contains("password was refused"), "{}", condition.message);
    let nodes: Api<Node> = Api::all(world.world.server.client(USER));
    let node = nodes.get("dedicated-0").await.expect("the node is there");
    let node = serde_json::to_value(node).expect("a Node").to_string();
    assert!(node.contains("password was refused"), "the Node says so too: {node}");
    let told = notes(&world, reason::NODE_WAKE_FAILED).await;
    assert!(told.iter().any(|note| note.contains("password was refused")), "{told:?}");
    // The planner does not wait until the first node counts as late.
    run_until(&mut world, "dedicated-1", PowerPhase::Waking, 3).await;
    run(&mut world, 30).await;
    assert_eq!(node_of(&world, "vm0"), "dedicated-1");
    assert_eq!(world.broken_rules(), [""; 0]);
}

/// Makes a change by hand that takes the sleepers out of their class.
async fn take_out_of_class(world: &Simulation, by_label: bool) {
    let user = world.world.server.client(USER);
    if by_label {
        let nodes: Api<Node> = Api::all(user);
        let lost = Patch::Merge(json!({"metadata": {"labels": {CLASS_LABEL: null}}}));
        for name in ["dedicated-0", "dedicated-1"] {
            nodes.patch(name, &PatchParams::default(), &lost).await.expect("the label is taken");
        }
    } else {
        let classes: Api<miyako_api::NodePowerClass> = Api::all(user);
        classes.delete("dedicated", &DeleteParams::default()).await.expect("the class is deleted");
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_that_lose_their_class_while_they_sleep_are_woken_by_what_was_recorded() {
    for by_label in [false, true] {
        let mut world = begin(scenario()).await;
        run(&mut world, 390).await;
        let powers: Api<NodePower> = Api::all(world.world.server.client(USER));
        for name in ["dedicated-0", "dedicated-1"] {
            assert_eq!(phase(&world, name).await, PowerPhase::Suspended);
            let recorded = powers.get(name).await.expect("a NodePower").spec.wake_ways;
            let recorded: Vec<&str> = recorded.iter().map(|way| way.address.as_str()).collect();
            assert_eq!(recorded, ["02:00:00:00:00:01"], "recorded with the order");
        }
        take_out_of_class(&world, by_label).await;
        for name in ["dedicated-0", "dedicated-1"] {
            run_until(&mut world, name, PowerPhase::Awake, 120).await;
            let awake = status(&world, name).await;
            assert!(awake.last_wake_test.is_some_and(|test| test.succeeded), "it never was Quarantined");
        }
        assert_eq!(world.broken_rules(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_without_the_label_that_its_address_needs_stays_awake_and_says_so() {
    let mut scenario = scenario();
    for object in &mut scenario.objects {
        if object["kind"] == "NodePowerClass" {
            let way = json!({"driver": "ipmi", "address": "{label:bmc}", "secretRef": {"namespace": "x", "name": "y"}});
            object["spec"]["wake"].as_array_mut().expect("it has ways").push(way);
        }
    }
    for node in scenario.nodes.iter_mut().filter(|node| node.name != "dedicated-0") {
        node.labels.insert("bmc".into(), "10.0.0.7".into());
    }
    let mut world = begin(scenario).await;
    run(&mut world, 390).await;
    assert_eq!(phase(&world, "dedicated-0").await, PowerPhase::Awake);
    assert_eq!(phase(&world, "dedicated-1").await, PowerPhase::Suspended, "what another node lacks is not its matter");
    let policies: Api<miyako_api::ConsolidationPolicy> = Api::all(world.world.server.client(USER));
    let policies = policies.list(&ListParams::default()).await.expect("policies are listed").items;
    let said = serde_json::to_string(&policies[0].status).expect("a status");
    assert!(said.contains("addresses to wake nodes by") && said.contains("spec.wake[].nodes"), "{said}");
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn where_no_waker_runs_a_condition_says_which_deployment_to_look_at() {
    let mut world = begin(scenario()).await;
    run(&mut world, 390).await;
    for node in ["dedicated-0", "dedicated-1"] {
        let machines = world.machines.as_mut().expect("there are machines");
        machines.set_fate(node, Fate { wake: WakeFate::Fails, ..Fate::default() });
    }
    run_until(&mut world, "dedicated-0", PowerPhase::Waking, 60).await;
    run(&mut world, 32).await;
    let waking = status(&world, "dedicated-0").await;
    let condition = waking.conditions.first().expect("it has a condition");
    assert_eq!(condition.reason, "WakerSilent");
    assert!(condition.message.contains("Deployment miyako-waker"), "{}", condition.message);
    assert!(!notes(&world, reason::WAKER_SILENT).await.is_empty());
    // Somebody brings the waker back: what was said is taken back with the wake.
    let machines = world.machines.as_mut().expect("there are machines");
    machines.set_fate("dedicated-0", Fate::default());
    run_until(&mut world, "dedicated-0", PowerPhase::Awake, 120).await;
    let awake = status(&world, "dedicated-0").await;
    assert_eq!(awake.conditions.first().map(|it| (it.reason.as_str(), it.status.as_str())), Some(("Woke", "True")));
    assert_eq!(world.broken_rules(), [""; 0]);
}

/// The same nodes, which are switched off and on.
fn switched_off(agent: AgentFate) -> Scenario {
    let mut scenario = scenario();
    for object in &mut scenario.objects {
        if object["kind"] == "NodePowerClass" {
            object["spec"]["suspend"]["method"] = json!("PowerOff");
            object["spec"]["power"] = json!({"suspendTime": "10s", "resumeTime": "1m"});
            let secret = json!({"namespace": "default", "name": "bmc"});
            let address = "https://{node}.bmc.example.org";
            object["spec"]["wake"] = json!([{"driver": "redfish", "address": address, "secretRef": secret}]);
        }
    }
    scenario.machines = Some(Fate { agent, ..Fate::default() });
    scenario
}

#[tokio::test(start_paused = true)]
async fn nodes_are_switched_off_believed_off_and_switched_on_again() {
    let mut world = begin(switched_off(AgentFate::Works)).await;
    run(&mut world, 395).await;
    for name in ["dedicated-0", "dedicated-1"] {
        let off = status(&world, name).await;
        assert_eq!(off.phase, Some(PowerPhase::Suspended), "{off:?}");
        assert_eq!(off.message.as_deref(), Some("off, as its BMC says"));
    }
    run(&mut world, 90).await;
    let awake = node_of(&world, "vm0");
    assert!(awake.starts_with("dedicated"), "{:?}", world.placement());
    let on = status(&world, &awake).await;
    assert_eq!(on.phase, Some(PowerPhase::Awake));
    assert!(on.message.as_deref().is_some_and(|text| !text.contains("cold boot")), "{:?}", on.message);
    assert!(on.last_wake_test.is_some_and(|test| test.succeeded));
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_its_bmc_does_not_call_off_never_counts_as_off() {
    let mut world = begin(switched_off(AgentFate::Works)).await;
    world.machines.as_mut().expect("there are machines").set_bmc("dedicated-0", BmcTalk::AlwaysOn);
    run_until(&mut world, "dedicated-0", PowerPhase::Suspending, 200).await;
    for _ in 0..300 {
        run(&mut world, 1).await;
        assert_ne!(phase(&world, "dedicated-0").await, PowerPhase::Suspended);
        if phase(&world, "dedicated-0").await == PowerPhase::Awake {
            break;
        }
    }
    let awake = status(&world, "dedicated-0").await;
    assert_eq!(awake.phase, Some(PowerPhase::Awake), "it was switched on again: {awake:?}");
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_hangs_ends_in_quarantine_until_somebody_helps() {
    let mut world = begin(switched_off(AgentFate::HangsShuttingDown)).await;
    run_until(&mut world, "dedicated-0", PowerPhase::Suspending, 200).await;
    run_until(&mut world, "dedicated-0", PowerPhase::Waking, 200).await;
    run_until(&mut world, "dedicated-0", PowerPhase::Quarantined, 600).await;
    let quarantined = status(&world, "dedicated-0").await;
    let condition = quarantined.conditions.first().expect("it has a condition");
    assert_eq!((condition.type_.as_str(), condition.status.as_str()), ("Wakeable", "False"), "{condition:?}");
    let now = (world.world.now)();
    let machines = world.machines.as_mut().expect("there are machines");
    machines.set_fate("dedicated-0", Fate::default());
    machines.press_button("dedicated-0", now);
    run_until(&mut world, "dedicated-0", PowerPhase::Awake, 60).await;
    assert_eq!(world.broken_rules(), [""; 0]);
}
