//! Returns that look further than the moment.

use super::*;

const HALF_AN_HOUR: Span = Span::from_secs(30 * 60);

/// A world in which shared nodes are looked back on over half an hour.
fn world() -> World {
    let mut world = World::new();
    world.policy().thresholds.admission_window = HALF_AN_HOUR;
    world
}

/// What was used during the last so many minutes, the youngest being minute 0.
fn minutes(count: i64, cores: impl Fn(i64) -> f64) -> LoadHistory {
    let mut history = LoadHistory::default();
    let this_minute = NOW.second().div_euclid(60);
    for second in NOW.second() - 60 * count + 1..=NOW.second() {
        let cores = Cores::new(cores(this_minute - second.div_euclid(60))).unwrap();
        history.push(Timestamp::from_secs(second), Span::from_secs(1), cores);
    }
    history
}

fn history_of(world: &mut World, vm: &VmKey, history: LoadHistory) {
    world.snapshot.load.vms.insert(vm.clone(), history);
}

/// A VM that idles on a dedicated node, and one on the shared node that used so much in each minute.
fn idle_beside(world: &mut World, neighbour: impl Fn(i64) -> f64) -> VmKey {
    let other = world.vm("neighbour", "shared-0", neighbour(0));
    history_of(world, &other, minutes(40, neighbour));
    let idle = world.vm("idle", "dedicated-0", 0.1);
    history_of(world, &idle, minutes(40, |_| 0.1));
    idle
}

#[test]
fn a_return_leaves_one_move_of_the_day_for_a_relief() {
    let mut world = world();
    idle_beside(&mut world, |_| 0.2);
    let moved = |times: usize| VmMoves { moves: vec![NOW - Span::from_secs(7200); times], ..VmMoves::default() };
    let uid = Uid::new("uid-idle");
    world.policy().budgets.moves_per_vm_per_day = 4;
    world.snapshot.history.vms.insert(uid.clone(), moved(2));
    assert_eq!(world.moves(), ["idle: dedicated-0 -> shared-0 PreCopy"]);
    world.snapshot.history.vms.insert(uid.clone(), moved(3));
    assert_eq!(world.stays("idle"), "ReliefKept");
    world.snapshot.history.vms.insert(uid, moved(4));
    assert_eq!(world.stays("idle"), "BudgetSpent");
    // Twice a day is there and away, and once is no return at all.
    world.snapshot.history.vms.clear();
    world.policy().budgets.moves_per_vm_per_day = 2;
    assert_eq!(world.moves(), ["idle: dedicated-0 -> shared-0 PreCopy"]);
    world.policy().budgets.moves_per_vm_per_day = 1;
    assert_eq!(world.stays("idle"), "ReliefKept");
}

#[test]
fn who_is_not_known_for_the_whole_window_does_not_return() {
    let mut world = world();
    let idle = idle_beside(&mut world, |_| 0.2);
    history_of(&mut world, &idle, minutes(29, |_| 0.1));
    assert_eq!(world.stays("idle"), "HistoryShort");
    let (_, report) = world.decide();
    let VmVerdict::Stays { reason } = &report.vms.get(&idle).unwrap().verdict else { panic!("it stays") };
    assert!(reason.to_string().contains("29 of the 30 minutes"), "{reason}");
    history_of(&mut world, &idle, minutes(30, |_| 0.1));
    assert_eq!(world.moves(), ["idle: dedicated-0 -> shared-0 PreCopy"]);
}

#[test]
fn a_quiet_moment_does_not_make_a_busy_node_roomy() {
    // Of two cores 1.5 is what is admitted. Now the neighbour is quiet; two minutes of the last thirty it was not.
    let busy = |times: i64| move |minute: i64| if (10..10 + times).contains(&minute) { 1.6 } else { 0.2 };
    let mut quiet = world();
    idle_beside(&mut quiet, busy(1));
    assert_eq!(quiet.moves(), ["idle: dedicated-0 -> shared-0 PreCopy"], "one minute in thirty is let pass");
    let mut world = world();
    let idle = idle_beside(&mut world, busy(2));
    assert_eq!(world.stays("idle"), "NoRoom");
    let (_, report) = world.decide();
    let VmVerdict::Stays { reason: StayReason::NoRoom { nodes } } = &report.vms.get(&idle).unwrap().verdict else {
        panic!("no room")
    };
    assert!(matches!(nodes[0].1, NoPlace::PastLoad { .. }), "{nodes:?}");
    // The moment's averages alone would have let it in.
    world.policy().thresholds.admission_window = Span::from_secs(5);
    assert_eq!(world.moves(), ["idle: dedicated-0 -> shared-0 PreCopy"]);
}

#[test]
fn minutes_add_up_whoever_used_them_and_wherever() {
    // Neither is too much alone, and they are busy at the same time.
    let in_turn = |turn: i64| move |minute: i64| if minute >= 5 && minute % 10 == turn { 0.8 } else { 0.1 };
    let mut together = world();
    let idle = idle_beside(&mut together, in_turn(5));
    history_of(&mut together, &idle, minutes(40, in_turn(5)));
    assert_eq!(together.stays("idle"), "NoRoom");
    history_of(&mut together, &idle, minutes(40, in_turn(6)));
    assert_eq!(together.moves(), ["idle: dedicated-0 -> shared-0 PreCopy"]);
}

#[test]
fn who_is_on_the_way_counts_with_the_past_too() {
    let mut world = world();
    world.policy().budgets.concurrent_per_shared_node = 5;
    idle_beside(&mut world, |_| 0.2);
    let first = world.vm("first", "dedicated-1", 0.1);
    history_of(&mut world, &first, minutes(40, |minute| if minute > 2 { 0.9 } else { 0.1 }));
    let second = world.vm("second", "dedicated-1", 0.1);
    history_of(&mut world, &second, minutes(40, |minute| if minute > 2 { 0.9 } else { 0.1 }));
    world.snapshot.vms.remove(&VmKey::new("vms", "idle"));
    // 0.2 and 0.9 are below 1.5 of two cores, with another 0.9 they are not.
    assert_eq!(world.moves(), ["first: dedicated-1 -> shared-0 PreCopy"]);
    world.migration("first", "dedicated-1", "shared-0", None);
    assert_eq!(world.stays("second"), "NoRoom");
}

#[test]
fn a_neighbour_of_whom_nothing_is_known_counts_as_all_its_vcpus() {
    let mut world = world();
    idle_beside(&mut world, |minute| if minute > 2 { 0.9 } else { 0.7 });
    world.vm("new", "shared-0", 0.0);
    world.snapshot.load.vms.remove(&VmKey::new("vms", "new"));
    assert_eq!(world.stays("idle"), "NoRoom");
    world.snapshot.vms.remove(&VmKey::new("vms", "new"));
    assert_eq!(world.moves(), ["idle: dedicated-0 -> shared-0 PreCopy"]);
    // What else runs there counts at what it uses now.
    world.node_load("shared-0", 1.35);
    assert_eq!(world.stays("idle"), "NoRoom");
}

#[test]
fn who_has_spent_the_budget_holds_nobody_up() {
    let mut world = world();
    world.vm("busy", "shared-0", 1.6);
    world.vm("next", "shared-0", 0.3);
    let moves = (0..10).map(|hour| NOW - Span::from_secs(3600 * (10 - hour))).collect();
    world.snapshot.history.vms.insert(Uid::new("uid-busy"), VmMoves { moves, ..VmMoves::default() });
    assert_eq!(world.moves(), ["next: shared-0 -> dedicated-0 PostCopy"]);
    // Who is only held up for a moment is waited for.
    world.snapshot.history.vms.clear();
    world.moved_at("busy", "dedicated-0", NOW - Span::from_secs(10));
    assert_eq!(world.stays("next"), "NotFirst");
    world.policy().thresholds.settle = Span::from_secs(600);
    assert_eq!(world.moves(), ["next: shared-0 -> dedicated-0 PostCopy"], "ten minutes are no moment");
}
