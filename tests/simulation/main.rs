//! The real operator in a simulated world: it does its main job, the same way each time, and no crash makes it unsafe.

mod budget;
mod crashes;
mod daemon_sets;
mod days;
mod faults;
mod hands;
mod hardships;
mod holds;
mod kubevirt_away;
mod leaders;
mod meeting_others;
mod memory;
mod moved_again;
mod neighbours;
mod own_marks;
mod placement;
mod power;
mod switches;
mod taken_back;
mod unheeded;
mod wake_tests;
mod wakes;

use kube::api::Api;
use miyako::sim::kubevirt::create::VmSpec;
use miyako::sim::simulation::{Scenario, SimulatedVm, Simulation, USER, paused_runtime};
use miyako::sim::workload::Pattern;
use miyako_api::ConsolidationPolicy;
use miyako_core::model::{Bytes, VmKey};
use serde_json::Value;

async fn run(world: &mut Simulation, seconds: u32) {
    for _ in 0..seconds {
        world.second().await.expect("the stand-ins see the cluster");
    }
}

/// What is not over yet: plans and migrations.
fn unfinished(world: &Simulation) -> usize {
    const OVER: [&str; 5] = ["Succeeded", "Failed", "Expired", "Superseded", "Refused"];
    world.world.server.view(|view| {
        let plans = view.list("miyako.dev", "consolidationplans", "");
        let migrations = view.list("kubevirt.io", "virtualmachineinstancemigrations", "");
        let phase = |object: &Value| object.pointer("/status/phase").and_then(Value::as_str).unwrap_or("").to_owned();
        plans.chain(migrations).filter(|object| !OVER.contains(&phase(object).as_str())).count()
    })
}

fn moves(world: &Simulation) -> u32 {
    world.migrations_asked_for().values().sum()
}

/// A VM with little memory, so that it moves within seconds.
fn small_vm(name: &str, node: &str, pattern: Pattern) -> SimulatedVm {
    SimulatedVm { spec: VmSpec::new("vms", name, 1, Bytes::mib(512)), node: node.into(), pattern }
}

/// A shared node with four VMs of which one is always busy, and room for it elsewhere.
fn one_busy_vm(seed: u64) -> Scenario {
    let mut scenario = Scenario::reactive(seed);
    scenario.add_node("shared-0", "shared", 1, Bytes::gib(20));
    scenario.add_node("dedicated-0", "dedicated", 1, Bytes::gib(20));
    scenario.add_node("dedicated-1", "dedicated", 1, Bytes::gib(20));
    for (index, share) in [0.95, 0.10, 0.10, 0.10].into_iter().enumerate() {
        scenario.vms.push(small_vm(&format!("vm{index}"), "shared-0", Pattern::Constant(share)));
    }
    scenario
}

/// Reason and message of a condition of the policy, if it is True.
async fn condition(world: &Simulation, kind: &str) -> Option<(String, String)> {
    let api: Api<ConsolidationPolicy> = Api::all(world.world.server.client(USER));
    let status = api.get_status("pack").await.expect("the policy is there").status?;
    let found =
        status.conditions.into_iter().find(|condition| condition.type_ == kind && condition.status == "True")?;
    Some((found.reason, found.message))
}

/// Each run has its own world and its own paused time, and so several run side by side.
fn on_a_runtime_of_its_own<T>(run: impl Future<Output = T>) -> T {
    paused_runtime().expect("a runtime starts").block_on(run)
}

/// Runs these worlds on two threads, each with its own paused time, and hands what comes of each to `take`.
fn side_by_side<T, F: Future<Output = T>>(
    seeds: std::ops::Range<u64>,
    run: impl Fn(u64) -> F + Sync,
    take: impl Fn(T) + Sync,
) {
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    if seed >= seeds.end {
                        break;
                    }
                    take(on_a_runtime_of_its_own(run(seed)));
                }
            });
        }
    });
}

async fn begin(scenario: Scenario) -> Simulation {
    let mut world = Simulation::begin(scenario).await.expect("the scenario is possible");
    world.start_operator("operator-0").expect("metrics register");
    world
}

async fn figure_6(seed: u64) -> Simulation {
    let scenario = Scenario { journal: true, ..Scenario::reactive_cloud_figure_6(seed) };
    begin(scenario).await
}

fn node_of(world: &Simulation, vm: &str) -> String {
    world.placement()[&VmKey::new("vms", vm)].clone()
}

#[tokio::test(start_paused = true)]
async fn figure_6_of_reactive_cloud() {
    let mut world = figure_6(1).await;
    run(&mut world, 58).await;
    assert!(world.migrations_asked_for().is_empty(), "nothing moves while all VMs idle");
    // VM 0 wants 95 % of a core from second 60 on.
    run(&mut world, 42).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{:?}", world.placement());
    run(&mut world, 60).await;
    assert!(node_of(&world, "vm1").starts_with("dedicated"), "{:?}", world.placement());
    // VM 0 idles again from second 180 on.
    run(&mut world, 80).await;
    assert_eq!(node_of(&world, "vm0"), "shared-0");
    assert!(node_of(&world, "vm1").starts_with("dedicated"));
    let moves: Vec<u32> = world.migrations_asked_for().values().copied().collect();
    assert_eq!(moves, [2, 1], "no VM moves without a reason: {:?}", world.migrations_asked_for());
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    let mut journals = Vec::new();
    for seed in [7, 7, 8] {
        let mut world = figure_6(seed).await;
        run(&mut world, 150).await;
        journals.push(world.journal());
    }
    let different = journals[0].iter().zip(&journals[1]).find(|(a, b)| a != b);
    assert_eq!(different, None, "two runs of one seed");
    assert_eq!(journals[0].len(), journals[1].len());
    assert_ne!(journals[0], journals[2], "two seeds");
}
