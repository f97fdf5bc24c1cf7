//! People's say: what waits for approval, and the switch that pauses.

use super::{begin, moves, node_of, one_busy_vm, run};
use kube::api::{Api, Patch, PatchParams};
use miyako::sim::simulation::{Simulation, USER};
use miyako_api::{ConsolidationPlan, names::ours};
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
