//! MigrationPolicies and the switch to post-copy.

use super::*;
use crate::sim::kubevirt::Dirtying;
use miyako_api::kubevirt::MigrationPolicy;
use miyako_core::model::VmKey;

/// A policy for every VM of the namespace (its own name label is on it).
pub(super) async fn policy(world: &World, name: &str, mut spec: Value) {
    spec["selectors"] = json!({"virtualMachineInstanceSelector": {}});
    let policy = json!({
        "apiVersion": "migrations.kubevirt.io/v1alpha1", "kind": "MigrationPolicy",
        "metadata": {"name": name}, "spec": spec,
    });
    let api: Api<MigrationPolicy> = Api::all(world.admin.clone());
    api.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
}

pub(super) async fn allow_post_copy(world: &World) {
    policy(world, "post-copy", json!({"allowPostCopy": true, "completionTimeoutPerGiB": 1})).await;
}

fn keep_busy(world: &World) {
    let busy = Dirtying { rate: 500e6, working_set: Bytes::gib(4) };
    world.hands.lock().unwrap().set_dirtying(VmKey::new(NAMESPACE, "vm"), busy);
}

/// The mode it ended in, and how long it ran until then.
async fn migrate(world: &World, memory: Bytes) -> (String, f64) {
    world.add_vm(&VmSpec::new(NAMESPACE, "vm", 1, memory), "n1").await.unwrap();
    ask(world, "m", "vm", Some("n2")).await.unwrap();
    until_phase(world, "m", "Running").await;
    let start = tokio::time::Instant::now();
    let mode = until("another mode or the end", || async {
        let told = state(world, "vm").await;
        (told.completed || told.mode.as_deref() != Some("PreCopy")).then_some(told.mode.unwrap_or_default())
    })
    .await;
    (mode, since(start))
}

#[tokio::test(start_paused = true)]
async fn one_second_per_gib_is_the_earliest_switch_to_post_copy() {
    let world = world(2).await;
    allow_post_copy(&world).await;
    keep_busy(&world);
    // 2 GiB count as 3 GB, rounded up; the switch comes when more than 3 whole seconds have passed.
    let (mode, after) = migrate(&world, Bytes::gib(2)).await;
    assert_eq!(mode, "PostCopy");
    assert!((3.0..=4.3).contains(&after), "{after}");
    let told = state(&world, "vm").await;
    assert_eq!(told.migration_policy_name.as_deref(), Some("post-copy"));
    assert_eq!(told.migration_configuration.unwrap().completion_timeout_per_gib, Some(1));
    until_phase(&world, "m", "Succeeded").await;
    assert_eq!(state(&world, "vm").await.mode.as_deref(), Some("PostCopy"));
}

#[tokio::test(start_paused = true)]
async fn a_migration_that_is_quick_enough_never_switches() {
    let world = world(2).await;
    allow_post_copy(&world).await;
    let quiet = Dirtying { rate: 0.0, working_set: Bytes(0) };
    world.hands.lock().unwrap().set_dirtying(VmKey::new(NAMESPACE, "vm"), quiet);
    assert_eq!(migrate(&world, Bytes::mib(100)).await.0, "PreCopy");
}

#[tokio::test(start_paused = true)]
async fn zero_disables_the_switch() {
    let world = world(2).await;
    policy(&world, "never", json!({"allowPostCopy": true, "completionTimeoutPerGiB": 0})).await;
    keep_busy(&world);
    world.add_vm(&VmSpec::new(NAMESPACE, "vm", 1, Bytes::gib(2)), "n1").await.unwrap();
    ask(&world, "m", "vm", Some("n2")).await.unwrap();
    sleep(1000.0).await;
    assert_eq!(state(&world, "vm").await.mode.as_deref(), Some("PreCopy"));
}

#[tokio::test(start_paused = true)]
async fn without_post_copy_a_guest_too_busy_is_given_up_after_150_seconds_per_gib() {
    let world = world(2).await;
    keep_busy(&world);
    world.add_vm(&VmSpec::new(NAMESPACE, "vm", 1, Bytes(1_000_000_000)), "n1").await.unwrap();
    let start = tokio::time::Instant::now();
    ask(&world, "m", "vm", Some("n2")).await.unwrap();
    until_phase(&world, "m", "Failed").await;
    assert!((150.0..=154.0).contains(&since(start)), "{}", since(start));
    let reason = state(&world, "vm").await.failure_reason.unwrap_or_default();
    assert!(reason.contains("not completed after 150 seconds"), "{reason}");
    assert_eq!(node_of(&world, "vm").await, "n1");
}

#[tokio::test(start_paused = true)]
async fn where_disruption_is_allowed_the_guest_is_paused_instead() {
    let world = world(2).await;
    policy(&world, "pause", json!({"allowWorkloadDisruption": true, "completionTimeoutPerGiB": 5})).await;
    keep_busy(&world);
    assert_eq!(migrate(&world, Bytes::gib(1)).await.0, "Paused");
    until_phase(&world, "m", "Succeeded").await;
}

#[tokio::test(start_paused = true)]
async fn the_policy_with_the_most_matching_labels_decides_when_the_migration_starts() {
    let world = world(2).await;
    policy(&world, "a-general", json!({"completionTimeoutPerGiB": 7})).await;
    let special = json!({
        "apiVersion": "migrations.kubevirt.io/v1alpha1", "kind": "MigrationPolicy",
        "metadata": {"name": "special"},
        "spec": {
            "selectors": {"virtualMachineInstanceSelector": {"miyako.dev/migration-mode": "post-copy"}},
            "allowPostCopy": true,
        },
    });
    let api: Api<MigrationPolicy> = Api::all(world.admin.clone());
    api.create(&PostParams::default(), &serde_json::from_value(special).unwrap()).await.unwrap();
    add_vm(&world, "vm", "n1").await;
    moved(&world, "m1", "vm", "n2").await;
    assert_eq!(state(&world, "vm").await.migration_policy_name.as_deref(), Some("a-general"));
    patch_vmi(&world, "vm", json!({"metadata": {"labels": {"miyako.dev/migration-mode": "post-copy"}}})).await;
    moved(&world, "m2", "vm", "n1").await;
    let told = state(&world, "vm").await;
    assert_eq!(told.migration_policy_name.as_deref(), Some("special"));
    assert_eq!(told.migration_configuration.unwrap().completion_timeout_per_gib, Some(150), "never merged");
}
