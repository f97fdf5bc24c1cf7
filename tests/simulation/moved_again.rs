//! A VM that moved once moves again, whatever became of the moves before: KubeVirt keeps what they left behind for days.

use super::{begin, moves, node_of, one_busy_vm, run, unfinished};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use miyako::sim::kubevirt::Fault;
use miyako::sim::simulation::{BEGINS, Simulation, USER};
use miyako::sim::workload::Pattern;
use miyako_api::kubevirt::VirtualMachineInstance;
use miyako_core::model::{Span, VmKey};
use serde_json::json;
use std::time::Duration;

/// Busy and idle in turn, each for a minute, for half an hour.
fn swings() -> Pattern {
    let turns = (0..1800).step_by(60).enumerate();
    let step = |turn: usize| if turn.is_multiple_of(2) { 0.95 } else { 0.10 };
    let steps = turns.map(|(turn, second)| (Span::from_secs(second), step(turn))).collect();
    Pattern::Steps { from: BEGINS, steps }
}

/// The VM's launchers that have finished.
async fn finished_launchers(world: &Simulation) -> usize {
    let pods: Api<Pod> = Api::namespaced(world.world.server.client(USER), "vms");
    let all = pods.list(&ListParams::default()).await.expect("pods are listed");
    let of_vm = |pod: &&Pod| pod.name_any().starts_with("virt-launcher-vm0-");
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    all.iter().filter(of_vm).filter(|pod| matches!(phase(pod).as_str(), "Succeeded" | "Failed")).count()
}

/// Runs until the operator has asked for so many moves, at most ten minutes.
async fn run_until_moved(world: &mut Simulation, times: u32) {
    for _ in 0..600 {
        if moves(world) >= times && unfinished(world) == 0 {
            return;
        }
        run(world, 1).await;
    }
    panic!("asked for {} moves instead of {times}", moves(world));
}

#[tokio::test(start_paused = true)]
async fn a_vm_moves_a_second_a_third_and_a_seventh_time() {
    let mut scenario = one_busy_vm(3);
    scenario.vms[0].pattern = swings();
    let mut world = begin(scenario).await;
    for times in 1..=7 {
        let before = node_of(&world, "vm0");
        run_until_moved(&mut world, times).await;
        assert_ne!(node_of(&world, "vm0"), before, "move {times}");
        // One finished launcher for each of the five newest moves.
        assert_eq!(finished_launchers(&world).await, times.min(5) as usize, "after move {times}");
    }
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_vm_moves_after_an_evacuation_by_others_and_after_a_move_that_failed() {
    let mut scenario = one_busy_vm(4);
    scenario.vms[0].pattern = swings();
    // It goes to and fro between two pairs of nodes, so that others may move it too.
    let mut world = begin(scenario).await;
    run_until_moved(&mut world, 1).await;
    // Somebody drains the node that it came to.
    let from = node_of(&world, "vm0");
    let vmis: Api<VirtualMachineInstance> = Api::namespaced(world.world.kubevirt.virt_handler.clone(), "vms");
    let leave = Patch::Merge(json!({"status": {"evacuationNodeName": from}}));
    vmis.patch("vm0", &PatchParams::default(), &leave).await.expect("KubeVirt's accounts may mark VMs");
    for _ in 0..60 {
        run(&mut world, 1).await;
        if node_of(&world, "vm0") != from {
            break;
        }
    }
    assert_ne!(node_of(&world, "vm0"), from, "it was evacuated");
    // Its next move fails and leaves a failed target behind.
    let fault = Fault::Fail { after: Duration::from_secs(1), reason: "no route".into() };
    world.world.hands.lock().expect("nobody panicked").break_vm(VmKey::new("vms", "vm0"), fault);
    run_until_moved(&mut world, 4).await;
    assert!(finished_launchers(&world).await >= 4);
    assert_eq!(world.broken_rules(), [""; 0]);
}
