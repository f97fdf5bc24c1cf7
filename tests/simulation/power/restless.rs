//! Ten minutes in which everything goes wrong that can, then calm: no rule is broken meanwhile, and everything converges.

use super::{
    Dice, begin, change_node, create_pod, delete_pod, is_clean, node, phase, run, side_by_side, small_vm, switch,
};
use crate::{faults, unfinished};
use miyako::sim::apiserver::RandomFaults;
use miyako::sim::cluster::{AgentFate, Fate, Machines, WakeFate};
use miyako::sim::simulation::{Scenario, Simulation};
use miyako::sim::workload::Pattern;
use miyako_api::names::marks;
use miyako_api::node_power::PowerPhase;
use miyako_core::model::Bytes;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

const OPERATOR: &str = "operator-0";
const VMS: usize = 8;
/// It must converge within this: a node that failed to wake is asked again at least every five minutes while somebody
/// wants it.
const CALM: u32 = 900;

fn scenario(seed: u64) -> Scenario {
    let mut scenario = Scenario { noise: 0.02, ..Scenario::sleeping(seed) };
    for index in 0..2 {
        scenario.add_node(&format!("shared-{index}"), "shared", 2, Bytes::gib(40));
    }
    for index in 0..4 {
        scenario.add_node(&format!("dedicated-{index}"), "dedicated", 2, Bytes::gib(40));
    }
    for index in 0..VMS {
        scenario.vms.push(small_vm(&format!("vm{index}"), &format!("shared-{}", index % 2), Pattern::RandomHours));
    }
    scenario.policy(|spec| {
        spec["spare"] = json!({"dedicatedNodes": seed % 2});
        spec["keepAwake"] = json!({"failures": seed / 2 % 2});
    });
    scenario.trust_all_nodes();
    scenario
}

/// New behaviour of one machine.
fn fate(dice: &mut Dice) -> Fate {
    let wake = match dice.roll(12) {
        0 => WakeFate::Fails,
        1 => WakeFate::Lies,
        2 => WakeFate::Hangs(5),
        3 => WakeFate::Boots(20),
        4 => WakeFate::After(40),
        _ => WakeFate::After(5),
    };
    let agent = match dice.roll(12) {
        0 => AgentFate::Refuses,
        1 => AgentFate::StaysAwake,
        2 => AgentFate::Silent,
        _ => AgentFate::Works,
    };
    Fate { agent, wake, alarm: (dice.roll(10) == 0).then_some(90) }
}

/// What people do to a node, and take back after a while.
#[derive(Clone, Copy)]
enum Marked {
    Cordoned,
    Pinned,
    Drained,
}

impl Marked {
    async fn set(self, world: &Simulation, node: &str, on: bool) {
        let change = match self {
            Self::Cordoned | Self::Drained => json!({"spec": {"unschedulable": on.then_some(true)}}),
            Self::Pinned => json!({"metadata": {"annotations": {marks::KEEP_AWAKE: on.then_some("alice looks")}}}),
        };
        change_node(world, node, change).await;
        if matches!(self, Self::Drained) && on {
            let there: Vec<String> = world.world.server.view(|view| {
                let pods = view.list("", "pods", "default").filter(|pod| pod["spec"]["nodeName"] == node);
                pods.map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
            });
            for pod in there.iter().filter(|pod| pod.starts_with("late")) {
                delete_pod(world, pod).await;
            }
        }
    }
}

/// A node that is on its way to sleep, if there is one.
fn falling_asleep(world: &Simulation) -> Option<String> {
    world.world.server.view(|view| {
        let on_its_way = |power: &&Value| matches!(power["status"]["phase"].as_str(), Some("Emptying" | "Suspending"));
        let power = view.list("miyako.dev", "nodepowers", "").find(on_its_way)?;
        power["metadata"]["name"].as_str().map(str::to_owned)
    })
}

async fn restless(seed: u64) -> Machines {
    let scenario = scenario(seed);
    let nodes: Vec<String> = scenario.nodes.iter().map(|node| node.name.clone()).collect();
    let mut world = begin(scenario).await;
    let server = world.world.server.clone();
    let mut dice = Dice::new(seed);
    let mut late: Vec<(String, u32)> = Vec::new();
    let mut marked: Vec<(Marked, String, u32)> = Vec::new();
    for second in 0..600 {
        if second % 60 == 0 {
            let faulty = dice.roll(3) == 0;
            let faults = faulty.then(|| RandomFaults::new(seed ^ u64::from(second), faults::RATES).only_for(OPERATOR));
            server.set_faults(faults.map(|faults| Box::new(faults) as _));
            server.lag_watches(OPERATOR, Duration::from_secs(if dice.roll(4) == 0 { 2 } else { 0 }));
            for node in &nodes {
                let fate = fate(&mut dice);
                world.machines.as_mut().expect("there are machines").set_fate(node, fate);
            }
        }
        match dice.roll(400) {
            0 => server.drop_watches(OPERATOR),
            1 => server.expire_watches(OPERATOR),
            2 | 3 => {
                world.kill_operator(OPERATOR);
                world.start_operator(OPERATOR).expect("metrics register");
            }
            4..8 => {
                let now = (world.world.now)();
                world.machines.as_mut().expect("there are machines").press_button(dice.pick::<String>(&nodes), now);
            }
            8..12 => {
                let what = *dice.pick(&[Marked::Cordoned, Marked::Pinned, Marked::Drained]);
                let node = falling_asleep(&world).unwrap_or_else(|| dice.pick(&nodes).clone());
                what.set(&world, &node, true).await;
                marked.push((what, node, second + 90));
            }
            // On any node that is falling asleep, sooner or later in that.
            12..32 => {
                if let Some(node) = falling_asleep(&world) {
                    let name = format!("late-{second}");
                    create_pod(&world, &name, json!({"nodeName": node, "containers": [{}]})).await;
                    late.push((name, second + 60));
                }
            }
            _ => {}
        }
        while let Some(over) = late.iter().position(|(_, until)| *until <= second) {
            let (name, _) = late.swap_remove(over);
            let there = server.view(|view| view.get("", "pods", "default", &name).is_some());
            if there {
                delete_pod(&world, &name).await;
            }
        }
        while let Some(over) = marked.iter().position(|(_, _, until)| *until <= second) {
            let (what, node, _) = marked.swap_remove(over);
            what.set(&world, &node, false).await;
        }
        run(&mut world, 1).await;
    }
    assert_eq!(world.broken_rules(), [""; 0], "seed {seed}, while things go wrong");
    calm(seed, world, &nodes, marked).await
}

/// Nothing goes wrong any more, and somebody holds everything awake: it converges, and nothing of ours is left.
async fn calm(seed: u64, mut world: Simulation, nodes: &[String], marked: Vec<(Marked, String, u32)>) -> Machines {
    let server = world.world.server.clone();
    server.set_faults(None);
    server.lag_watches(OPERATOR, Duration::ZERO);
    for (what, node, _) in marked {
        what.set(&world, &node, false).await;
    }
    for node in nodes {
        world.machines.as_mut().expect("there are machines").set_fate(node, Fate::default());
    }
    switch(&world, "held", Some("alice: it is enough")).await;
    let mut there = 0;
    for _ in 0..CALM {
        run(&mut world, 1).await;
        let now = (world.world.now)();
        for node in nodes {
            // Whoever was asked before may hang yet, and needs a person.
            let machines = world.machines.as_mut().expect("there are machines");
            if machines.hangs(node) {
                machines.press_button(node, now);
            }
        }
        let mut clean = unfinished(&world) == 0;
        for name in nodes {
            clean = clean && phase(&world, name).await == PowerPhase::Awake && is_clean(&node(&world, name).await);
        }
        there = if clean { there + 1 } else { 0 };
        if there > 20 {
            break;
        }
    }
    for name in nodes {
        assert_eq!(phase(&world, name).await, PowerPhase::Awake, "seed {seed}: {name}");
        assert!(is_clean(&node(&world, name).await), "seed {seed}: {name}");
    }
    assert_eq!(unfinished(&world), 0, "seed {seed}: something never ends");
    assert_eq!(world.placement().len(), VMS, "seed {seed}: a VM is lost");
    assert_eq!(world.broken_rules(), [""; 0], "seed {seed}, after all that");
    world.machines.expect("there are machines")
}

fn seeds(seeds: std::ops::Range<u64>) {
    let (slept, vain, done) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU64::new(0));
    let count = seeds.end - seeds.start;
    side_by_side(
        seeds,
        |seed| async move {
            let machines = restless(seed).await;
            (machines.sleeps(), machines.asked_in_vain())
        },
        |(sleeps, in_vain)| {
            slept.fetch_add(sleeps, Ordering::SeqCst);
            vain.fetch_add(in_vain, Ordering::SeqCst);
            let done = 1 + done.fetch_add(1, Ordering::SeqCst);
            if done.is_multiple_of(500) {
                println!("{done} of {count} seeds");
            }
        },
    );
    let (slept, vain) = (slept.into_inner(), vain.into_inner());
    println!("{count} seeds of ten restless minutes: {slept} sleeps, {vain} of them could not be ended at first");
    assert!(u64::from(slept) > 3 * count, "hardly anything slept");
    assert!(u64::from(vain) * 10 > count, "hardly any wake failed");
}

#[test]
fn a_hundred_seeds_of_ten_restless_minutes_break_no_rule_and_converge() {
    seeds(0..100);
}

/// The full number: `make bench`.
#[test]
#[ignore = "hours in a debug build"]
fn ten_thousand_seeds_of_ten_restless_minutes_break_no_rule_and_converge() {
    seeds(100..10_100);
}
