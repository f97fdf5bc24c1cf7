//! "Deleting a VMIM …", failures, hangs, and what happens to VMs meanwhile.

use super::*;
use crate::sim::kubevirt::{Dirtying, Fault};
use miyako_core::model::{NodeName, VmKey};

fn key() -> VmKey {
    VmKey::new(NAMESPACE, "vm")
}

#[tokio::test(start_paused = true)]
async fn deleting_a_migration_in_pre_copy_aborts_it_within_a_second() {
    let world = world(2).await;
    add_vm(&world, "vm", "n1").await;
    ask(&world, "m", "vm", Some("n2")).await.unwrap();
    until_phase(&world, "m", "Running").await;
    sleep(2.0).await;
    let start = tokio::time::Instant::now();
    cancel(&world, "m").await;
    until_gone(&world, "m").await;
    assert!((0.2..=1.5).contains(&since(start)), "{}", since(start));
    let told = state(&world, "vm").await;
    assert!(told.failed && told.completed && told.abort_requested);
    assert_eq!(told.abort_status.as_deref(), Some("Succeeded"));
    assert!(told.end_timestamp.is_some());
    assert_eq!(node_of(&world, "vm").await, "n1");
    until("one launcher", || async { (active(&world, "vm").await == 1).then_some(()) }).await;
    moved(&world, "m2", "vm", "n2").await;
    let told = state(&world, "vm").await;
    assert!(!told.failed && !told.abort_requested && told.abort_status.is_none(), "the old state is gone");
}

#[tokio::test(start_paused = true)]
async fn a_post_copy_migration_is_not_aborted() {
    let world = world(2).await;
    modes::allow_post_copy(&world).await;
    world.hands.lock().unwrap().set_dirtying(key(), Dirtying { rate: 500e6, working_set: Bytes::gib(1) });
    add_vm(&world, "vm", "n1").await;
    ask(&world, "m", "vm", Some("n2")).await.unwrap();
    until("post-copy", || async { (state(&world, "vm").await.mode.as_deref() == Some("PostCopy")).then_some(()) })
        .await;
    cancel(&world, "m").await;
    until_gone(&world, "m").await;
    let told = state(&world, "vm").await;
    assert!(told.completed && !told.failed);
    assert_eq!(node_of(&world, "vm").await, "n2");
}

#[tokio::test(start_paused = true)]
async fn a_migration_that_fails_leaves_the_vm_where_it_is() {
    let world = world(2).await;
    add_vm(&world, "vm", "n1").await;
    let fault = Fault::Fail { after: Duration::from_secs(3), reason: "connection reset by peer".into() };
    world.hands.lock().unwrap().break_target(NodeName::new("n2"), fault);
    ask(&world, "m", "vm", Some("n2")).await.unwrap();
    until_phase(&world, "m", "Failed").await;
    sleep(2.0).await;
    let told = state(&world, "vm").await;
    assert_eq!(told.failure_reason.as_deref(), Some("connection reset by peer"));
    assert!(told.failed && told.completed && told.abort_status.is_none());
    assert_eq!((node_of(&world, "vm").await.as_str(), active(&world, "vm").await), ("n1", 1));
    let status = vmi(&world, "vm").await.status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let kept = migrations(&world).get("m").await.unwrap();
    assert!(kept.finalizers().is_empty());
    assert!(kept.status.unwrap().migration_state.unwrap().failed);
}

#[tokio::test(start_paused = true)]
async fn a_post_copy_migration_that_fails_takes_the_vm_with_it() {
    let world = world(2).await;
    modes::allow_post_copy(&world).await;
    add_vm(&world, "vm", "n1").await;
    {
        let mut hands = world.hands.lock().unwrap();
        hands.set_dirtying(key(), Dirtying { rate: 500e6, working_set: Bytes::gib(1) });
        hands.break_vm(key(), Fault::FailInPostCopy { after: Duration::from_secs(1), reason: "lost".into() });
    }
    ask(&world, "m", "vm", Some("n2")).await.unwrap();
    until_phase(&world, "m", "Failed").await;
    sleep(2.0).await;
    let status = vmi(&world, "vm").await.status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(active(&world, "vm").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_migration_that_hangs_is_given_up_when_nothing_moves_for_150_seconds() {
    let world = world(2).await;
    add_vm(&world, "vm", "n1").await;
    world.hands.lock().unwrap().break_vm(key(), Fault::Hang);
    // More data, so that this time-out comes before that for completion.
    patch_policy_for_patience(&world).await;
    let start = tokio::time::Instant::now();
    ask(&world, "m", "vm", Some("n2")).await.unwrap();
    until_phase(&world, "m", "Failed").await;
    assert!((150.0..=154.0).contains(&since(start)), "{}", since(start));
    let reason = state(&world, "vm").await.failure_reason.unwrap_or_default();
    assert!(reason.contains("stuck"), "{reason}");
}

async fn patch_policy_for_patience(world: &World) {
    modes::policy(world, "patient", json!({"completionTimeoutPerGiB": 3000})).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_never_gets_ready_can_still_be_called_off() {
    let world = world(2).await;
    add_vm(&world, "vm", "n1").await;
    world.hands.lock().unwrap().break_vm(key(), Fault::TargetNeverReady);
    ask(&world, "m", "vm", Some("n2")).await.unwrap();
    until_phase(&world, "m", "PreparingTarget").await;
    sleep(30.0).await;
    assert_eq!(phase(&world, "m").await.as_deref(), Some("PreparingTarget"));
    let target = state(&world, "vm").await.target_pod.unwrap();
    pods(&world).delete(&target, &DeleteParams::default()).await.unwrap();
    until_phase(&world, "m", "Failed").await;
    sleep(2.0).await;
    assert_eq!(state(&world, "vm").await.failure_reason.as_deref(), Some("Target pod is down"));
    moved(&world, "m2", "vm", "n2").await;
}
