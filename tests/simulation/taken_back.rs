//! Targets that will not come up: the migration is taken back within seconds, people are told why, and the rest goes on.

use super::{begin, condition, moves, node_of, one_busy_vm, run, small_vm, unfinished};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use miyako::sim::apiserver::{Admission, ApiError, Fault, Operation, RequestInfo, Review, Verb};
use miyako::sim::simulation::{Simulation, USER};
use miyako::sim::workload::Pattern;
use miyako_api::ConsolidationPlan;
use miyako_api::consolidation_plan::StepStatus;
use miyako_api::kubevirt::{VirtualMachineInstance, VirtualMachineInstanceMigration};
use miyako_api::names::kubevirt::MIGRATION_JOB_UID;
use miyako_core::model::{Bytes, VmKey};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const WORDS: &str = "maximum memory usage per Pod is 256Mi, but request is 852889280";

/// Refuses the targets of these VMs, as a LimitRange, PodSecurity or a webhook does, while it is on.
struct RefusesTargets {
    of: &'static [&'static str],
    on: Arc<AtomicBool>,
}

impl Admission for RefusesTargets {
    fn handles(&self, review: &Review<'_>) -> bool {
        review.resource.plural == "pods" && review.operation == Operation::Create && review.subresource.is_empty()
    }

    fn validate(&self, review: &Review<'_>, object: Option<&Value>) -> Result<(), ApiError> {
        let labels = object.map(|object| &object["metadata"]["labels"]).unwrap_or(&Value::Null);
        let is_target = labels.get(MIGRATION_JOB_UID).is_some();
        let of = labels.get("vm.kubevirt.io/name").and_then(Value::as_str).unwrap_or_default();
        if is_target && self.of.contains(&of) && self.on.load(Ordering::SeqCst) {
            return Err(ApiError::forbidden(review.resource, review.name, WORDS));
        }
        Ok(())
    }
}

fn refuse_targets(world: &Simulation, of: &'static [&'static str]) -> Arc<AtomicBool> {
    let on = Arc::new(AtomicBool::new(true));
    world.world.server.add_admission(Arc::new(RefusesTargets { of, on: on.clone() }));
    on
}

fn migrations(world: &Simulation) -> Api<VirtualMachineInstanceMigration> {
    Api::namespaced(world.world.server.client(USER), "vms")
}

/// VMIMs that exist and are not over.
async fn under_way(world: &Simulation) -> usize {
    let all = migrations(world).list(&ListParams::default()).await.expect("they are listed").items;
    let phase = |one: &VirtualMachineInstanceMigration| one.status.as_ref().and_then(|status| status.phase.clone());
    all.iter().filter(|one| !matches!(phase(one).as_deref(), Some("Succeeded" | "Failed"))).count()
}

/// The failed steps of all plans.
async fn failures(world: &Simulation) -> Vec<StepStatus> {
    let plans: Api<ConsolidationPlan> = Api::all(world.world.server.client(USER));
    let all = plans.list(&ListParams::default()).await.expect("plans are listed").items;
    let steps = all.into_iter().filter_map(|plan| plan.status).flat_map(|status| status.steps);
    let mut failed: Vec<_> = steps.filter(|step| format!("{:?}", step.phase) == "Failed").collect();
    failed.sort_by_key(|step| step.ended_at.as_ref().map(|time| time.0));
    failed
}

async fn told(world: &Simulation, reason: &str) -> Vec<String> {
    let api: Api<Event> = Api::all(world.world.server.client(USER));
    let all = api.list(&ListParams::default()).await.expect("events are listed").items;
    all.into_iter().filter(|event| event.reason.as_deref() == Some(reason)).filter_map(|event| event.note).collect()
}

#[tokio::test(start_paused = true)]
async fn a_target_that_cannot_be_created_is_taken_back_and_told_and_holds_nobody_up() {
    let mut scenario = one_busy_vm(1);
    scenario.add_node("shared-1", "shared", 1, Bytes::gib(20));
    for (index, share) in [0.95, 0.10, 0.10, 0.10].into_iter().enumerate() {
        scenario.vms.push(small_vm(&format!("other{index}"), "shared-1", Pattern::Constant(share)));
    }
    let mut world = begin(scenario).await;
    let on = refuse_targets(&world, &["vm0"]);
    let (mut longest, mut this) = (0_u32, 0);
    for _ in 0..120 {
        run(&mut world, 1).await;
        let stuck = migrations(&world).list(&ListParams::default()).await.expect("they are listed").items;
        let of_vm0 = stuck.iter().filter(|one| one.spec.vmi_name == "vm0").count();
        this = if of_vm0 > 0 { this + 1 } else { 0 };
        longest = longest.max(this);
    }
    assert!(moves(&world) >= 2, "it was tried");
    assert!(longest <= 6, "a VMIM that can't get on held its place for {longest} s");
    assert!(node_of(&world, "other0").starts_with("dedicated"), "the other node is relieved meanwhile");
    let failed = failures(&world).await;
    let first = failed.first().expect("the move failed");
    assert_eq!(first.reason.as_deref(), Some("TargetNotCreated"));
    assert!(first.message.as_deref().unwrap_or_default().contains(WORDS), "{first:?}");
    let notes = told(&world, "TargetNotCreated").await;
    assert!(notes.iter().any(|note| note.contains(WORDS)), "{notes:?}");
    let (reason, message) = condition(&world, "Degraded").await.expect("a condition tells");
    assert_eq!(reason, "TargetNotCreated");
    assert!(message.contains("vms/vm0") && message.contains(WORDS), "{message}");

    // A successor knows the same, from the plans.
    world.kill_operator("operator-0");
    world.start_operator("operator-1").expect("metrics register");
    run(&mut world, 40).await;
    let view = world.operator("operator-1").expect("it runs").view.clone();
    let verdict = serde_json::to_string(&view.borrow().report.vms.get(&VmKey::new("vms", "vm0"))).expect("JSON");
    assert!(verdict.contains("BackingOff") && verdict.contains("256Mi"), "{verdict}");

    // The cause goes.
    on.store(false, Ordering::SeqCst);
    run(&mut world, 1200).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "{:?}", world.placement());
    assert_eq!(condition(&world, "Degraded").await, None);
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_news_of_an_earlier_failure_takes_nothing_back() {
    // Somebody's own migration of the VM can't get its target and is deleted; then the cause goes, and ours only waits
    // for a slot that others hold.
    let mut world = begin(one_busy_vm(2)).await;
    let on = refuse_targets(&world, &["vm0"]);
    let mut theirs = VirtualMachineInstanceMigration::default();
    theirs.metadata.name = Some("theirs".into());
    theirs.spec.vmi_name = "vm0".into();
    migrations(&world).create(&Default::default(), &theirs).await.expect("people may");
    run(&mut world, 3).await;
    assert!(!told(&world, "FailedCreate").await.is_empty());
    on.store(false, Ordering::SeqCst);
    migrations(&world).delete("theirs", &DeleteParams::default()).await.expect("people may");
    run(&mut world, 90).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"));
    assert_eq!(failures(&world).await, [], "no move was taken back");
}

#[tokio::test(start_paused = true)]
async fn why_a_move_was_taken_back_outlives_the_operator_that_did_it() {
    let mut world = begin(one_busy_vm(3)).await;
    let _on = refuse_targets(&world, &["vm0"]);
    // Its deletion of the VMIM is the last thing that the operator does.
    let died = Arc::new(AtomicBool::new(false));
    let seen = died.clone();
    world.world.server.set_faults(Some(Box::new(move |request: &RequestInfo| {
        let deletes = request.verb == Verb::Delete && request.resource.starts_with("virtualmachineinstancemigrations");
        if deletes && &*request.actor == "operator-0" {
            seen.store(true, Ordering::SeqCst);
        }
        (seen.load(Ordering::SeqCst) && !deletes && &*request.actor == "operator-0" && request.verb != Verb::Get)
            .then_some(Fault::LoseRequest)
    })));
    for _ in 0..120 {
        run(&mut world, 1).await;
        if died.load(Ordering::SeqCst) {
            break;
        }
    }
    assert!(died.load(Ordering::SeqCst), "it takes the VMIM back");
    world.kill_operator("operator-0");
    world.world.server.set_faults(None);
    run(&mut world, 5).await;
    assert_eq!(under_way(&world).await, 0, "the VMIM is gone, and nobody noted anything since");
    world.start_operator("operator-1").expect("metrics register");
    run(&mut world, 40).await;
    let failed = failures(&world).await;
    assert_eq!(failed.first().and_then(|step| step.reason.as_deref()), Some("TargetNotCreated"), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_move_that_a_person_deletes_is_said_to_be_deleted() {
    let mut world = begin(one_busy_vm(4)).await;
    // KubeVirt can't go on, and says nothing: the migration waits where it can be deleted without a trace.
    selinux(&world, "").await;
    for _ in 0..60 {
        run(&mut world, 1).await;
        let all = migrations(&world).list(&ListParams::default()).await.expect("they are listed").items;
        if let Some(name) = all.first().and_then(|one| one.metadata.name.clone()) {
            run(&mut world, 2).await;
            migrations(&world).delete(&name, &DeleteParams::default()).await.expect("people may");
            break;
        }
    }
    run(&mut world, 5).await;
    let failed = failures(&world).await;
    assert_eq!(failed.first().and_then(|step| step.reason.as_deref()), Some("MigrationDeleted"), "{failed:?}");
    assert!(failed[0].message.as_deref().unwrap_or_default().contains("somebody deleted"), "{failed:?}");
    selinux(&world, "none").await;
    run(&mut world, 120).await;
    assert_eq!(unfinished(&world), 0);
    assert!(node_of(&world, "vm0").starts_with("dedicated"));
}

async fn selinux(world: &Simulation, context: &str) {
    let vmis: Api<VirtualMachineInstance> = Api::namespaced(world.world.kubevirt.virt_handler.clone(), "vms");
    let patch = Patch::Merge(serde_json::json!({"status": {"selinuxContext": context}}));
    vmis.patch("vm0", &PatchParams::default(), &patch).await.expect("KubeVirt's accounts may");
}
