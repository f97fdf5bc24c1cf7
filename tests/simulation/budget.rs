//! While nothing happens, the operator asks the API server for next to nothing.

use super::{begin, moves, one_busy_vm, run, unfinished};
use miyako::sim::simulation::Scenario;
use std::collections::BTreeMap;

/// Requests of a calm operator over ten minutes: those about its Lease, and all others by what they were.
async fn calm_requests(scenario: Scenario) -> (u64, BTreeMap<String, u64>) {
    let mut world = begin(scenario).await;
    run(&mut world, 120).await;
    assert_eq!((moves(&world), unfinished(&world)), (1, 0), "the busy VM moved, and then all is calm");
    world.world.server.reset_request_counts();
    run(&mut world, 600).await;
    assert_eq!(moves(&world), 1, "under constant load no VM moves twice");
    assert_eq!(world.broken_rules(), [""; 0]);
    let (mut renewals, mut others) = (0, BTreeMap::new());
    for (kind, count) in world.world.server.request_counts() {
        match kind.resource.as_str() {
            _ if kind.actor != "operator-0" => {}
            "leases.coordination.k8s.io" => renewals += count,
            resource => drop(others.insert(format!("{:?} {resource}", kind.verb), count)),
        }
    }
    (renewals, others)
}

/// Ten minutes of renewals, one each five seconds.
const RENEWALS: std::ops::RangeInclusive<u64> = 115..=125;

#[tokio::test(start_paused = true)]
async fn a_calm_operator_renews_its_lease_and_little_else() {
    let (renewals, others) = calm_requests(one_busy_vm(1)).await;
    println!("{renewals} renewals in ten minutes, and {others:?}");
    assert!(RENEWALS.contains(&renewals), "{renewals} renewals");
    // Watches are opened anew every five minutes or so, and so often it is asked for what is not installed.
    let unknown = others.iter().filter(|(kind, _)| kind.starts_with("Get /apis/"));
    assert!(unknown.map(|(_, count)| *count).all(|count| count <= 3), "{others:?}");
    let written = others.iter().filter(|(kind, _)| !kind.starts_with("Watch") && !kind.starts_with("Get /apis/"));
    assert!(written.clone().map(|(_, count)| count).sum::<u64>() <= 5, "{others:?}");
}

#[tokio::test(start_paused = true)]
async fn noise_costs_figures_now_and_then_and_no_moves() {
    let (renewals, others) = calm_requests(Scenario { noise: 0.02, ..one_busy_vm(2) }).await;
    println!("{renewals} renewals in ten minutes, and {others:?}");
    assert!(RENEWALS.contains(&renewals), "{renewals} renewals");
    // The figures in the status of the one policy and the two classes, each at most every 30 s.
    let written = others.iter().filter(|(kind, _)| !kind.starts_with("Watch"));
    assert!(written.clone().map(|(_, count)| count).sum::<u64>() <= 60, "{others:?}");
}
