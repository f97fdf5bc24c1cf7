//! What goes wrong between the operator and the API server: nothing unsafe comes of it, and it is over when the faults
//! are.

use super::{begin, moves, run, side_by_side, small_vm, unfinished};
use miyako::sim::apiserver::{FaultRates, RandomFaults};
use miyako::sim::simulation::Scenario;
use miyako::sim::workload::{Pattern, Workload};
use miyako_core::model::{Bytes, VmKey};
use std::time::Duration;

const OPERATOR: &str = "operator-0";

/// Two shared and six dedicated nodes, and sixteen VMs that are busy now and then.
fn random_hours(seed: u64) -> Scenario {
    let mut scenario = Scenario { noise: 0.02, ..Scenario::reactive(seed) };
    for index in 0..2 {
        scenario.add_node(&format!("shared-{index}"), "shared", 3, Bytes::gib(40));
    }
    for index in 0..6 {
        scenario.add_node(&format!("dedicated-{index}"), "dedicated", 2, Bytes::gib(40));
    }
    for index in 0..16 {
        let node = format!("shared-{}", index % 2);
        scenario.vms.push(small_vm(&format!("vm{index}"), &node, Pattern::RandomHours));
    }
    scenario
}

/// About one request in six goes wrong in one way or another.
pub(super) const RATES: FaultRates = FaultRates {
    server_errors: 0.04,
    too_many_requests: 0.02,
    conflicts: 0.02,
    lost_requests: 0.03,
    lost_answers: 0.03,
    delays: 0.03,
    longest_delay: Duration::from_secs(3),
};

async fn faulty_hours(seed: u64) {
    let mut world = begin(random_hours(seed)).await;
    run(&mut world, 10).await;
    let server = world.world.server.clone();
    server.set_faults(Some(Box::new(RandomFaults::new(seed, RATES).only_for(OPERATOR))));
    for minute in 0..10 {
        // Watches see the world late, break off, or have to list anew.
        server.lag_watches(OPERATOR, Duration::from_secs(if minute % 3 == 1 { 2 } else { 0 }));
        match minute % 4 {
            1 => server.drop_watches(OPERATOR),
            3 => server.expire_watches(OPERATOR),
            _ => {}
        }
        run(&mut world, 60).await;
    }
    assert_eq!(world.broken_rules(), [""; 0], "seed {seed}, while things go wrong");
    server.set_faults(None);
    server.lag_watches(OPERATOR, Duration::ZERO);
    let calm = (0..16).map(|index| (VmKey::new("vms", format!("vm{index}").as_str()), Pattern::Constant(0.15)));
    world.set_workload(Workload { seed, patterns: calm.collect(), noise: 0.0 });
    run(&mut world, 300).await;
    assert_eq!(unfinished(&world), 0, "seed {seed}: something never ends");
    assert!(moves(&world) > 0, "seed {seed}: nothing ever moved");
    let before = moves(&world);
    run(&mut world, 600).await;
    assert_eq!(moves(&world), before, "seed {seed}: VMs move although nothing changes");
    assert_eq!(world.broken_rules(), [""; 0], "seed {seed}, after all that");
}

#[test]
fn twenty_seeds_of_faults_break_no_rule_and_end_in_calm() {
    side_by_side(
        0..20,
        |seed| {
            println!("seed {seed}");
            faulty_hours(seed)
        },
        drop,
    );
}
