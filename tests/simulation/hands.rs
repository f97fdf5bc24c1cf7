//! Objects of ours that somebody edits by hand: each is put right, or the edit is that person's right, or it is refused.
//! `docs/concepts.md` has the table.

use super::wake_tests::{phase, phases, rested, two_asleep};
use super::{begin, run, unfinished};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt as _};
use miyako::sim::simulation::{Simulation, USER};
use miyako_api::ConsolidationPlan;
use miyako_api::names::{kubernetes, ours};
use miyako_api::node_power::{DesiredPower, NodePower, PowerPhase};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

/// Somebody edits an object that is the cluster's.
async fn edit<K>(world: &Simulation, name: &str, change: Value) -> kube::Result<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::all(world.world.server.client(USER));
    api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await
}

async fn edit_status(world: &Simulation, node: &str, status: Value) {
    let api: Api<NodePower> = Api::all(world.world.server.client(USER));
    let change = Patch::Merge(json!({ "status": status }));
    api.patch_status(node, &PatchParams::default(), &change).await.expect("a cluster admin may");
}

async fn power(world: &Simulation, node: &str) -> NodePower {
    Api::<NodePower>::all(world.world.server.client(USER)).get(node).await.expect("it has one")
}

async fn node(world: &Simulation, name: &str) -> Node {
    Api::<Node>::all(world.world.server.client(USER)).get(name).await.expect("it is there")
}

fn labels(node: &Node) -> Vec<&str> {
    let ours = [ours::POWER, kubernetes::EXCLUDE_DISRUPTION, kubernetes::EXCLUDE_REMEDIATION];
    node.labels().keys().map(String::as_str).filter(|key| ours.contains(key)).collect()
}

fn tainted(node: &Node) -> bool {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).any(|taint| taint.key == ours::POWER)
}

/// Nothing came of it but what somebody wrote himself: marks on a node that is awake, for a moment.
fn assert_no_harm(world: &Simulation) {
    let written = |rule: &&String| !rule.contains("is awake and still carries our marks");
    assert_eq!(world.broken_rules().iter().filter(written).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(world.machines.as_ref().expect("there are machines").slept_with_work(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn marks_of_a_sleeping_node_that_somebody_takes_off_come_back_and_go_with_the_sleep() {
    let mut world = two_asleep().await;
    let hands = [
        json!({"spec": {"taints": []}}),
        json!({"metadata": {"labels": {ours::POWER: null}}}),
        json!({"metadata": {"labels": {kubernetes::EXCLUDE_REMEDIATION: null, kubernetes::EXCLUDE_DISRUPTION: null}}}),
        json!({"metadata": {"labels": {ours::POWER: "quarantined"}, "annotations": {ours::OWN_LABELS: "x"}}}),
        json!({"metadata": {"labels": {ours::POWER: null}, "annotations": {ours::OWN_LABELS: null}}}),
        // Taken off last, so that nothing written later brings it back.
        json!({"metadata": {"annotations": {ours::OWN_LABELS: null}}}),
    ];
    for hand in hands {
        edit::<Node>(&world, "dedicated-0", hand.clone()).await.expect("people may edit nodes");
        run(&mut world, 5).await;
        let seen = node(&world, "dedicated-0").await;
        assert!(tainted(&seen) && labels(&seen).len() == 3, "{hand}: {:?}", seen.metadata);
        assert_eq!(seen.labels()[ours::POWER], "asleep");
    }
    assert_eq!(phases(&world).await, [PowerPhase::Suspended; 2], "nobody is woken for that");
    let ask = json!({"metadata": {"annotations": {ours::REQUEST: "wake alice 1"}}});
    edit::<NodePower>(&world, "dedicated-0", ask).await.expect("people may ask");
    run(&mut world, 40).await;
    let seen = node(&world, "dedicated-0").await;
    assert!(!tainted(&seen) && labels(&seen).is_empty(), "{:?}", seen.metadata);
    assert_eq!(seen.annotations().get(ours::OWN_LABELS), None);
    assert_no_harm(&world);
}

#[tokio::test(start_paused = true)]
async fn marks_that_somebody_puts_on_a_node_that_is_awake_are_taken_off() {
    let mut world = begin(rested(2)).await;
    run(&mut world, 10).await;
    let taint = json!([{"key": ours::POWER, "value": "asleep", "effect": "NoSchedule"}]);
    let label = json!({ours::POWER: "asleep"});
    for hand in [json!({"spec": {"taints": taint}}), json!({"metadata": {"labels": label}})] {
        edit::<Node>(&world, "shared-0", hand).await.expect("people may edit nodes");
        run(&mut world, 60).await;
        let seen = node(&world, "shared-0").await;
        assert!(!tainted(&seen) && labels(&seen).is_empty(), "{:?}", seen.metadata);
    }
    assert_no_harm(&world);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_somebody_writes_is_answered_and_ends_in_what_is_meant() {
    // Admission refuses these where it is installed. Where it is not, no VM may suffer.
    let mut world = two_asleep().await;
    let generation = power(&world, "dedicated-0").await.spec.generation;
    let awake = json!({"spec": {"desired": "Awake", "generation": generation + 1}});
    edit::<NodePower>(&world, "dedicated-0", awake).await.expect("nothing refuses it here");
    run(&mut world, 60).await;
    assert_ne!(phase(&world, "dedicated-0").await, PowerPhase::Quarantined);
    run(&mut world, 600).await;
    assert_eq!(phases(&world).await, [PowerPhase::Suspended; 2], "it sleeps again when nobody needs it");
    let shared = power(&world, "shared-0").await.spec.generation;
    let now = k8s_openapi::jiff::Timestamp::from_second(world.now().millis() / 1000).expect("a time").to_string();
    let asleep = json!({"spec": {
        "desired": "Suspended", "generation": shared + 1, "issuedAt": now, "reason": "somebody thought so",
    }});
    edit::<NodePower>(&world, "shared-0", asleep).await.expect("nothing refuses it here");
    run(&mut world, 60).await;
    let seen = power(&world, "shared-0").await;
    assert_eq!(seen.spec.desired, DesiredPower::Awake, "{:?}", seen.spec);
    assert_no_harm(&world);
}

#[tokio::test(start_paused = true)]
async fn a_phase_that_somebody_writes_is_corrected_by_what_the_node_is() {
    for (name, phase_written) in [("dedicated-0", "Awake"), ("dedicated-0", "Waking"), ("dedicated-0", "Quarantined")] {
        let mut world = two_asleep().await;
        edit_status(&world, name, json!({ "phase": phase_written })).await;
        run(&mut world, 900).await;
        assert_eq!(phases(&world).await, [PowerPhase::Suspended; 2], "after {phase_written}");
        assert_no_harm(&world);
    }
    let mut world = two_asleep().await;
    for written in ["Suspended", "Suspending", "Emptying", "Quarantined"] {
        edit_status(&world, "shared-0", json!({ "phase": written })).await;
        run(&mut world, 120).await;
        assert_eq!(phase(&world, "shared-0").await, PowerPhase::Awake, "after {written}");
        assert!(!tainted(&node(&world, "shared-0").await), "after {written}");
    }
    assert_no_harm(&world);
}

#[tokio::test(start_paused = true)]
async fn a_node_power_that_somebody_deletes_or_unlabels_costs_no_node() {
    let mut world = two_asleep().await;
    let unlabelled = json!({"metadata": {"labels": null}});
    edit::<NodePower>(&world, "dedicated-1", unlabelled).await.expect("people may edit labels");
    let powers: Api<NodePower> = Api::all(world.world.server.client(USER));
    powers.delete("dedicated-0", &DeleteParams::default()).await.expect("people may delete it");
    run(&mut world, 900).await;
    assert_eq!(phases(&world).await, [PowerPhase::Suspended; 2]);
    for node in ["dedicated-0", "dedicated-1"] {
        let ask = json!({"metadata": {"annotations": {ours::REQUEST: "wake alice 1"}}});
        edit::<NodePower>(&world, node, ask).await.expect("people may ask");
    }
    run(&mut world, 60).await;
    assert_eq!(phases(&world).await, [PowerPhase::Awake; 2]);
    assert_no_harm(&world);
}

#[tokio::test(start_paused = true)]
async fn what_a_plan_says_can_not_be_edited_and_approving_it_can() {
    let mut scenario = rested(2);
    scenario.policy(|spec| spec["mode"] = json!("Recommend"));
    let mut world = begin(scenario).await;
    run(&mut world, 200).await;
    let plans: Api<ConsolidationPlan> = Api::all(world.world.server.client(USER));
    let found = plans.list(&ListParams::default()).await.expect("plans are listed").items;
    let plan = found.first().expect("a suspend is proposed");
    let mut steps = serde_json::to_value(&plan.spec.steps).expect("steps");
    steps[0]["targetNode"] = json!("shared-0");
    for hand in [json!({ "steps": steps }), json!({"policy": "other"}), json!({"mode": "Automatic"})] {
        let answer = edit::<ConsolidationPlan>(&world, &plan.name_any(), json!({ "spec": hand })).await;
        let refusal = answer.map(drop).expect_err("it is a record").to_string();
        assert!(refusal.contains("record"), "{refusal}");
    }
    // Labels are for people's lists alone.
    let unlabelled = json!({"metadata": {"labels": null}});
    edit::<ConsolidationPlan>(&world, &plan.name_any(), unlabelled).await.expect("people may edit labels");
    let approved = json!({"spec": {"approved": true, "approvedBy": USER}});
    edit::<ConsolidationPlan>(&world, &plan.name_any(), approved).await.expect("that is a person's");
    run(&mut world, 200).await;
    let asleep = world.machines.as_ref().expect("there are machines").asleep().len();
    assert_eq!(asleep, 1, "{:?}", plans.get(&plan.name_any()).await.map(|plan| plan.status));
    assert_eq!(unfinished(&world), 1, "the other one still waits");
    assert_no_harm(&world);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_edits_is_taken_up_again_and_its_annotations_stay() {
    let mut world = begin(rested(2)).await;
    run(&mut world, 20).await;
    let leases: Api<Lease> = Api::all(world.world.server.client(USER));
    let held = leases.list(&ListParams::default()).await.expect("leases are listed").items;
    let held = held.first().expect("a leader has one");
    let (name, namespace) = (held.name_any(), held.namespace().expect("it is somewhere"));
    let leases: Api<Lease> = Api::namespaced(world.world.server.client(USER), &namespace);
    let holder = held.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
    let hands = [
        json!({"metadata": {"annotations": {"team": "a"}}}),
        json!({"spec": {"leaseDurationSeconds": 3600}}),
        json!({"spec": {"holderIdentity": "somebody"}}),
        json!({"spec": {"holderIdentity": null}}),
    ];
    for hand in hands {
        leases.patch(&name, &PatchParams::default(), &Patch::Merge(hand.clone())).await.expect("people may");
        run(&mut world, 60).await;
        let seen = leases.get(&name).await.expect("it is there");
        assert_eq!(seen.annotations().get("team").map(String::as_str), Some("a"));
        let spec = seen.spec.unwrap_or_default();
        assert_eq!(spec.holder_identity, holder, "after {hand}");
        assert!(spec.lease_duration_seconds.is_some_and(|seconds| seconds < 3600), "after {hand}");
    }
    run(&mut world, 300).await;
    assert_eq!(phases(&world).await, [PowerPhase::Suspended; 2], "the leader leads");
    assert_no_harm(&world);
}
