//! What the operator and its stand keep follows what exists, and not how long they have been running.

use super::days::by_turns;
use super::*;
use std::collections::BTreeMap;

/// These follow what happened within the last day: plans are kept for 26 hours, minutes for 36.
const OF_A_DAY: [&str; 6] = ["ConsolidationPlan", "Identities", "PlansOver", "Moves", "PowerSteps", "Story"];
/// The stand forgets what watches could read on in beyond this (`HistoryLimit`).
const HISTORY_BYTES: usize = 1 << 20;

/// Entries that the operator keeps, by owner.
fn entries(world: &Simulation) -> BTreeMap<String, usize> {
    let text = world.operator("operator-0").expect("it runs").metrics.text();
    let held = text.lines().filter_map(|line| line.strip_prefix("miyako_held_entries{owner=\"")?.split_once("\"} "));
    held.map(|(owner, count)| (owner.to_owned(), count.parse().expect("a number"))).collect()
}

fn objects(world: &Simulation, group: &str, plural: &str) -> usize {
    world.world.server.view(|view| view.list(group, plural, "").count())
}

/// What is kept per owner may follow the moment, such as moves under way, but no more: twice of it and a dozen.
fn within(later: usize, before: usize) -> bool {
    later <= 2 * before + 12
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_follows_what_exists() {
    let mut world = begin(by_turns(7, Some("5s"))).await;
    run(&mut world, 2400).await;
    let (before, events) = (entries(&world), world.world.server.held()["events"]);
    let moved = moves(&world);
    run(&mut world, 4800).await;
    assert!(moves(&world) > moved + 50, "nothing happens that could be kept");
    let after = entries(&world);
    assert!(after.len() > 40 && before.len() == after.len(), "{after:?}");
    for (owner, later) in &after {
        let day = OF_A_DAY.contains(&owner.as_str());
        assert!(day || within(*later, before[owner]), "{owner}: {} entries, then {later}", before[owner]);
    }
    let plans = objects(&world, "miyako.dev", "consolidationplans");
    // It counts once a minute.
    assert!(after["ConsolidationPlan"].abs_diff(plans) <= 5, "{plans} plans: {after:?}");
    assert!(after["PlansOver"] <= plans && after["PowerSteps"] <= plans, "{after:?}");
    let (vms, nodes) = (18, 6);
    assert_eq!((after["VirtualMachineInstance"], after["Node"]), (vms, nodes), "{after:?}");
    assert_eq!(after["LoadHistories"], vms + nodes, "{after:?}");

    for (collection, held) in world.world.server.held() {
        assert!(held.change_bytes <= HISTORY_BYTES || held.changes == 1, "{collection}: {held:?}");
    }
    let later = world.world.server.held()["events"];
    assert!(
        later.objects <= 2 * events.objects,
        "Events of 40 minutes: {events:?}, of the last hour of two: {later:?}"
    );
    assert_eq!(world.broken_rules(), [""; 0]);
}
