//! Hard days: load that swings around a threshold, targets that are cordoned or never get ready, moves that fail again
//! and again, evacuations that go first, and wishes that change while a person thinks about them.

use super::{begin, condition, moves, node_of, one_busy_vm, run, small_vm, unfinished};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use miyako::sim::apiserver::{Fault as Delivery, RequestInfo, Verb};
use miyako::sim::kubevirt::Fault;
use miyako::sim::simulation::{BEGINS, CLASS_LABEL, Scenario, Simulation, USER};
use miyako::sim::workload::Pattern;
use miyako_api::ConsolidationPlan;
use miyako_api::consolidation_plan::PlanPhase;
use miyako_api::kubevirt::{VirtualMachineInstance, VirtualMachineInstanceMigration as Migration};
use miyako_core::model::{Bytes, Span, VmKey};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const HOUR: u64 = 3600;
/// The `Reactive` profile's moves per VM and day.
const BUDGET: u32 = 10;

fn step(seconds: u64, share: f64) -> (Span, f64) {
    (Span::from_secs(seconds), share)
}

/// Busy and idle in turn, each for a minute, for a day and two hours.
fn swings() -> Vec<(Span, f64)> {
    let turns = (0..26 * HOUR).step_by(60).enumerate();
    turns.map(|(turn, second)| step(second, if turn % 2 == 0 { 0.95 } else { 0.10 })).collect()
}

/// Lets hours pass without any operator, for time's sake: its successor knows from the plans what was done.
async fn hours_without_operator(world: &mut Simulation, minutes: u64) {
    world.kill_operator("operator-0");
    tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
    world.start_operator("operator-0").expect("metrics register");
}

#[tokio::test(start_paused = true)]
async fn load_that_swings_for_a_day_moves_a_vm_no_more_often_than_its_budget_allows() {
    let mut scenario = one_busy_vm(1);
    scenario.vms[0].pattern = Pattern::Steps { from: BEGINS, steps: swings() };
    let mut world = begin(scenario).await;
    run(&mut world, 15 * 60).await;
    // The last is kept for a relief, and so it stays where it keeps its speed.
    assert_eq!(moves(&world), BUDGET - 1, "it swings more often than it may move");
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{:?}", world.placement());
    hours_without_operator(&mut world, 23 * 60).await;
    run(&mut world, 8 * 60).await;
    assert_eq!(moves(&world), BUDGET - 1, "the day is not over");
    hours_without_operator(&mut world, 40).await;
    run(&mut world, 8 * 60).await;
    assert!(moves(&world) > BUDGET, "the first moves were more than a day ago");
    assert!(moves(&world) <= 2 * BUDGET);
    assert_eq!(unfinished(&world), 0);
    assert_eq!(world.broken_rules(), [""; 0]);
}

async fn plans(world: &Simulation) -> Vec<ConsolidationPlan> {
    let api: Api<ConsolidationPlan> = Api::all(world.world.server.client(USER));
    api.list(&ListParams::default()).await.expect("plans are listed").items
}

fn moved_vm(plan: &ConsolidationPlan) -> &str {
    plan.spec.steps.iter().find_map(|step| Some(step.vm.as_ref()?.name.as_str())).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_proposal_gives_way_when_another_vm_has_become_the_busy_one() {
    let mut scenario = one_busy_vm(1);
    for object in &mut scenario.objects {
        if object["kind"] == "ConsolidationPolicy" {
            object["spec"]["mode"] = json!("Recommend");
        }
    }
    // The two change places; their node is overloaded all the time.
    scenario.vms[0].pattern = Pattern::Steps { from: BEGINS, steps: vec![step(0, 0.95), step(40, 0.30)] };
    scenario.vms[1].pattern = Pattern::Steps { from: BEGINS, steps: vec![step(0, 0.30), step(40, 0.95)] };
    let mut world = begin(scenario).await;
    run(&mut world, 38).await;
    let first = plans(&world).await;
    assert_eq!(first.iter().map(moved_vm).collect::<Vec<_>>(), ["vm0"]);
    run(&mut world, 30).await;
    let all = plans(&world).await;
    let phase = |vm: &str| {
        let plan = all.iter().find(|plan| moved_vm(plan) == vm).expect("there is a plan");
        plan.status.clone().unwrap_or_default()
    };
    assert_eq!(phase("vm1").phase, Some(PlanPhase::Proposed));
    assert_eq!(phase("vm0").phase, Some(PlanPhase::Superseded));
    let newer = all.iter().find(|plan| moved_vm(plan) == "vm1").and_then(|plan| plan.metadata.name.clone());
    assert_eq!(phase("vm0").superseded_by, newer);
    run(&mut world, 120).await;
    assert_eq!(plans(&world).await.len(), 2, "it does not go on and on");
    assert_eq!(moves(&world), 0);
}

/// Cordons a node, or gives it back, as a person does.
async fn cordon(world: &Simulation, node: &str, cordoned: bool) {
    let nodes: Api<Node> = Api::all(world.world.admin.clone());
    let patch = Patch::Merge(json!({"spec": {"unschedulable": cordoned}}));
    nodes.patch(node, &PatchParams::default(), &patch).await.expect("people may cordon");
}

async fn migrations(world: &Simulation) -> Vec<Migration> {
    let api: Api<Migration> = Api::namespaced(world.world.server.client(USER), "vms");
    let mut all = api.list(&ListParams::default()).await.expect("migrations are listed").items;
    all.sort_by_key(|migration| migration.metadata.creation_timestamp.clone().map(|time| time.0));
    all
}

/// Runs until a migration is in a phase.
async fn run_until_a_migration_is(world: &mut Simulation, phase: &str) {
    for _ in 0..60 {
        let all = migrations(world).await;
        if all.iter().any(|one| one.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase)) {
            return;
        }
        run(world, 1).await;
    }
    panic!("no migration is {phase}: {:#?}", migrations(world).await);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_cordoned_while_a_vm_moves_to_it_still_takes_it() {
    let mut scenario = one_busy_vm(1);
    // Half a minute to move.
    scenario.hands.bandwidth = 20e6;
    scenario.vms[0].spec.annotations.insert("miyako.dev/post-copy".into(), "never".into());
    let mut world = begin(scenario).await;
    run_until_a_migration_is(&mut world, "Running").await;
    let target = migrations(&world).await[0].spec.added_node_selector["kubernetes.io/hostname"].clone();
    cordon(&world, &target, true).await;
    run(&mut world, 120).await;
    assert_eq!(node_of(&world, "vm0"), target, "its pod was there already");
    assert_eq!(moves(&world), 1);
    assert_eq!(unfinished(&world), 0);
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_cordoned_before_its_pod_comes_is_given_up_for_another() {
    let mut world = begin(one_busy_vm(1)).await;
    // Cordoned the moment that the operator asks for the move: the scheduler sees it first.
    let server = world.world.server.clone();
    let asked = Arc::new(AtomicBool::new(false));
    let seen = asked.clone();
    server.set_faults(Some(Box::new(move |request: &RequestInfo| {
        let moves = request.verb == Verb::Create && request.resource.starts_with("virtualmachineinstancemigrations");
        let first = moves && !seen.swap(true, Ordering::SeqCst);
        first.then_some(Delivery::Delay(Duration::from_secs(3)))
    })));
    while !asked.load(Ordering::SeqCst) {
        run(&mut world, 1).await;
    }
    for node in ["dedicated-0", "dedicated-1"] {
        cordon(&world, node, true).await;
    }
    run(&mut world, 30).await;
    assert_eq!(node_of(&world, "vm0"), "shared-0", "nobody takes it");
    let first = migrations(&world).await;
    assert!(first.len() <= 1, "what has no place is not asked for again and again");
    cordon(&world, "dedicated-1", false).await;
    run(&mut world, 180).await;
    assert_eq!(node_of(&world, "vm0"), "dedicated-1");
    assert_eq!(unfinished(&world), 0);
    assert_eq!(world.broken_rules(), [""; 0]);
}

/// The other VMs are none of ours, so that nobody goes in place of the one whose moves fail.
fn only_the_busy_vm_may_move(seed: u64) -> Scenario {
    let mut scenario = one_busy_vm(seed);
    for vm in &mut scenario.vms[1..] {
        vm.spec.annotations.insert("miyako.dev/consolidate".into(), "never".into());
    }
    scenario
}

#[tokio::test(start_paused = true)]
async fn moves_that_fail_are_tried_again_after_waits_that_double() {
    let mut world = begin(only_the_busy_vm_may_move(1)).await;
    for _ in 0..4 {
        let fault = Fault::Fail { after: Duration::from_secs(1), reason: "no route".into() };
        world.world.hands.lock().expect("nobody panicked").break_vm(VmKey::new("vms", "vm0"), fault);
    }
    run(&mut world, 600).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "the fifth try goes through");
    let began: Vec<i64> = migrations(&world)
        .await
        .iter()
        .filter_map(|migration| Some(migration.metadata.creation_timestamp.as_ref()?.0.as_second()))
        .collect();
    let waits: Vec<i64> = began.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits.len(), 4, "{waits:?}");
    for (wait, at_least) in waits.iter().zip([30, 60, 120, 240]) {
        assert!((at_least..at_least + 25).contains(wait), "{waits:?}");
    }
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_never_gets_ready_is_told_and_the_vm_moves_when_it_is_gone() {
    let mut world = begin(only_the_busy_vm_may_move(1)).await;
    world.world.hands.lock().expect("nobody panicked").break_vm(VmKey::new("vms", "vm0"), Fault::TargetNeverReady);
    run(&mut world, 17 * 60).await;
    assert_eq!((moves(&world), node_of(&world, "vm0").as_str()), (1, "shared-0"), "it waits, as KubeVirt does");
    let (reason, message) = condition(&world, "Degraded").await.expect("a condition tells");
    assert_eq!(reason, "MigrationStalled");
    assert!(message.contains("vms/vm0") && message.contains("launcher pod"), "{message}");
    // A person does as the message says.
    let pods: Api<Pod> = Api::namespaced(world.world.admin.clone(), "vms");
    let targets =
        pods.list(&ListParams::default().labels("kubevirt.io/migrationJobUID")).await.expect("pods are listed");
    let target = targets.items[0].metadata.name.clone().expect("pods have names");
    pods.delete(&target, &DeleteParams::default().grace_period(0)).await.expect("people may delete pods");
    run(&mut world, 90).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{:?}", world.placement());
    assert_eq!(moves(&world), 2);
    assert_eq!(condition(&world, "Degraded").await, None);
    assert_eq!(unfinished(&world), 0);
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_evacuation_that_waits_for_a_slot_goes_before_our_moves() {
    let mut scenario = one_busy_vm(1);
    scenario.migrations.insert("parallelMigrationsPerCluster".into(), json!(1));
    // Twenty seconds for each migration.
    scenario.hands.bandwidth = 30e6;
    scenario.add_node("spare-0", "spare", 8, Bytes::gib(20));
    scenario.add_node("spare-1", "spare", 8, Bytes::gib(20));
    for index in 4..7 {
        let mut vm = small_vm(&format!("vm{index}"), "spare-0", Pattern::Constant(0.1));
        vm.spec.node_selector.insert(CLASS_LABEL.into(), "spare".into());
        scenario.vms.push(vm);
    }
    scenario.vms[0].pattern = Pattern::Steps { from: BEGINS, steps: vec![step(0, 0.1), step(10, 0.95)] };
    let mut world = begin(scenario).await;
    run(&mut world, 8).await;
    let vmis: Api<VirtualMachineInstance> = Api::namespaced(world.world.kubevirt.virt_controller.clone(), "vms");
    let leave = Patch::Merge(json!({"status": {"evacuationNodeName": "spare-0"}}));
    for index in 4..7 {
        vmis.patch(&format!("vm{index}"), &PatchParams::default(), &leave).await.expect("KubeVirt may");
    }
    run(&mut world, 240).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{:?}", world.placement());
    let all = migrations(&world).await;
    let of = |vm: &str| all.iter().find(|one| one.spec.vmi_name == vm).expect("it was moved");
    let ours = of("vm0").metadata.creation_timestamp.as_ref().expect("it was created").0;
    for index in 4..7 {
        // The phase in which an evacuation waits for its slot ends when it is scheduled.
        let phases = of(&format!("vm{index}")).status.clone().unwrap_or_default().phase_transition_timestamps;
        let scheduling = phases.iter().find(|one| one.phase == "Scheduling").expect("it got its slot");
        let got_slot = scheduling.phase_transition_timestamp.0;
        assert!(got_slot <= ours, "vm{index} got its slot at {got_slot}, and we asked for ours at {ours}");
    }
    assert_eq!(unfinished(&world), 0);
    assert_eq!(world.broken_rules(), [""; 0]);
}
