//! The real operator in a simulated world: it does its main job, the same way each time, and no crash makes it unsafe.

use miyako::sim::simulation::{Scenario, Simulation};
use miyako_core::model::VmKey;
use std::collections::BTreeMap;

async fn run(world: &mut Simulation, seconds: u32) {
    for _ in 0..seconds {
        world.second().await.expect("the stand-ins see the cluster");
    }
}

async fn figure_6(seed: u64) -> Simulation {
    let scenario = Scenario { journal: true, ..Scenario::reactive_cloud_figure_6(seed) };
    let mut world = Simulation::begin(scenario).await.expect("the scenario is possible");
    world.start_operator("operator-0").expect("metrics register");
    world
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

/// How a run ended: where VMs are, and how often each was asked to move.
type End = (BTreeMap<VmKey, String>, BTreeMap<VmKey, u32>);

async fn crash_after(writes: u64) -> (End, bool) {
    let mut world = figure_6(3).await;
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
    assert_eq!(world.broken_rules(), [""; 0], "after a crash behind write {writes}");
    let placement =
        world.placement().into_iter().map(|(vm, node)| (vm, node.split('-').next().unwrap_or("").to_owned()));
    ((placement.collect(), world.migrations_asked_for().clone()), crashed)
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_single_write_changes_nothing_in_the_end() {
    let (expected, _) = crash_after(u64::MAX).await;
    let mut swept = 0;
    for writes in 1.. {
        let (end, crashed) = crash_after(writes).await;
        if !crashed {
            break;
        }
        assert_eq!(end, expected, "after a crash behind write {writes}");
        swept = writes;
    }
    println!("crashed after each of {swept} writes");
    assert!(swept > 20, "the scenario must have writes to crash after, but had {swept}");
}
