//! An API server, or a webhook behind it, that hangs: it holds neither other nodes nor the passes of the loop, and no
//! order to sleep is sent late.

use super::*;
use miyako::sim::apiserver::{Fault, RequestInfo};
use std::time::Duration;

const OPERATOR: &str = "operator-0";

fn set_faults(world: &Simulation, plan: impl FnMut(&RequestInfo) -> Option<Fault> + Send + 'static) {
    world.world.server.set_faults(Some(Box::new(plan)));
}

/// No write that concerns this node is ever answered.
fn hang_on(world: &Simulation, node: &'static str) {
    set_faults(world, move |request: &RequestInfo| {
        let about = ["nodes", "nodepowers.miyako.dev"].contains(&&*request.resource) && request.name == node;
        let hangs = &*request.actor == OPERATOR && request.verb.writes() && about;
        hangs.then_some(Fault::Hang(Duration::from_secs(3600)))
    });
}

fn last_pass(world: &Simulation) -> Timestamp {
    world.operator(OPERATOR).expect("it runs").view.borrow().at
}

#[tokio::test(start_paused = true)]
async fn writes_that_hang_on_one_node_hold_neither_the_others_nor_the_passes() {
    let mut world = begin(scenario(400)).await;
    // Before anything was written of it, and it is the first by name.
    run(&mut world, 20).await;
    hang_on(&world, "dedicated-0");
    let mut longest = Span::ZERO;
    for _ in 0..360 {
        run(&mut world, 1).await;
        longest = longest.max(world.now().since(last_pass(&world)));
    }
    assert_eq!(phase(&world, "dedicated-1").await, PowerPhase::Suspended, "it is held by another node's writes");
    assert!(longest <= Span::from_secs(12), "no pass for {longest:?}");
    // The load comes back, and VMs move all the same.
    run(&mut world, 100).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{:?}", world.placement());
    world.world.server.set_faults(None);
    run(&mut world, 500).await;
    assert_eq!(phases(&world).await, [PowerPhase::Suspended, PowerPhase::Suspended, PowerPhase::Awake]);
    assert_unbroken(&world);
}

#[tokio::test(start_paused = true)]
async fn no_order_to_sleep_is_sent_once_it_is_too_late_to_begin() {
    let mut world = begin(scenario(NEVER)).await;
    run(&mut world, 20).await;
    // Each read of the last look is answered, and the looks at the node itself are not even slow.
    set_faults(&world, |request: &RequestInfo| {
        let reads = &*request.actor == OPERATOR && request.verb == Verb::Get;
        let slow = match &*request.resource {
            "configmaps" => 2_200,
            "nodes" => 1_200,
            _ => return None,
        };
        reads.then_some(Fault::Delay(Duration::from_millis(slow)))
    });
    run(&mut world, 400).await;
    assert_eq!(world.machines.as_ref().map(|machines| machines.sleeps()), Some(0), "an order was sent late");
    world.world.server.set_faults(None);
    run(&mut world, 200).await;
    assert_eq!(phases(&world).await, [PowerPhase::Suspended, PowerPhase::Suspended, PowerPhase::Awake]);
    assert_unbroken(&world);
}
