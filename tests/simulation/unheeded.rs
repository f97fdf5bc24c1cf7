//! What others do not heed: the API server what we write, KubeVirt how we ask for a move, a migration its own end.

use super::{begin, condition, moves, node_of, one_busy_vm, run, unfinished};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams};
use miyako::sim::apiserver::{self as sim, Admission, ApiError, FieldError, Operation, RequestInfo, Review, Verb};
use miyako::sim::kubevirt::{Fault, VIRT_CONTROLLER};
use miyako::sim::simulation::{BEGINS, Scenario, Simulation, USER};
use miyako::sim::workload::Pattern;
use miyako_api::kubevirt::VirtualMachineInstance;
use miyako_api::{ConsolidationPlan, ConsolidationPolicy};
use miyako_core::model::{Bytes, MigrationMode, Span, VmKey};
use miyako_core::plan::{StayReason, VmVerdict};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

async fn events(world: &Simulation, reason: &str) -> Vec<Event> {
    let api: Api<Event> = Api::all(world.world.server.client(USER));
    let all = api.list(&ListParams::default()).await.expect("events are listed");
    all.items.into_iter().filter(|event| event.reason.as_deref() == Some(reason)).collect()
}

/// The kinds that Events of this reason are about, each once.
async fn told(world: &Simulation, reason: &str) -> Vec<String> {
    let events = events(world, reason).await;
    let mut kinds: Vec<_> = events.iter().filter_map(|event| event.regarding.as_ref()?.kind.clone()).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// A VM that is deleted and made again under its name is another one: what was decided about the first is not done to
/// the second. It matches a MigrationPolicy of its owner's, so that no label is written before it is moved.
#[tokio::test(start_paused = true)]
async fn a_vm_that_was_made_anew_is_not_moved_for_what_the_old_one_did() {
    let mut scenario = one_busy_vm(1);
    scenario.vms[0].spec.labels.insert("owner".into(), "ana".into());
    // Their node is overloaded without it as well.
    scenario.vms[1..].iter_mut().for_each(|vm| vm.pattern = Pattern::Constant(0.4));
    scenario.objects.push(json!({
        "apiVersion": "migrations.kubevirt.io/v1alpha1",
        "kind": "MigrationPolicy",
        "metadata": {"name": "anas"},
        "spec": {"selectors": {"virtualMachineInstanceSelector": {"owner": "ana"}}},
    }));
    let spec = scenario.vms[0].spec.clone();
    let mut world = begin(scenario).await;
    // Its plan takes four seconds to be written, and watches lag behind.
    let planned = Arc::new(AtomicBool::new(false));
    let seen = planned.clone();
    world.world.server.set_faults(Some(Box::new(move |request: &RequestInfo| {
        let is_plan = request.verb == Verb::Create && request.resource.starts_with("consolidationplans");
        (is_plan && !seen.swap(true, Ordering::SeqCst)).then_some(sim::Fault::Delay(Duration::from_secs(4)))
    })));
    run(&mut world, 3).await;
    world.world.server.lag_watches("operator-0", Duration::from_secs(15));
    while !planned.load(Ordering::SeqCst) {
        run(&mut world, 1).await;
    }
    let vmis: Api<VirtualMachineInstance> = Api::namespaced(world.world.admin.clone(), "vms");
    vmis.delete("vm0", &DeleteParams::default()).await.expect("it may be deleted");
    run(&mut world, 2).await;
    assert!(vmis.get_opt("vm0").await.expect("it answers").is_none(), "KubeVirt lets it go");
    world.world.add_vm(&spec, "shared-0").await.expect("a VM of the same name");
    run(&mut world, 10).await;
    let plans: Api<ConsolidationPlan> = Api::all(world.world.server.client(USER));
    let decided = plans.list(&ListParams::default()).await.expect("plans").items;
    assert_eq!(decided.len(), 1, "the old one's move was decided: {decided:#?}");
    assert_eq!(moves(&world), 0, "the new one is not moved for that");
    world.world.server.lag_watches("operator-0", Duration::ZERO);
    run(&mut world, 90).await;
    assert!(node_of(&world, "vm0").starts_with("dedicated"), "it is busy as well: {:?}", world.placement());
    assert_eq!(unfinished(&world), 0);
    assert_eq!(world.broken_rules(), [""; 0]);
}

/// Takes no `nodes` in a policy's status, as an API server with other definitions than ours would.
struct RefusesFigures;

impl Admission for RefusesFigures {
    fn handles(&self, review: &Review<'_>) -> bool {
        review.resource.plural == "consolidationpolicies" && review.subresource == "status"
    }

    fn validate(&self, review: &Review<'_>, object: Option<&Value>) -> Result<(), ApiError> {
        match object.and_then(|object| object.pointer("/status/nodes")) {
            None => Ok(()),
            Some(_) => {
                let error = FieldError::forbidden("status.nodes", "nobody may say so");
                Err(ApiError::invalid(review.resource, review.name, &[error]))
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_refused_is_written_less_and_less_often_and_a_condition_says_so() {
    let mut world = begin(one_busy_vm(1)).await;
    world.world.server.add_admission(Arc::new(RefusesFigures));
    run(&mut world, 120).await;
    let (reason, message) = condition(&world, "Degraded").await.expect("a condition tells");
    assert_eq!(reason, "WriteRefused");
    assert!(message.contains("status.nodes"), "{message}");
    world.world.server.reset_request_counts();
    run(&mut world, 600).await;
    let tried: u64 = world
        .world
        .server
        .request_counts()
        .into_iter()
        .filter(|(kind, _)| kind.actor == "operator-0" && kind.resource.starts_with("consolidationpolicies"))
        .filter(|(kind, _)| kind.verb == Verb::Patch)
        .map(|(_, count)| count)
        .sum();
    assert!((1..=8).contains(&tried), "{tried} writes in ten minutes");
    assert_eq!(moves(&world), 1, "the work goes on");
}

/// A namespace's name may be as long as the whole field that ranks what keeps nodes awake.
#[tokio::test(start_paused = true)]
async fn a_namespace_with_the_longest_name_is_ranked_among_blockers() {
    let mut scenario = Scenario::sleeping(1);
    scenario.add_node("dedicated-0", "dedicated", 1, Bytes::gib(20));
    scenario.trust_all_nodes();
    scenario.objects.push(json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "n".repeat(63)},
    }));
    scenario.objects.push(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "plain", "namespace": "n".repeat(63)},
        "spec": {"nodeName": "dedicated-0", "containers": [{"name": "main", "image": "main"}]},
    }));
    let mut world = begin(scenario).await;
    run(&mut world, 60).await;
    assert_eq!(condition(&world, "Degraded").await, None);
    let policies: Api<ConsolidationPolicy> = Api::all(world.world.server.client(USER));
    let status = policies.get_status("pack").await.expect("the policy is there").status.expect("it says something");
    let reasons: Vec<_> = status.blockers.into_iter().map(|blocker| blocker.reason).collect();
    let ranked = format!("pods of namespace {}…", "n".repeat(45));
    assert!(reasons.contains(&ranked), "{reasons:?}");
}

/// Lets KubeVirt tell that it applied somebody's policy to every migration.
struct AppliesAnother;

impl Admission for AppliesAnother {
    fn handles(&self, review: &Review<'_>) -> bool {
        review.resource.plural == "virtualmachineinstances"
            && review.operation == Operation::Update
            && review.actor == VIRT_CONTROLLER
    }

    fn mutate(&self, _: &Review<'_>, object: &mut Value) -> Result<(), ApiError> {
        if let Some(name) = object.pointer_mut("/status/migrationState/migrationPolicyName") {
            *name = json!("somebodys");
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_mode_that_kubevirt_ignores_is_told_and_not_tried_again() {
    let step = |seconds: u64, share: f64| (Span::from_secs(seconds), share);
    let mut scenario = one_busy_vm(1);
    // Room for everybody, so that only the mode is in its way.
    scenario.add_node("dedicated-2", "dedicated", 1, Bytes::gib(20));
    scenario.add_node("dedicated-3", "dedicated", 1, Bytes::gib(20));
    // Away, back, and away again, if that were allowed.
    let steps = vec![step(0, 0.1), step(10, 0.95), step(50, 0.1), step(150, 0.95)];
    scenario.vms[0].pattern = Pattern::Steps { from: BEGINS, steps };
    let mut world = begin(scenario).await;
    world.world.server.add_admission(Arc::new(AppliesAnother));
    run(&mut world, 140).await;
    assert_eq!(moves(&world), 2, "each mode was tried once");
    assert_eq!(told(&world, "ModeIgnored").await, ["VirtualMachine", "VirtualMachineInstance"]);
    let plans: Api<ConsolidationPlan> = Api::all(world.world.server.client(USER));
    for plan in plans.list(&ListParams::default()).await.expect("plans").items {
        let step = &plan.status.expect("it is over").steps[0];
        assert_eq!(step.reason.as_deref(), Some("ModeIgnored"));
        let message = step.message.as_deref().unwrap_or_default();
        assert!(
            message.contains("KubeVirt applied MigrationPolicy somebodys instead of our MigrationPolicy for"),
            "{message}"
        );
    }
    run(&mut world, 100).await;
    // Its node is overloaded, so others go in its place.
    let own = world.migrations_asked_for()[&VmKey::new("vms", "vm0")];
    assert_eq!(own, 2, "no mode is left for it");
    assert!(moves(&world) > own, "{:?}", world.migrations_asked_for());
    let view = world.operator("operator-0").expect("it runs").view.borrow().clone();
    let verdict = &view.report.vms.get(&VmKey::new("vms", "vm0")).expect("it is looked at").verdict;
    let ignored = VmVerdict::Stays { reason: StayReason::ModeIgnored { mode: MigrationMode::PreCopy } };
    assert_eq!(*verdict, ignored);
    assert_eq!(world.broken_rules(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_post_copy_that_hangs_is_told_on_vm_and_policy_and_not_too_often() {
    let mut world = begin(one_busy_vm(1)).await;
    world.world.hands.lock().expect("nobody panicked").break_vm(VmKey::new("vms", "vm0"), Fault::Hang);
    run(&mut world, 240).await;
    assert_eq!(condition(&world, "Degraded").await, None, "it may still end");
    run(&mut world, 120).await;
    let (reason, message) = condition(&world, "Degraded").await.expect("a condition tells");
    assert_eq!(reason, "MigrationStalled");
    assert!(message.contains("vms/vm0") && message.contains("nobody aborts a post-copy"), "{message}");
    let about = told(&world, "MigrationStalled").await;
    assert_eq!(about, ["ConsolidationPolicy", "VirtualMachine", "VirtualMachineInstance"]);
    run(&mut world, 3600).await;
    let events = events(&world, "MigrationStalled").await.len();
    assert!(events <= 4 * 3, "told {events} times within an hour");
    assert_eq!(moves(&world), 1, "nothing else is begun for it");
    assert_eq!(world.broken_rules(), [""; 0]);
}
