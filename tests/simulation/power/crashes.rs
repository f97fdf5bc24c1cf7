//! An operator dies after each single write of each course that a node's sleep can take: whoever goes on brings it to
//! the same end.

use super::{
    NEVER, begin, change_node, create_pod, is_clean, node, node_of, on_a_runtime_of_its_own, power, run, scenario,
};
use crate::unfinished;
use miyako::sim::apiserver::LoggedRequest;
use miyako::sim::cluster::{Fate, WakeFate};
use miyako::sim::simulation::{Scenario, Simulation};
use miyako_api::node_power::{DesiredPower, PowerPhase};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Who goes on after a crash.
#[derive(Debug, Clone, Copy)]
enum Successor {
    /// The same replica, started anew at once.
    Restarted,
    /// Another replica that ran all along.
    StandingBy,
}

/// Where a suspend is called off.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Emptying,
    Suspending,
    Ordered,
    Asleep,
}

/// What happens to dedicated-0.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Course {
    /// It sleeps, is woken by a VM that needs it, and sleeps again.
    ThereAndBack,
    /// A pod comes to it when it has come so far.
    PodComes(Place),
    /// Somebody cordons it when it has come so far.
    Cordoned(Place),
    /// It wakes by itself.
    Alarm,
    /// It does not wake when it is needed, is quarantined, and is repaired.
    Repaired,
}

/// No course may take longer than this, crash and takeover included.
const LONGEST: u32 = 1100;
/// What has ended is watched for this long.
const WATCHED: u32 = 15;

impl Course {
    const ALL: [Self; 11] = [
        Self::ThereAndBack,
        Self::PodComes(Place::Emptying),
        Self::PodComes(Place::Suspending),
        Self::PodComes(Place::Ordered),
        Self::PodComes(Place::Asleep),
        Self::Cordoned(Place::Emptying),
        Self::Cordoned(Place::Suspending),
        Self::Cordoned(Place::Ordered),
        Self::Cordoned(Place::Asleep),
        Self::Alarm,
        Self::Repaired,
    ];

    /// Whether writes are crashed after from now on: earlier ones are those of other courses.
    fn begins(self, second: u32, happened: bool) -> bool {
        match self {
            Self::ThereAndBack => true,
            Self::Repaired => second >= 145,
            _ => happened,
        }
    }

    /// Whether the node has come to the place of this course.
    async fn is_there(self, world: &Simulation) -> bool {
        let (Self::PodComes(place) | Self::Cordoned(place)) = self else { return false };
        let power = power(world, "dedicated-0").await;
        let phase = power.status.and_then(|status| status.phase);
        let ordered = power.spec.desired == DesiredPower::Suspended;
        match place {
            Place::Emptying => phase == Some(PowerPhase::Emptying),
            Place::Suspending => phase == Some(PowerPhase::Suspending) && !ordered,
            Place::Ordered => phase == Some(PowerPhase::Suspending) && ordered,
            Place::Asleep => phase == Some(PowerPhase::Suspended),
        }
    }

    /// Whether all is as it is to be in the end.
    async fn has_ended(self, world: &Simulation, second: u32) -> bool {
        let asleep =
            async |name| power(world, name).await.status.and_then(|status| status.phase) == Some(PowerPhase::Suspended);
        let awake = async |name| {
            let phase = power(world, name).await.status.and_then(|status| status.phase);
            matches!(phase, None | Some(PowerPhase::Awake)) && is_clean(&node(world, name).await)
        };
        let calm = unfinished(world) == 0 && node_of(world, "vm0") == "shared-0" && awake("shared-0").await;
        calm && match self {
            Self::ThereAndBack => second > 280 && asleep("dedicated-0").await && asleep("dedicated-1").await,
            Self::PodComes(_) | Self::Alarm => awake("dedicated-0").await && asleep("dedicated-1").await,
            // Whoever was faster: a node that slept before it was cordoned sleeps on.
            Self::Cordoned(_) => {
                let cordoned = node(world, "dedicated-0").await["spec"]["unschedulable"] == true;
                cordoned && (awake("dedicated-0").await || asleep("dedicated-0").await)
            }
            // It is not trusted before it has shown again that it wakes.
            Self::Repaired => second > 280 && awake("dedicated-0").await && asleep("dedicated-1").await,
        }
    }
}

/// One run, with a crash behind this write. A run without a crash hands back the writes that a crash behind is worth
/// while: all but those that keep the lease and tell people.
async fn play(course: Course, successor: Successor, crash_after: Option<u64>) -> Vec<u64> {
    let busy = matches!(course, Course::ThereAndBack | Course::Repaired);
    let mut scenario = Scenario { journal: crash_after.is_none(), ..scenario(if busy { 150 } else { NEVER }) };
    if course == Course::Alarm {
        scenario.policy(|spec| spec["sleep"] = json!({"leastAwake": "1h"}));
    }
    let mut world = begin(scenario).await;
    if matches!(successor, Successor::StandingBy) {
        run(&mut world, 2).await;
        world.start_operator("operator-1").expect("metrics register");
    }
    let fate = match course {
        Course::Alarm => Fate { alarm: Some(60), ..Fate::default() },
        Course::Repaired => Fate { wake: WakeFate::Fails, ..Fate::default() },
        _ => Fate::default(),
    };
    world.machines.as_mut().expect("there are machines").set_fate("dedicated-0", fate);
    let (mut armed, mut happened, mut there) = (None, false, 0);
    let mut crash = None;
    for second in 0..LONGEST {
        if armed.is_none() && course.begins(second, happened) {
            armed = Some(world.journal().len());
            crash = crash_after.map(|writes| world.world.server.crash_after_writes("operator-0", writes));
        }
        world.second().await.expect("the stand-ins see the cluster");
        if crash.as_ref().is_some_and(|crash| *crash.borrow()) {
            crash = None;
            world.kill_operator("operator-0");
            if matches!(successor, Successor::Restarted) {
                world.start_operator("operator-0").expect("metrics register");
            }
        }
        if !happened {
            happened = happen(course, &mut world).await;
            continue;
        }
        let ended = course.has_ended(&world, second).await;
        there = if ended { there + 1 } else { 0 };
        if there > WATCHED {
            break;
        }
    }
    let what = format!("{course:?}, {successor:?}, with a crash behind write {crash_after:?}");
    assert_eq!(world.broken_rules(), [""; 0], "{what}");
    assert!(happened, "{what}: it never came so far");
    let power = power(&world, "dedicated-0").await;
    assert!(there > 0, "{what}: {:?} {:?} {}", power.spec, power.status, node(&world, "dedicated-0").await);
    assert!(crash.is_none(), "{what}: it never came to that write");
    let journal = world.journal().split_off(armed.unwrap_or_default().min(world.journal().len()));
    let is_write = |request: &&LoggedRequest| request.changed && request.kind.actor == "operator-0";
    let counts = |write: &LoggedRequest| {
        let told = write.kind.resource.starts_with("leases") || write.kind.resource.starts_with("events");
        // What happens to other nodes meanwhile is the same in all courses.
        let planned = write.kind.resource.starts_with("consolidationplans");
        !told && (course == Course::ThereAndBack || planned || write.object == "dedicated-0")
    };
    let writes = journal.iter().filter(is_write).zip(1..);
    writes.filter(|(write, _)| counts(write)).map(|(_, number)| number).collect()
}

/// What happens from outside, as soon as its time has come; whether nothing more is to happen.
async fn happen(course: Course, world: &mut Simulation) -> bool {
    match course {
        Course::ThereAndBack => true,
        Course::Alarm => world.machines.as_ref().is_some_and(|machines| machines.asleep().contains(&"dedicated-0")),
        Course::Repaired => {
            let quarantined = power(world, "dedicated-0").await.status.and_then(|status| status.phase)
                == Some(PowerPhase::Quarantined);
            if quarantined {
                let now = (world.world.now)();
                let machines = world.machines.as_mut().expect("there are machines");
                machines.set_fate("dedicated-0", Fate::default());
                machines.press_button("dedicated-0", now);
            }
            quarantined
        }
        Course::PodComes(_) if course.is_there(world).await => {
            create_pod(world, "late", json!({"nodeName": "dedicated-0", "containers": [{}]})).await;
            true
        }
        Course::Cordoned(_) if course.is_there(world).await => {
            change_node(world, "dedicated-0", json!({"spec": {"unschedulable": true}})).await;
            true
        }
        Course::PodComes(_) | Course::Cordoned(_) => false,
    }
}

/// All writes of all courses, two runs side by side, each in its own paused time.
fn sweep(successor: Successor) {
    let mut runs = Vec::new();
    for course in Course::ALL {
        let writes = on_a_runtime_of_its_own(play(course, successor, None));
        println!("{course:?}, {successor:?}: {} writes", writes.len());
        runs.extend(writes.into_iter().map(|write| (course, write)));
    }
    assert!(runs.len() > 100, "the courses must have writes to crash after, but have {}", runs.len());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((course, write)) = runs.get(next.fetch_add(1, Ordering::SeqCst)) {
                    on_a_runtime_of_its_own(play(*course, successor, Some(*write)));
                }
            });
        }
    });
    println!("{successor:?}: crashed after each of {} writes of {} courses", runs.len(), Course::ALL.len());
}

#[test]
fn a_crash_after_any_single_write_of_any_course_changes_nothing_in_the_end() {
    sweep(Successor::Restarted);
}

#[test]
fn another_replica_takes_over_after_any_single_write_of_any_course() {
    sweep(Successor::StandingBy);
}
