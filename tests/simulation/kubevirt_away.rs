//! Parts of KubeVirt are away while the operator wants to move VMs.

use super::{begin, moves, node_of, one_busy_vm, run, unfinished};
use miyako::sim::simulation::Simulation;

async fn run_until_asked(world: &mut Simulation) {
    for _ in 0..120 {
        if moves(world) > 0 {
            return;
        }
        run(world, 1).await;
    }
    panic!("no move was asked for");
}

#[tokio::test(start_paused = true)]
async fn a_move_ends_well_although_virt_controller_was_away_for_two_minutes() {
    let mut world = begin(one_busy_vm(5)).await;
    run_until_asked(&mut world).await;
    world.world.outages.set_virt_controller_away(true);
    run(&mut world, 120).await;
    world.world.outages.set_virt_controller_away(false);
    run(&mut world, 120).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{}", node_of(&world, "vm0"));
    assert_eq!(unfinished(&world), 0);
    assert!(moves(&world) <= 2, "it is not asked for again and again: {}", moves(&world));
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_vm_moves_once_virt_api_is_back() {
    let mut world = begin(one_busy_vm(6)).await;
    world.world.outages.set_virt_api_away(true);
    run(&mut world, 120).await;
    assert_eq!(node_of(&world, "vm0"), "shared-0");
    world.world.outages.set_virt_api_away(false);
    run(&mut world, 180).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{}", node_of(&world, "vm0"));
    assert_eq!(unfinished(&world), 0);
    assert_eq!(world.broken_rules(), [""; 0]);
}
