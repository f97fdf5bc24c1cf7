//! Many sleeps and wakes, one wake in twenty failing: nothing is lost, nothing waits for a sleeper that could come, and
//! what each part takes.

use super::stopwatch::{PARTS, Stopwatch};
use super::{Dice, assert_unbroken, begin, create_pod, delete_pod, node, node_of, run, side_by_side, small_vm};
use kube::api::{Api, Patch, PatchParams};
use miyako::sim::apiserver::Verb;
use miyako::sim::cluster::{Fate, WakeFate};
use miyako::sim::simulation::{BEGINS, CLASS_LABEL, Scenario, Simulation, USER};
use miyako::sim::workload::Pattern;
use miyako_api::NodePower;
use miyako_api::names::ours;
use miyako_core::model::{Bytes, Span};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// An hour of each world is watched.
const AN_HOUR: u32 = 3600;
const VMS: usize = 12;
const DEDICATED: usize = 8;
/// Work waits no longer than this while a node that could take it sleeps: three nodes in a row may fail.
const LONGEST_WAIT: u32 = 180;

/// Three shared nodes whose VMs are busy four times an hour, each time too much for their node, and eight dedicated
/// nodes of which so many are to stay spare.
fn scenario(seed: u64, spare: u32) -> Scenario {
    let mut dice = Dice::new(seed);
    let mut scenario = Scenario::sleeping(seed);
    for index in 0..3 {
        scenario.add_node(&format!("shared-{index}"), "shared", 1, Bytes::gib(20));
    }
    for index in 0..DEDICATED {
        scenario.add_node(&format!("dedicated-{index}"), "dedicated", 1, Bytes::gib(20));
    }
    for index in 0..VMS {
        let mut steps = vec![(Span::from_secs(0), 0.1)];
        for quarter in 0..4 {
            let begins = 200 + quarter * 850 + dice.roll(500);
            steps.push((Span::from_secs(begins), 0.95));
            steps.push((Span::from_secs(begins + 60 + dice.roll(180)), 0.1));
        }
        let pattern = Pattern::Steps { from: BEGINS, steps };
        scenario.vms.push(small_vm(&format!("vm{index}"), &format!("shared-{}", index % 3), pattern));
    }
    scenario.policy(|spec| spec["spare"] = json!({ "dedicatedNodes": spare }));
    scenario.trust_all_nodes();
    scenario
}

/// What was seen in some worlds.
#[derive(Default)]
struct Seen {
    stopwatch: Stopwatch,
    in_vain: u32,
    longest_wait: u32,
}

/// Follows one world.
struct Onlooker {
    dice: Dice,
    stopwatch: Stopwatch,
    slept: BTreeSet<String>,
    /// Nodes whose failure to wake was named, as often as it was.
    named: BTreeMap<String, u32>,
    naming: BTreeSet<String>,
    waits: BTreeMap<String, u32>,
    longest_wait: u32,
    seconds: u32,
    sleeps: u32,
}

impl Onlooker {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed.wrapping_add(1000)),
            stopwatch: Stopwatch::default(),
            slept: BTreeSet::new(),
            named: BTreeMap::new(),
            naming: BTreeSet::new(),
            waits: BTreeMap::new(),
            longest_wait: 0,
            seconds: 0,
            sleeps: 0,
        }
    }

    /// A person has repaired what failed to wake, and wants to see it wake before it is trusted again.
    async fn ask_for_tests(&self, world: &Simulation) {
        let untrusted: Vec<String> = world.world.server.view(|view| {
            let failed = |power: &&Value| {
                power.pointer("/status/lastWakeTest/succeeded") == Some(&Value::Bool(false))
                    && power.pointer("/status/phase").and_then(Value::as_str) == Some("Awake")
            };
            let names = view.list("miyako.dev", "nodepowers", "").filter(failed);
            names.map(|power| power["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
        });
        let api: Api<NodePower> = Api::all(world.world.server.client(USER));
        for node in untrusted {
            let ask =
                json!({"metadata": {"annotations": {ours::REQUEST: format!("wake-test {USER} {}", self.seconds)}}});
            api.patch(&node, &PatchParams::default(), &Patch::Merge(ask)).await.expect("a person may ask");
        }
    }

    /// One second. Whoever falls asleep fails to wake in one of twenty cases, until its failure is named.
    async fn second(&mut self, world: &mut Simulation) {
        let measured = world.second().await.expect("the stand-ins see the cluster");
        self.stopwatch.look(world);
        let machines = world.machines.as_mut().expect("there are machines");
        let asleep: BTreeSet<String> = machines.asleep().into_iter().map(str::to_owned).collect();
        for node in asleep.difference(&self.slept) {
            self.sleeps += 1;
            let wake = match self.sleeps % 40 {
                5 => WakeFate::Fails,
                25 => WakeFate::Refused,
                _ => WakeFate::After(5),
            };
            machines.set_fate(node, Fate { wake, ..Fate::default() });
        }
        self.slept = asleep;
        let failed = world.world.server.view(|view| {
            let named = |power: &&Value| {
                let conditions = power.pointer("/status/conditions").and_then(Value::as_array);
                let failed = |one: &Value| one["type"] == "Wakeable" && one["status"] == "False";
                conditions.is_some_and(|all| all.iter().any(failed))
            };
            let names = view.list("miyako.dev", "nodepowers", "").filter(named);
            names
                .map(|power| power["metadata"]["name"].as_str().unwrap_or_default().to_owned())
                .collect::<BTreeSet<_>>()
        });
        for node in failed.difference(&self.naming) {
            *self.named.entry(node.clone()).or_default() += 1;
            world.machines.as_mut().expect("there are machines").set_fate(node, Fate::default());
        }
        self.naming = failed;
        self.seconds += 1;
        if self.seconds.is_multiple_of(60) {
            self.ask_for_tests(world).await;
        }
        // Work that waits: pods without a node, and shared nodes that are asked for more than they have.
        let mut waiting: BTreeSet<String> = world.world.server.view(|view| {
            let unbound = view.list("", "pods", "").filter(|pod| pod.pointer("/spec/nodeName").is_none());
            unbound.map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
        });
        let overloaded = measured.nodes.iter().filter(|node| node.wanted > node.capacity && node.vms.len() > 1);
        waiting.extend(overloaded.map(|node| node.node.to_string()));
        let could_come = world.world.server.view(|view| {
            let phase = |power: &Value| power.pointer("/status/phase").and_then(Value::as_str).map(str::to_owned);
            let mut powers = view.list("miyako.dev", "nodepowers", "");
            powers.any(|power| phase(power).as_deref() == Some("Suspended"))
        });
        self.waits.retain(|who, _| waiting.contains(who));
        for who in waiting {
            let waits = self.waits.entry(who.clone()).or_default();
            *waits += u32::from(could_come);
            self.longest_wait = self.longest_wait.max(*waits);
            assert!(*waits <= LONGEST_WAIT, "{who} waits for {waits} s while nodes sleep");
        }
    }
}

/// One world for an hour and what comes of it, then calm.
async fn an_hour(seed: u64, spare: u32, pods: bool) -> Seen {
    let mut world = begin(scenario(seed, spare)).await;
    let mut onlooker = Onlooker::new(seed);
    let mut there: Vec<(String, u32)> = Vec::new();
    for second in 0..AN_HOUR {
        if pods && second > 150 && second % 60 == 0 {
            // A person's pod that takes a whole node for some minutes.
            let name = format!("job-{second}");
            let room = json!({"resources": {"requests": {"cpu": "900m"}}});
            let spec = json!({"nodeSelector": {CLASS_LABEL: "dedicated"}, "containers": [room]});
            create_pod(&world, &name, spec).await;
            there.push((name, second + 30 + u32::try_from(onlooker.dice.roll(90)).unwrap_or_default()));
        }
        while let Some(over) = there.iter().position(|(_, until)| *until <= second) {
            delete_pod(&world, &there.swap_remove(over).0).await;
        }
        onlooker.second(&mut world).await;
    }
    for (name, _) in there {
        delete_pod(&world, &name).await;
    }
    // All VMs idle from here on, and go home; whoever failed to wake is asked again.
    for _ in 0..900 {
        onlooker.second(&mut world).await;
    }
    assert_unbroken(&world);
    assert_eq!(super::unfinished(&world), 0, "seed {seed}: something never ends");
    assert_eq!(world.placement().len(), VMS, "seed {seed}: a VM is lost");
    for index in 0..VMS {
        assert!(node_of(&world, &format!("vm{index}")).starts_with("shared"), "seed {seed}: {:?}", world.placement());
    }
    for name in onlooker.named.keys() {
        assert!(!onlooker.naming.contains(name) || super::stopwatch::is_ready(&node(&world, name).await), "{name}");
    }
    let in_vain = world.machines.as_ref().map_or(0, |machines| machines.asked_in_vain());
    let named: u32 = onlooker.named.values().sum();
    assert_eq!(named, in_vain, "seed {seed}: every wake that failed is named in a condition, once");
    Seen { stopwatch: onlooker.stopwatch, in_vain, longest_wait: onlooker.longest_wait }
}

/// So many worlds, and what was seen in all of them.
fn hours(worlds: u64, spare: u32, pods: bool) -> Seen {
    let all = Mutex::new(Seen::default());
    side_by_side(
        0..worlds,
        |seed| an_hour(seed, spare, pods),
        |seen| {
            let mut all = all.lock().expect("nobody panics while adding");
            all.stopwatch.add(&seen.stopwatch);
            all.in_vain += seen.in_vain;
            all.longest_wait = all.longest_wait.max(seen.longest_wait);
        },
    );
    let all = all.into_inner().expect("nobody panicked");
    println!("{worlds} worlds for an hour, {spare} spare nodes\n{}", all.stopwatch);
    println!(
        "{} wakes failed and were named; no work waited longer than {} s while nodes slept\n",
        all.in_vain, all.longest_wait
    );
    all
}

fn judge(seen: &Seen) {
    assert!(seen.in_vain > 0, "no wake failed: the run proves nothing");
    let slowest = |part: usize| seen.stopwatch.quantile(PARTS[part], 0.99).expect("it was seen");
    assert!(slowest(6) <= 1, "a node that is ready is usable within a tick");
    assert!(slowest(7) <= 1, "the migration is created within a tick of its node being usable");
    assert!(seen.stopwatch.needless <= seen.stopwatch.waited, "most nodes were woken for nobody");
}

#[test]
fn nothing_is_lost_in_an_hour_of_sleeps_and_wakes_that_fail() {
    judge(&hours(1, 0, true));
}

/// The full number: `make bench`.
#[test]
#[ignore = "minutes in a debug build"]
fn nothing_is_lost_in_a_thousand_sleeps_and_wakes() {
    let seen = hours(32, 0, true);
    judge(&seen);
    assert!(seen.stopwatch.cycles >= 1000, "only {} sleeps", seen.stopwatch.cycles);
}

#[test]
fn with_enough_spare_nodes_nobody_waits_for_a_wake() {
    let seen = hours(1, 6, false).stopwatch;
    assert!(seen.cycles > 0, "nothing slept");
    assert_eq!(seen.waited, 0, "of {} moves", seen.moves);
}

/// What one sleep and one wake cost in requests.
#[tokio::test(start_paused = true)]
async fn a_sleep_and_a_wake_take_few_requests() {
    let mut scenario = Scenario { journal: true, ..Scenario::sleeping(5) };
    scenario.add_node("shared-0", "shared", 1, Bytes::gib(20));
    scenario.add_node("dedicated-0", "dedicated", 1, Bytes::gib(20));
    let step = |seconds: u64, share: f64| (Span::from_secs(seconds), share);
    let busy = Pattern::Steps { from: BEGINS, steps: vec![step(0, 0.1), step(300, 0.95)] };
    for (index, pattern) in [busy, Pattern::Constant(0.1), Pattern::Constant(0.1)].into_iter().enumerate() {
        scenario.vms.push(small_vm(&format!("vm{index}"), "shared-0", pattern));
    }
    scenario.trust_all_nodes();
    let mut world = begin(scenario).await;
    run(&mut world, 290).await;
    let sleeping = world.journal().len();
    run(&mut world, 60).await;
    assert_eq!(node_of(&world, "vm0"), "dedicated-0");
    let journal = world.journal();
    for (what, requests, most) in [("a sleep", &journal[..sleeping], 16), ("a wake", &journal[sleeping..], 15)] {
        let mut asked: BTreeMap<String, u32> = BTreeMap::new();
        let ours = requests.iter().filter(|request| request.kind.actor == "operator-0" && request.at_millis > 0);
        // What concerns the node and the plan about it; before the order three lists are read besides.
        let of_node = ours.filter(|request| {
            let of_plan = request.kind.resource.starts_with("consolidationplans");
            request.object == "dedicated-0" || (of_plan && !matches!(request.kind.verb, Verb::List | Verb::Watch))
        });
        for request in of_node {
            *asked.entry(format!("{:?} {}", request.kind.verb, request.kind.resource)).or_default() += 1;
        }
        let total: u32 = asked.values().sum();
        println!("{what} takes {total} requests about the node and its plan: {asked:?}");
        assert!(total <= most, "{what}: {asked:?}");
    }
    // What the wake took is told part by part.
    let told = world.operator("operator-0").expect("it runs").metrics.text();
    for part in ["BMC", "Resume", "Kubelet", "KubeVirt", "Usable", "Whole"] {
        let counted = format!("miyako_wake_duration_seconds_count{{class=\"dedicated\",part=\"{part}\"}} 1\n");
        let wakes: Vec<_> =
            told.lines().filter(|line| line.starts_with("miyako_wake_duration_seconds_count")).collect();
        assert!(told.contains(&counted), "{part}: {wakes:?}");
    }
}
