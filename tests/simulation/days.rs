//! Every VM keeps its speed: not only in the moment in which it is moved.

use super::*;
use miyako::sim::workload::Measured;
use serde_json::json;

/// Where a VM's guest runs.
fn runs_on(measured: &Measured, vm: &VmKey) -> Option<String> {
    let here = |node: &&miyako::sim::workload::MeasuredNode| {
        node.vms.iter().any(|measured| measured.placed.vm == *vm && !measured.placed.dormant)
    };
    measured.nodes.iter().find(here).map(|node| node.node.to_string())
}

/// From the switch of a post-copy on the guest runs at the target, while the VMI names the source until the end. It loads
/// the target then, and what it uses is measured there.
#[tokio::test(start_paused = true)]
async fn in_post_copy_a_vm_loads_its_target() {
    let mut scenario = one_busy_vm(1);
    for vm in &mut scenario.vms {
        vm.spec.memory = Bytes::gib(2);
    }
    let mut world = begin(scenario).await;
    let _onlooker = world.operator("operator-0").expect("it runs").onlookers.join();
    let vm = VmKey::new("vms", "vm0");
    let mut ahead = 0;
    for _ in 0..120 {
        let measured = world.second().await.expect("the cluster is seen");
        let there = runs_on(&measured, &vm).is_some_and(|node| node.starts_with("dedicated"));
        if !there || node_of(&world, "vm0") != "shared-0" {
            continue;
        }
        ahead += 1;
        // The agent of the target has spoken for it once the operator knows of the switch.
        if ahead > 2 {
            let view = world.operator("operator-0").expect("it runs").view.borrow().clone();
            let picture = view.picture.as_ref().expect("somebody looks");
            let used = picture.vms.iter().find(|seen| seen.key == "vms/vm0").and_then(|seen| seen.used);
            assert!(used.is_some_and(|used| used > 0.9), "{used:?} after {ahead} s");
        }
    }
    assert!(ahead > 5, "two GiB take longer than that: {ahead} s");
    assert_eq!(world.broken_rules(), [""; 0]);
}

/// VMs that are busy by turns: two shared nodes carry all of them only while few are.
pub(super) fn by_turns(seed: u64, window: Option<&str>) -> Scenario {
    let mut scenario = Scenario::reactive(seed);
    scenario
        .policy(|spec| spec["thresholds"] = window.map_or(json!({}), |window| json!({ "admissionWindow": window })));
    for index in 0..2 {
        scenario.add_node(&format!("shared-{index}"), "shared", 3, Bytes::gib(40));
    }
    for index in 0..4 {
        scenario.add_node(&format!("dedicated-{index}"), "dedicated", 4, Bytes::gib(40));
    }
    for index in 0..18 {
        let node = format!("shared-{}", index % 2);
        scenario.vms.push(small_vm(&format!("vm{index:02}"), &node, Pattern::RandomHours));
    }
    scenario
}

/// After an hour, in which the cluster finds its shape: VM-seconds without enough CPU, and moves, within half an hour.
async fn half_an_hour(seed: u64, window: Option<&str>) -> (usize, u32) {
    let mut world = begin(by_turns(seed, window)).await;
    run(&mut world, 3600).await;
    let before = moves(&world);
    let mut starved = 0;
    for _ in 0..1800 {
        let measured = world.second().await.expect("the cluster is seen");
        let shared = measured.nodes.iter().filter(|node| node.node.as_str().starts_with("shared"));
        starved += shared.flat_map(|node| &node.vms).filter(|vm| vm.got + 1e-9 < vm.wanted).count();
    }
    assert_eq!(world.broken_rules(), [""; 0]);
    (starved, moves(&world) - before)
}

/// The moment's averages bring VMs back in their quiet moments, and together they are too much the next minute.
#[test]
fn who_looks_back_starves_nobody() {
    let told = std::sync::Mutex::new([(0, 0); 2]);
    side_by_side(
        0..2,
        |run| async move { (run, half_an_hour(7, (run == 0).then_some("5s")).await) },
        |(run, came_to)| told.lock().expect("nobody panicked")[usize::from(run == 1)] = came_to,
    );
    let [moment, half_hour] = *told.lock().expect("nobody panicked");
    assert!(moment.0 > 100, "nobody starves by the moment either: {half_hour:?} against {moment:?}");
    assert!(half_hour.0 * 3 < moment.0, "{half_hour:?} against {moment:?}");
    assert!(half_hour.1 < moment.1, "{half_hour:?} against {moment:?}");
}

/// A node that nobody can relieve is named, with what keeps its VMs there; and so is how the worst of them fares.
#[tokio::test(start_paused = true)]
async fn a_node_that_nobody_can_relieve_is_told_of() {
    let mut scenario = one_busy_vm(1);
    for vm in &mut scenario.vms {
        vm.spec.migratable = false;
    }
    let mut world = begin(scenario).await;
    run(&mut world, 50).await;
    assert_eq!(condition(&world, "NodesStuck").await, None, "it may be over in a moment");
    run(&mut world, 100).await;
    let (reason, message) = condition(&world, "NodesStuck").await.expect("people are told");
    assert_eq!(reason, "NotMigratable");
    assert!(message.contains("shared-0") && message.contains("miyako explain"), "{message}");
    let text = world.operator("operator-0").expect("it runs").metrics.text();
    assert!(text.contains("miyako_node_stuck_seconds{because=\"NotMigratable\",node=\"shared-0\"}"), "{text}");
    let served = text.lines().find_map(|line| line.strip_prefix("miyako_worst_vm_cpu_served_ratio "));
    let served: f64 = served.expect("it is told").parse().expect("a number");
    // 0.95 and three times 0.1 of one core.
    assert!((0.75..0.85).contains(&served), "{served}");
    assert_eq!(world.broken_rules(), [""; 0]);
}
