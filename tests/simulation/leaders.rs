//! Leaders that are slow, hung or frozen: whatever they had begun, they write nothing once another one leads.

use super::{begin, node_of, on_a_runtime_of_its_own, one_busy_vm, run, small_vm, unfinished};
use miyako::sim::apiserver::{Fault, LoggedRequest, RequestInfo, Verb};
use miyako::sim::simulation::{BEGINS, Scenario, Simulation};
use miyako::sim::workload::Pattern;
use miyako_core::model::{Bytes, Span, VmKey};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const FIRST: &str = "operator-0";
const SECOND: &str = "operator-1";
const LEASES: &str = "leases.coordination.k8s.io";

/// Two replicas, of which the first leads.
async fn two_replicas(scenario: Scenario) -> Simulation {
    let mut world = begin(Scenario { journal: true, ..scenario }).await;
    run(&mut world, 2).await;
    world.start_operator(SECOND).expect("metrics register");
    world
}

/// What was written by another than the leader of that moment: the lease tells who that is.
fn written_out_of_turn(journal: &[LoggedRequest]) -> Vec<String> {
    let mut leader = "";
    let mut found = Vec::new();
    for request in journal.iter().filter(|request| request.changed && request.kind.actor.starts_with("operator-")) {
        let actor = request.kind.actor.as_str();
        if request.kind.resource == LEASES {
            leader = actor;
        } else if actor != leader {
            found.push(format!("{actor} wrote {:?} {} while {leader} led", request.kind, request.object));
        }
    }
    found
}

fn is_lease(request: &RequestInfo) -> bool {
    request.resource == LEASES
}

#[tokio::test(start_paused = true)]
async fn a_write_that_hangs_does_nothing_for_a_leader_that_was_replaced() {
    let mut world = two_replicas(one_busy_vm(1)).await;
    // The request that creates the migration arrives a minute late, and no renewal arrives at all after it.
    let mut cut_off = false;
    world.world.server.set_faults(Some(Box::new(move |request: &RequestInfo| {
        let first = &*request.actor == FIRST;
        let moves = request.verb == Verb::Create && request.resource.starts_with("virtualmachineinstancemigrations");
        if first && moves && !cut_off {
            cut_off = true;
            return Some(Fault::Delay(Duration::from_secs(60)));
        }
        (first && cut_off && is_lease(request)).then_some(Fault::Hang(Duration::from_secs(60)))
    })));
    run(&mut world, 120).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{:?}", world.placement());
    assert_eq!(world.migrations_asked_for().values().copied().collect::<Vec<_>>(), [1], "moved once");
    assert_eq!(unfinished(&world), 0);
    let journal = world.journal();
    assert!(journal.iter().any(|request| request.kind.actor == SECOND && request.changed), "the other one leads");
    assert_eq!(written_out_of_turn(&journal), [""; 0]);
    assert_eq!(world.broken_rules(), [""; 0]);
}

/// VM 0 is busy for a while: it goes away and comes back.
fn away_and_back() -> Scenario {
    let mut scenario = Scenario::reactive(3);
    scenario.add_node("shared-0", "shared", 1, Bytes::gib(20));
    scenario.add_node("dedicated-0", "dedicated", 1, Bytes::gib(20));
    let step = |seconds: u64, share: f64| (Span::from_secs(seconds), share);
    let busy = vec![step(0, 0.10), step(10, 0.95), step(50, 0.10)];
    scenario.vms.push(small_vm("vm0", "shared-0", Pattern::Steps { from: BEGINS, steps: busy }));
    for index in 1..4 {
        scenario.vms.push(small_vm(&format!("vm{index}"), "shared-0", Pattern::Constant(0.10)));
    }
    scenario
}

/// The leader is frozen at this write for long enough that the other one leads, and then goes on. How the run ended,
/// and whether there was such a write.
async fn frozen_at(write: u64) -> (BTreeMap<VmKey, u32>, bool) {
    let mut world = two_replicas(away_and_back()).await;
    let freezer = world.operator(FIRST).expect("it runs").freezer();
    let writes = Arc::new(AtomicU64::new(0));
    let (counted, freeze) = (writes.clone(), freezer.clone());
    world.world.server.set_faults(Some(Box::new(move |request: &RequestInfo| {
        if &*request.actor == FIRST && request.verb.writes() && !is_lease(request) {
            let count = counted.fetch_add(1, Ordering::SeqCst) + 1;
            if count == write {
                freeze.send_replace(true);
            }
        }
        None
    })));
    let mut thaws_in = 40_u32;
    for _ in 0..170 {
        run(&mut world, 1).await;
        thaws_in -= u32::from(*freezer.borrow());
        if thaws_in == 0 {
            freezer.send_replace(false);
            thaws_in = u32::MAX;
        }
    }
    let out_of_turn = written_out_of_turn(&world.journal());
    assert_eq!(out_of_turn, [""; 0], "frozen at write {write}");
    assert_eq!(world.broken_rules(), [""; 0], "frozen at write {write}");
    assert_eq!(unfinished(&world), 0, "frozen at write {write}");
    assert_eq!(node_of(&world, "vm0"), "shared-0", "frozen at write {write}");
    (world.migrations_asked_for().clone(), writes.load(Ordering::SeqCst) >= write)
}

#[test]
fn a_leader_frozen_at_any_of_its_writes_moves_nothing_twice() {
    let next = AtomicU64::new(1);
    let frozen = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let write = next.fetch_add(1, Ordering::SeqCst);
                    let (moves, came) = on_a_runtime_of_its_own(frozen_at(write));
                    assert_eq!(moves.values().copied().collect::<Vec<_>>(), [2], "frozen at write {write}");
                    if !came {
                        break;
                    }
                    frozen.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    let frozen = frozen.into_inner();
    println!("frozen at each of {frozen} writes");
    assert!(frozen > 12, "the scenario must have writes to freeze at, but had {frozen}");
}
