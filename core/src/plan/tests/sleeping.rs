//! Which nodes go to sleep, why the others stay awake, and what is done while one comes back.

use super::*;
use crate::model::{AgentWord, Desired, Order, PowerRecord, Purpose};

/// Two trusted, empty dedicated nodes, and a shared one with a VM that needs no other.
pub(super) fn empty() -> World {
    let mut world = World::new();
    world.vm("calm", "shared-0", 0.2);
    for class in world.policies.classes.values_mut() {
        class.sleep.can_be_woken = true;
    }
    for node in ["dedicated-0", "dedicated-1", "shared-0"] {
        world.node_mut(node).wake_tested = Some(NOW - Span::from_secs(86_400));
        let record = PowerRecord {
            noted: true,
            since: Some(NOW - Span::from_secs(86_400)),
            empty_since: (node != "shared-0").then_some(NOW - Span::from_secs(100)),
            agent: AgentWord { boot_id: Some("boot".into()), ..AgentWord::default() },
            ..PowerRecord::default()
        };
        world.snapshot.powers.insert(NodeName::new(node), record);
    }
    world
}

pub(super) fn record<'a>(world: &'a mut World, node: &str) -> &'a mut PowerRecord {
    world.snapshot.powers.get_mut(&NodeName::new(node)).unwrap()
}

pub(super) fn suspends(world: &World) -> Vec<String> {
    let (plan, _) = world.decide();
    assert_eq!(crate::check::check(&world.snapshot, &world.policies, &plan, NOW), [], "{plan:?}");
    let steps = plan.steps.iter().filter_map(|step| match step {
        Step::Suspend(step) => Some(step.node.to_string()),
        _ => None,
    });
    steps.collect()
}

pub(super) fn because(world: &World, node: &str) -> String {
    let (_, report) = world.decide();
    let because = report.nodes[&NodeName::new(node)].awake_because.as_ref();
    because.map(ToString::to_string).unwrap_or_default()
}

#[test]
fn an_empty_node_sleeps_one_at_a_time() {
    let world = empty();
    assert_eq!(suspends(&world), ["dedicated-0"]);
    assert!(because(&world, "dedicated-1").contains("goes first"));
}

#[test]
fn whatever_speaks_against_it_is_named() {
    type Change = fn(&mut World);
    let cases: [(Change, &str); 12] = [
        (|world| record(world, "dedicated-0").empty_since = None, "became empty just now"),
        (|world| record(world, "dedicated-0").empty_since = Some(NOW - Span::from_secs(10)), "if it stays empty"),
        (
            |world| {
                let record = record(world, "dedicated-0");
                (record.last_sleep, record.since) = (Some(Span::from_secs(3600)), Some(NOW - Span::from_secs(20)));
            },
            "if it stays empty",
        ),
        (|world| record(world, "dedicated-0").last_sleep = Some(Span::from_secs(5)), "slept too short"),
        (|world| record(world, "dedicated-0").agent = AgentWord::default(), "no agent has said anything"),
        (
            |world| {
                let order = Order {
                    desired: Desired::Awake,
                    method: SleepMethod::S3,
                    generation: 4,
                    issued: NOW,
                    expires: NOW,
                    reason: String::new(),
                };
                let record = record(world, "dedicated-0");
                (record.order, record.suspend_generation, record.agent.acknowledged) = (Some(order), Some(3), Some(2));
            },
            "no agent answered its last order",
        ),
        (|world| world.policy().spare_dedicated = 2, "keeps 2 dedicated nodes spare"),
        (|world| world.policy().min_awake = 3, "keeps 3 nodes awake"),
        (|world| world.policy().sleep.suspends_per_hour = Some(0), "suspends 0 nodes an hour"),
        (
            |world| {
                for class in world.policies.classes.values_mut() {
                    class.sleep.max_nodes_asleep = Some(0);
                }
            },
            "0 nodes of its class sleep",
        ),
        (
            |world| {
                for class in world.policies.classes.values_mut() {
                    class.power.asleep = class.power.idle;
                }
            },
            "no less asleep than idle",
        ),
        (|world| world.snapshot.switches.paused = Some("ana".into()), "suspends nothing now"),
    ];
    for (change, expected) in cases {
        let mut world = empty();
        // The other one is out of the way.
        world.node_mut("dedicated-1").keep_awake = Some("a test".into());
        change(&mut world);
        assert_eq!(suspends(&world), [""; 0], "{expected}");
        let because = because(&world, "dedicated-0");
        assert!(because.contains(expected), "{because:?} does not say {expected:?}");
    }
}

#[test]
fn without_a_way_to_wake_it_a_node_has_a_blocker_of_its_own() {
    let mut world = empty();
    for class in world.policies.classes.values_mut() {
        class.sleep.can_be_woken = false;
    }
    // Never tested, and it must not be.
    world.node_mut("dedicated-0").wake_tested = None;
    assert_eq!(suspends(&world), [""; 0]);
    let (_, report) = world.decide();
    let ranked = report.policies.values().flat_map(|policy| &policy.blockers).collect::<Vec<_>>();
    let first = ranked.iter().find(|blocker| blocker.examples.contains(&NodeName::new("dedicated-0"))).unwrap();
    assert_eq!(first.reason, "no wake driver in class dedicated", "{ranked:?}");
    assert!(ranked.iter().all(|blocker| !blocker.advice.contains("wake-test")), "{ranked:?}");
}

/// The nodes that are tested now.
fn tests(world: &World) -> Vec<String> {
    let (plan, _) = world.decide();
    assert_eq!(crate::check::check(&world.snapshot, &world.policies, &plan, NOW), [], "{plan:?}");
    let steps = plan.steps.iter().filter_map(|step| match step {
        Step::Suspend(step) if step.reason == SuspendReason::WakeTest => Some(step.node.to_string()),
        _ => None,
    });
    steps.collect()
}

fn classes(world: &mut World, change: impl Fn(&mut ClassSleep)) {
    world.policies.classes.values_mut().for_each(|class| change(&mut class.sleep));
}

#[test]
fn a_node_without_a_good_wake_test_is_tested_before_it_sleeps() {
    let mut world = empty();
    assert_eq!(tests(&world), [""; 0]);
    // Never tested comes first, then the oldest proof.
    world.node_mut("dedicated-1").wake_tested = None;
    assert_eq!(tests(&world), ["dedicated-1"]);
    classes(&mut world, |sleep| sleep.wake_tests.every = Span::from_secs(3600));
    assert_eq!(tests(&world), ["dedicated-1"]);
    world.node_mut("dedicated-1").wake_tested = Some(NOW - Span::from_secs(4000));
    assert_eq!(tests(&world), ["dedicated-0"], "its proof is a day old");
    // Only people test: nothing sleeps.
    classes(&mut world, |sleep| sleep.wake_tests.by_policy = false);
    assert_eq!(suspends(&world), [""; 0]);
    assert!(because(&world, "dedicated-0").contains("miyako wake-test"), "{}", because(&world, "dedicated-0"));
}

#[test]
fn a_test_waits_for_all_that_a_sleep_waits_for_and_for_the_one_beside_it() {
    let mut world = empty();
    for node in ["dedicated-0", "dedicated-1"] {
        world.node_mut(node).wake_tested = None;
    }
    assert_eq!(tests(&world), ["dedicated-0"]);
    world.policy().spare_dedicated = 2;
    assert_eq!(tests(&world), [""; 0]);
    world.policy().spare_dedicated = 0;
    world.node_mut("dedicated-0").power = PowerState::Waking;
    record(&mut world, "dedicated-0").purpose = Some(Purpose::of_plan(&"p-1".into(), true));
    assert_eq!(tests(&world), [""; 0]);
    assert!(because(&world, "dedicated-1").contains("after dedicated-0"), "{}", because(&world, "dedicated-1"));
    // Another rack has another switch and another breaker.
    let rack = world.policy().sleep.rack.clone();
    world.node_mut("dedicated-1").labels.insert(rack, "b".into());
    assert_eq!(tests(&world), ["dedicated-1"]);
}

#[test]
fn a_node_that_failed_to_wake_rests_and_a_test_makes_nobody_wary() {
    let mut world = empty();
    world.node_mut("dedicated-1").keep_awake = Some("a test".into());
    world.node_mut("dedicated-0").wake_tested = None;
    record(&mut world, "dedicated-0").wake_failed = Some(NOW - Span::from_secs(3600));
    assert_eq!(suspends(&world), [""; 0]);
    assert!(because(&world, "dedicated-0").contains("failed to wake"), "{}", because(&world, "dedicated-0"));
    record(&mut world, "dedicated-0").wake_failed = Some(NOW - Span::from_secs(25 * 3600));
    assert_eq!(tests(&world), ["dedicated-0"]);
    // It woke: its sleep was short because it was a test.
    world.node_mut("dedicated-0").wake_tested = Some(NOW - Span::from_secs(90));
    let found = record(&mut world, "dedicated-0");
    (found.wake_failed, found.last_sleep) = (None, Some(Span::from_secs(5)));
    found.purpose = Some(Purpose::of_plan(&"p-1".into(), true));
    assert_eq!(suspends(&world), ["dedicated-0"]);
    record(&mut world, "dedicated-0").purpose = Some(Purpose::of_plan(&"p-1".into(), false));
    assert_eq!(suspends(&world), [""; 0]);
}

#[test]
fn a_pod_that_waits_keeps_the_node_that_it_needs_awake() {
    let mut world = empty();
    world.policy().keep_awake_failures = 1;
    // The VM of the shared node would fit on either dedicated one; when one sleeps the other must stay.
    assert_eq!(suspends(&world), ["dedicated-0"]);
    world.node_mut("dedicated-0").power = PowerState::Suspended;
    assert_eq!(suspends(&world), [""; 0]);
    assert!(because(&world, "dedicated-1").contains("would fit nowhere"), "{}", because(&world, "dedicated-1"));
}

#[test]
fn wakes_that_somebody_waited_for_keep_more_nodes_spare_for_a_while() {
    let mut world = empty();
    world.policy().sleep.most_spare = Some(2);
    let woken =
        |ago: u64| PastWake { at: NOW - Span::from_secs(ago), node: "dedicated-0".into(), awaited: true, pod: None };
    world.snapshot.power_history.wakes = vec![woken(60), woken(30)];
    assert_eq!(suspends(&world), ["dedicated-0"], "one spare is left");
    world.snapshot.power_history.wakes = vec![woken(90), woken(80), woken(60), woken(30)];
    assert_eq!(suspends(&world), [""; 0]);
    world.snapshot.power_history.wakes.iter_mut().for_each(|wake| wake.at = NOW - Span::from_secs(3600));
    assert_eq!(suspends(&world), ["dedicated-0"]);
}

#[test]
fn a_node_that_is_on_its_way_is_waited_for_and_one_that_is_late_is_not() {
    let mut world = empty();
    world.vm("busy", "shared-0", 1.9);
    for node in ["dedicated-0", "dedicated-1"] {
        world.node_mut(node).power = PowerState::Suspended;
        world.node_mut(node).ready = false;
    }
    let wakes = |world: &World| -> Vec<bool> {
        let (plan, _) = world.decide();
        plan.steps.iter().map(|step| matches!(step, Step::Wake(wake) if wake.node.as_str() == "dedicated-1")).collect()
    };
    world.node_mut("dedicated-0").power = PowerState::Waking;
    record(&mut world, "dedicated-0").since = Some(NOW - Span::from_secs(5));
    assert_eq!(wakes(&world), [false; 0], "it is on its way");
    record(&mut world, "dedicated-0").since = Some(NOW - Span::from_secs(100));
    assert_eq!(wakes(&world), [true], "it is late, and the next one is woken");
    world.node_mut("dedicated-0").power = PowerState::Quarantined;
    assert_eq!(wakes(&world), [true]);
}

#[test]
fn a_node_that_has_slept_for_long_is_woken_one_of_a_class_after_the_other() {
    let mut world = empty();
    classes(&mut world, |sleep| sleep.max_asleep = Span::from_secs(36_000));
    for node in ["dedicated-0", "dedicated-1"] {
        world.node_mut(node).power = PowerState::Suspended;
        world.node_mut(node).ready = false;
    }
    let mut wakes_after = |hours: [u64; 2], other: PowerState| -> Vec<String> {
        for (node, hours) in ["dedicated-0", "dedicated-1"].into_iter().zip(hours) {
            record(&mut world, node).asleep_since = Some(NOW - Span::from_secs(hours * 3600));
        }
        world.node_mut("dedicated-1").power = other;
        record(&mut world, "dedicated-1").since = Some(NOW - Span::from_secs(5));
        let (plan, _) = world.decide();
        assert_eq!(crate::check::check(&world.snapshot, &world.policies, &plan, NOW), [], "{plan:?}");
        let wakes = plan.steps.iter().filter_map(|step| match step {
            Step::Wake(step) if step.reason == WakeReason::MaxAsleep => Some(step.node.to_string()),
            _ => None,
        });
        wakes.collect()
    };
    assert_eq!(wakes_after([8, 8], PowerState::Suspended), [""; 0]);
    // Up to a tenth early, so that they don't all come at once; and never two of them.
    assert_eq!(wakes_after([11, 12], PowerState::Suspended), ["dedicated-1"]);
    assert_eq!(wakes_after([11, 8], PowerState::Suspended), ["dedicated-0"]);
    assert_eq!(wakes_after([11, 12], PowerState::Waking), [""; 0], "one is on its way");
}
