//! People's say: what waits for approval, and the switch that pauses.

use super::{begin, moves, node_of, one_busy_vm, run, small_vm};
use kube::api::{Api, Patch, PatchParams};
use miyako::sim::simulation::{Scenario, Simulation, USER};
use miyako::sim::workload::Pattern;
use miyako_api::consolidation_plan::PlanPhase;
use miyako_api::consolidation_policy::Mode;
use miyako_api::{ConsolidationPlan, ConsolidationPolicy, names::ours};
use miyako_core::model::Bytes;
use serde_json::json;

async fn plans(world: &Simulation) -> Vec<ConsolidationPlan> {
    let api: Api<ConsolidationPlan> = Api::all(world.world.server.client(USER));
    api.list(&kube::api::ListParams::default()).await.expect("plans are listed").items
}

#[tokio::test(start_paused = true)]
async fn a_recommendation_waits_for_approval() {
    let mut scenario = one_busy_vm(1);
    for object in &mut scenario.objects {
        if object["kind"] == "ConsolidationPolicy" {
            object["spec"]["mode"] = json!("Recommend");
        }
    }
    let mut world = begin(scenario).await;
    run(&mut world, 60).await;
    let proposed = plans(&world).await;
    assert_eq!(proposed.len(), 1, "one wish is one plan, however long it waits: {proposed:?}");
    assert_eq!(moves(&world), 0, "nothing moves unasked");
    let api: Api<ConsolidationPlan> = Api::all(world.world.server.client(USER));
    let name = proposed[0].metadata.name.as_deref().expect("plans have names");
    let approval = Patch::Merge(json!({"spec": {"approved": true, "approvedBy": USER}}));
    api.patch(name, &PatchParams::default(), &approval).await.expect("the approval is taken");
    run(&mut world, 40).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{:?}", world.placement());
    assert_eq!(moves(&world), 1);
    assert_eq!(world.broken_rules(), [""; 0]);
}

/// Fifty nodes are overloaded, and nobody approved anything when somebody lets the policy act.
#[tokio::test(start_paused = true)]
async fn open_proposals_hold_up_nothing_once_the_policy_acts() {
    const NODES: usize = 50;
    let mut scenario = Scenario::reactive(1);
    scenario.policy(|spec| spec["mode"] = json!("Recommend"));
    scenario.migrations.insert("parallelMigrationsPerCluster".into(), json!(NODES + 2));
    for node in 0..NODES {
        scenario.add_node(&format!("shared-{node}"), "shared", 1, Bytes::gib(20));
        scenario.add_node(&format!("dedicated-{node}"), "dedicated", 1, Bytes::gib(20));
        scenario.vms.push(small_vm(&format!("busy{node}"), &format!("shared-{node}"), Pattern::Constant(0.9)));
        scenario.vms.push(small_vm(&format!("calm{node}"), &format!("shared-{node}"), Pattern::Constant(0.1)));
    }
    let mut world = begin(scenario).await;
    run(&mut world, 60).await;
    assert_eq!(moves(&world), 0, "nothing moves unasked");
    let proposed = |plans: &[ConsolidationPlan]| -> usize {
        let waits = |plan: &&ConsolidationPlan| {
            let phase = plan.status.as_ref().and_then(|status| status.phase);
            !plan.spec.approved
                && plan.spec.mode == Mode::Recommend
                && matches!(phase, None | Some(PlanPhase::Proposed))
        };
        plans.iter().filter(waits).map(|plan| plan.spec.steps.len()).sum()
    };
    assert_eq!(proposed(&plans(&world).await), NODES, "each overloaded node has its proposal");
    let policies: Api<ConsolidationPolicy> = Api::all(world.world.server.client(USER));
    let acts = Patch::Merge(json!({"spec": {"mode": "Automatic"}}));
    policies.patch("pack", &PatchParams::default(), &acts).await.expect("people may let it act");
    run(&mut world, 3).await;
    assert_eq!(proposed(&plans(&world).await), 0, "none of them waits any longer");
    run(&mut world, 42).await;
    let relieved = (0..NODES).filter(|node| node_of(&world, &format!("busy{node}")).starts_with("dedicated")).count();
    assert_eq!(relieved, NODES, "within seconds: {:?}", world.placement());
    // The watchdog knows KubeVirt's own limit, and not the one of this cluster.
    let of_slots = |rule: &&String| rule.contains("migrations of ours at once");
    assert!(world.broken_rules().iter().all(|rule| of_slots(&rule)), "{:?}", world.broken_rules());
}

#[tokio::test(start_paused = true)]
async fn nothing_moves_while_it_is_paused() {
    let mut scenario = one_busy_vm(1);
    scenario.objects.push(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": "default", "name": ours::SWITCHES},
        "data": {"paused": "ana: upgrade"},
    }));
    let mut world = begin(scenario).await;
    run(&mut world, 60).await;
    assert_eq!(moves(&world), 0, "paused");
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(world.world.server.client(USER), "default");
    let resumed = Patch::Merge(json!({"data": {"paused": null}}));
    maps.patch(ours::SWITCHES, &PatchParams::default(), &resumed).await.expect("people may resume");
    run(&mut world, 40).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{:?}", world.placement());
    assert_eq!(world.broken_rules(), [""; 0]);
}
