//! An operator dies after each single write of a scenario, one by one: whoever goes on brings it to the same end.

use super::{on_a_runtime_of_its_own, run, small_vm, unfinished};
use miyako::sim::simulation::{BEGINS, Scenario, Simulation};
use miyako::sim::workload::Pattern;
use miyako_core::model::{Bytes, Span, VmKey};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who goes on after a crash.
#[derive(Clone, Copy)]
enum Successor {
    /// The same replica, started anew at once.
    Restarted,
    /// Another replica that ran all along.
    StandingBy,
}

/// How a run ended: the class of node where each VM is, and how often each was asked to move.
type End = (BTreeMap<VmKey, String>, BTreeMap<VmKey, u32>);

/// From this second on loads stay as they are.
const LOADS_STAY: u32 = 80;
/// A run that got where it should is watched for this long: longer than a VM is left alone after a migration.
const WATCHED: u32 = 25;
/// No run may take longer to get there.
const LONGEST: u32 = 240;

/// VM 0 is busy from second 20 to 70, VM 1 from second 75 on: one goes away and comes back, one goes away.
fn scenario() -> Scenario {
    let mut scenario = Scenario::reactive(3);
    scenario.add_node("shared-0", "shared", 1, Bytes::gib(20));
    scenario.add_node("dedicated-0", "dedicated", 1, Bytes::gib(20));
    scenario.add_node("dedicated-1", "dedicated", 1, Bytes::gib(20));
    let step = |seconds: u64, share: f64| (Span::from_secs(seconds), share);
    let loads = [
        vec![step(0, 0.10), step(20, 0.95), step(70, 0.10)],
        vec![step(0, 0.10), step(75, 0.95)],
        vec![step(0, 0.10)],
        vec![step(0, 0.10)],
    ];
    for (index, steps) in loads.into_iter().enumerate() {
        let pattern = Pattern::Steps { from: BEGINS, steps };
        scenario.vms.push(small_vm(&format!("vm{index}"), "shared-0", pattern));
    }
    scenario
}

fn end(world: &Simulation) -> End {
    let class = |node: String| node.split('-').next().unwrap_or_default().to_owned();
    let placement = world.placement().into_iter().map(|(vm, node)| (vm, class(node)));
    (placement.collect(), world.migrations_asked_for().clone())
}

/// One run, and whether it came to its crash. It is over soon after it got where it is `expected` to.
async fn crash_after(writes: u64, successor: Successor, expected: Option<&End>) -> (End, bool) {
    let mut world = Simulation::begin(scenario()).await.expect("the scenario is possible");
    world.start_operator("operator-0").expect("metrics register");
    if matches!(successor, Successor::StandingBy) {
        run(&mut world, 2).await;
        world.start_operator("operator-1").expect("metrics register");
    }
    let crash = world.world.server.crash_after_writes("operator-0", writes);
    let mut crashed = false;
    let mut there = 0;
    for second in 0..LONGEST {
        world.second().await.expect("the stand-ins see the cluster");
        if !crashed && *crash.borrow() {
            crashed = true;
            world.kill_operator("operator-0");
            if matches!(successor, Successor::Restarted) {
                world.start_operator("operator-0").expect("metrics register");
            }
        }
        let calm = second > LOADS_STAY && unfinished(&world) == 0;
        there = if calm && expected.is_some_and(|expected| *expected == end(&world)) { there + 1 } else { 0 };
        if there > WATCHED {
            break;
        }
    }
    assert_eq!(world.broken_rules(), [""; 0], "after a crash behind write {writes}");
    (end(&world), crashed)
}

fn sweep(successor: Successor) {
    let (expected, _) = on_a_runtime_of_its_own(crash_after(u64::MAX, successor, None));
    assert_eq!(expected.1.values().copied().collect::<Vec<_>>(), [2, 1], "without a crash: {expected:?}");
    let next = AtomicU64::new(1);
    let swept = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let writes = next.fetch_add(1, Ordering::SeqCst);
                    let run = crash_after(writes, successor, Some(&expected));
                    let (end, crashed) = on_a_runtime_of_its_own(run);
                    if !crashed {
                        break;
                    }
                    assert_eq!(end, expected, "after a crash behind write {writes}");
                    swept.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    let swept = swept.into_inner();
    println!("crashed after each of {swept} writes");
    assert!(swept > 20, "the scenario must have writes to crash after, but had {swept}");
}

#[test]
fn a_crash_after_any_single_write_changes_nothing_in_the_end() {
    sweep(Successor::Restarted);
}

#[test]
fn another_replica_takes_over_after_any_single_write() {
    sweep(Successor::StandingBy);
}
