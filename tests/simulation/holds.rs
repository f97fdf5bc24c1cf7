//! What holds one VM or node holds nobody else, and what people hold only people release.

use super::{begin, condition, moves, node_of, one_busy_vm, run, small_vm};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use miyako::clock::SimClock;
use miyako::command::switches::{Switch, resume, turn_on};
use miyako::sim::cluster::{AgentFate, Fate};
use miyako::sim::simulation::{Scenario, Simulation};
use miyako::sim::workload::Pattern;
use miyako_api::kubevirt::VirtualMachineInstance;
use miyako_api::names::ours;
use miyako_core::model::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Where the simulation's operators are installed.
const NAMESPACE: &str = "default";

fn empty_switches() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": NAMESPACE, "name": ours::SWITCHES}})
}

fn maps(world: &Simulation) -> Api<ConfigMap> {
    Api::namespaced(world.world.admin.clone(), NAMESPACE)
}

async fn make_switches_anew(world: &Simulation) {
    let map = serde_json::from_value(empty_switches()).expect("a ConfigMap");
    maps(world).create(&PostParams::default(), &map).await.expect("a chart may");
}

/// An eviction leaves the VM to another program, which never comes.
#[tokio::test(start_paused = true)]
async fn an_eviction_that_another_program_is_to_carry_out_stops_nobody_else() {
    let mut scenario = one_busy_vm(1);
    let mut external = small_vm("external", "dedicated-1", Pattern::Constant(0.6));
    external.spec.eviction_strategy = Some("External".into());
    scenario.vms.push(external);
    let mut world = begin(scenario).await;
    let vmis: Api<VirtualMachineInstance> = Api::namespaced(world.world.kubevirt.virt_controller.clone(), "vms");
    let leave = Patch::Merge(json!({"status": {"evacuationNodeName": "dedicated-1"}}));
    vmis.patch("external", &PatchParams::default(), &leave).await.expect("KubeVirt's webhook marks it");
    run(&mut world, 40).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{:?}", world.placement());
    assert_eq!(moves(&world), 1, "and it is left where it is");
    assert_eq!(condition(&world, "Degraded").await, None, "the other program may still come");
    // Policies' statuses are written every thirty seconds, and a successor reads them.
    run(&mut world, 120).await;
    world.kill_operator("operator-0");
    tokio::time::sleep(std::time::Duration::from_secs(13 * 60)).await;
    world.start_operator("operator-0").expect("metrics register");
    run(&mut world, 60).await;
    let (reason, message) = condition(&world, "Degraded").await.expect("a condition tells");
    assert_eq!(reason, "EvacuationStuck");
    for part in ["VM vms/external", "since 2026-01-05T00:00", "dedicated-1", "evacuate-cancel vm external -n vms"] {
        assert!(message.contains(part), "{part} is missing: {message}");
    }
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_hold_outlives_its_config_map_and_the_operator_and_resume_releases_it() {
    let mut scenario = one_busy_vm(1);
    scenario.objects.push(empty_switches());
    let mut world = begin(scenario).await;
    let admin = world.world.admin.clone();
    turn_on(&admin, NAMESPACE, Switch::Hold, "ana", "upgrade").await.expect("people may hold");
    run(&mut world, 40).await;
    maps(&world).delete(ours::SWITCHES, &DeleteParams::default()).await.expect("somebody deletes it");
    run(&mut world, 40).await;
    assert_eq!(moves(&world), 0, "a deletion releases nothing");
    world.kill_operator("operator-0");
    world.start_operator("operator-0").expect("metrics register");
    run(&mut world, 60).await;
    assert_eq!(moves(&world), 0, "nor does a restart");
    let (_, held) = condition(&world, "Held").await.expect("it says so");
    assert!(held.starts_with("ana: upgrade") && held.contains("miyako resume"), "{held}");
    make_switches_anew(&world).await;
    run(&mut world, 40).await;
    assert_eq!(moves(&world), 0, "nor does whatever makes the ConfigMap anew");
    let clock = SimClock::starting_at(world.now());
    let resumed = resume(&admin, NAMESPACE, &clock).await.expect("people may resume");
    assert!(resumed.changed && resumed.still.is_empty(), "{resumed}");
    run(&mut world, 40).await;
    assert_eq!(moves(&world), 1, "{:?}", world.placement());
    assert!(!resume(&admin, NAMESPACE, &clock).await.expect("people may").changed, "doing it twice writes once");
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn resume_says_what_still_holds() {
    let mut scenario = one_busy_vm(1);
    scenario.objects.push(empty_switches());
    let mut world = begin(scenario).await;
    let admin = world.world.admin.clone();
    turn_on(&admin, NAMESPACE, Switch::Pause, "ana", "audit").await.expect("people may pause");
    let vmis: Api<VirtualMachineInstance> = Api::namespaced(world.world.kubevirt.virt_controller.clone(), "vms");
    let frozen = Patch::Merge(json!({"status": {"fsFreezeStatus": "frozen"}}));
    vmis.patch("vm1", &PatchParams::default(), &frozen).await.expect("KubeVirt may");
    run(&mut world, 60).await;
    let clock = SimClock::starting_at(world.now());
    let said = resume(&admin, NAMESPACE, &clock).await.expect("people may resume").to_string();
    assert!(said.contains("these still hold") && !said.contains("Policies act again"), "{said}");
    assert!(said.contains("policy pack: Backup: VM vms/vm1"), "{said}");
}

/// How often nodes were closed to new pods for a sleep or a test while so many seconds went by.
async fn closings(world: &mut Simulation, seconds: u32) -> usize {
    let (mut closed, mut count) = (BTreeSet::new(), 0);
    for _ in 0..seconds {
        run(world, 1).await;
        let now: BTreeSet<String> = world.world.server.view(|view| {
            let is_closed = |node: &&Value| {
                let mut taints = node.pointer("/spec/taints").and_then(Value::as_array).into_iter().flatten();
                taints.any(|taint| taint["effect"] == "NoSchedule" && taint["key"] == ours::POWER)
            };
            let closed = view.list("", "nodes", "").filter(is_closed);
            closed.filter_map(|node| node.pointer("/metadata/name")?.as_str().map(str::to_owned)).collect()
        });
        count += now.difference(&closed).count();
        closed = now;
    }
    count
}

/// An agent that was there, and is not any more, is asked once.
#[tokio::test(start_paused = true)]
async fn nodes_whose_agents_fell_silent_are_asked_once() {
    let mut scenario = Scenario::sleeping(1);
    for index in 0..2 {
        scenario.add_node(&format!("dedicated-{index}"), "dedicated", 1, Bytes::gib(20));
    }
    let mut world = begin(scenario).await;
    run(&mut world, 10).await;
    let machines = world.machines.as_mut().expect("there are machines");
    for node in ["dedicated-0", "dedicated-1"] {
        machines.set_fate(node, Fate { agent: AgentFate::Silent, ..Fate::default() });
    }
    let asked = closings(&mut world, 1800).await;
    assert!((1..=2).contains(&asked), "closed {asked} times in half an hour");
    assert_eq!(world.broken_rules(), [""; 0]);
}

/// Nobody on these nodes would obey an order to sleep.
#[tokio::test(start_paused = true)]
async fn nodes_without_an_agent_are_not_tested() {
    let mut scenario = Scenario::sleeping(1);
    for index in 0..3 {
        scenario.add_node(&format!("dedicated-{index}"), "dedicated", 1, Bytes::gib(20));
    }
    scenario.machines = None;
    let mut world = begin(scenario).await;
    assert_eq!(
        closings(&mut world, 300).await,
        0,
        "no node is kept from taking pods for a test that nobody on it would take"
    );
    let view = world.operator("operator-0").expect("it runs").view.borrow().clone();
    let because = view.report.nodes.values().filter_map(|node| node.awake_because.as_ref());
    assert!(
        because.clone().count() > 0 && because.clone().all(|because| because.name() == "NoAgent"),
        "{:?}",
        because.collect::<Vec<_>>()
    );
}
