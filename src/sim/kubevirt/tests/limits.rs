//! "The five slots", the limit per node, priorities, quotas.

use super::*;
use crate::sim::kubevirt::Dirtying;
use miyako_core::model::VmKey;

/// Guests so busy that their migrations take minutes.
fn keep_busy(world: &World, vms: impl IntoIterator<Item = String>) {
    let mut hands = world.hands.lock().unwrap();
    for name in vms {
        hands.set_dirtying(VmKey::new(NAMESPACE, name), Dirtying { rate: 500e6, working_set: Bytes::gib(1) });
    }
}

async fn running(world: &World) -> usize {
    let list = migrations(world).list(&ListParams::default()).await.unwrap();
    let running =
        |migration: &Migration| migration.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    list.iter().filter(|migration| running(migration)).count()
}

#[tokio::test(start_paused = true)]
async fn five_migrations_run_in_the_cluster_and_two_out_of_a_node() {
    let world = world(6).await;
    let names: Vec<String> = (0..12).map(|index| format!("vm-{index}")).collect();
    keep_busy(&world, names.clone());
    for (index, name) in names.iter().enumerate() {
        add_vm(&world, name, &format!("n{}", 1 + index % 2)).await;
    }
    for name in &names {
        ask(&world, &format!("m-{name}"), name, Some("n6")).await.unwrap();
    }
    sleep(20.0).await;
    assert_eq!(running(&world).await, 4, "two out of each of two nodes");
    for index in 0..4 {
        let name = format!("more-{index}");
        add_vm(&world, &name, "n3").await;
        keep_busy(&world, [name.clone()]);
        ask(&world, &format!("m-{name}"), &name, Some("n6")).await.unwrap();
    }
    sleep(20.0).await;
    assert_eq!(running(&world).await, 5, "five in the cluster");
}

#[tokio::test(start_paused = true)]
async fn limits_are_those_of_the_kubevirt_cr() {
    let configuration = [
        ("parallelMigrationsPerCluster".to_owned(), json!(3)),
        ("parallelOutboundMigrationsPerNode".to_owned(), json!(3)),
    ];
    let settings = WorldSettings { configuration: configuration.into(), ..WorldSettings::default() };
    let world = world_of(2, settings).await;
    let names: Vec<String> = (0..5).map(|index| format!("vm-{index}")).collect();
    keep_busy(&world, names.clone());
    for name in &names {
        add_vm(&world, name, "n1").await;
        ask(&world, &format!("m-{name}"), name, Some("n2")).await.unwrap();
    }
    sleep(20.0).await;
    assert_eq!(running(&world).await, 3);
}

#[tokio::test(start_paused = true)]
async fn unschedulable_targets_hold_their_slots_and_five_block_an_evacuation() {
    let world = world(7).await;
    for index in 1..=5 {
        let (vm, node) = (format!("vm-{index}"), format!("n{index}"));
        add_vm(&world, &vm, &node).await;
        ask(&world, &format!("m-{index}"), &vm, Some("no-such-node")).await.unwrap();
    }
    add_vm(&world, "leaving", "n6").await;
    sleep(3.0).await;
    patch_vmi(&world, "leaving", json!({"status": {"evacuationNodeName": "n6"}})).await;
    sleep(100.0).await;
    assert_eq!(node_of(&world, "leaving").await, "n6", "no slot is free");
    for index in 1..=5 {
        let told = reasons(&world, &format!("m-{index}")).await;
        assert!(told.contains(&"migrationTargetPodUnschedulable".to_owned()), "{told:?}");
    }

    // Deleting one takes 0.2 s; its target pod goes with it, and the VM can move elsewhere at once.
    let start = tokio::time::Instant::now();
    cancel(&world, "m-1").await;
    until_gone(&world, "m-1").await;
    assert!(since(start) <= 0.3, "{}", since(start));
    assert_eq!(launchers(&world, "vm-1").await.len(), 1);
    until("evacuated", || async { (node_of(&world, "leaving").await != "n6").then_some(()) }).await;
    moved(&world, "m-1-again", "vm-1", "n7").await;
    assert_eq!(node_of(&world, "vm-1").await, "n7");
}

#[tokio::test(start_paused = true)]
async fn an_unschedulable_target_is_given_up_after_five_minutes() {
    let world = world(2).await;
    add_vm(&world, "vm", "n1").await;
    let start = tokio::time::Instant::now();
    ask(&world, "m", "vm", Some("no-such-node")).await.unwrap();
    until_phase(&world, "m", "Scheduling").await;
    until_phase(&world, "m", "Failed").await;
    assert!((299.0..=303.0).contains(&since(start)), "{}", since(start));
    assert_eq!(launchers(&world, "vm").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_node_takes_no_target_and_one_rather_not_used_does() {
    let world = world(1).await;
    let mut cordoned = NodeSpec::new("n2", 16, Bytes::gib(64));
    cordoned.taints = json!([{"key": "a", "effect": "NoSchedule"}]);
    let mut deterred = NodeSpec::new("n3", 16, Bytes::gib(64));
    deterred.taints = json!([{"key": "a", "effect": "PreferNoSchedule"}]);
    world.add_node(&cordoned).await.unwrap();
    world.add_node(&deterred).await.unwrap();
    add_vm(&world, "vm", "n1").await;
    ask(&world, "m1", "vm", Some("n2")).await.unwrap();
    sleep(5.0).await;
    assert_eq!(phase(&world, "m1").await.as_deref(), Some("Scheduling"));
    cancel(&world, "m1").await;
    until_gone(&world, "m1").await;
    moved(&world, "m2", "vm", "n3").await;
    assert_eq!(node_of(&world, "vm").await, "n3");
}

#[tokio::test(start_paused = true)]
async fn a_quota_refuses_the_target_and_the_migration_says_so() {
    let world = world(2).await;
    add_vm(&world, "vm", "n1").await;
    let quotas: Api<k8s_openapi::api::core::v1::ResourceQuota> = Api::namespaced(world.admin.clone(), NAMESPACE);
    let quota = json!({"metadata": {"name": "small"}, "spec": {"hard": {"pods": "1"}}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    ask(&world, "m", "vm", Some("n2")).await.unwrap();
    let refused = |status: miyako_api::kubevirt::VirtualMachineInstanceMigrationStatus| {
        let condition = status.conditions.iter().any(|one| one.kind == "migrationRejectedByResourceQuota");
        (condition && status.phase.as_deref() == Some("Pending")).then_some(())
    };
    until("refused", || async { refused(migrations(&world).get("m").await.unwrap().status?) }).await;
    let used = quotas.get("small").await.unwrap().status.unwrap().used.unwrap();
    assert_eq!(used["pods"].0, "1");
    quotas.delete("small", &DeleteParams::default()).await.unwrap();
    until_phase(&world, "m", "Succeeded").await;
    let conditions = migrations(&world).get("m").await.unwrap().status.unwrap().conditions;
    assert!(conditions.is_empty(), "{conditions:?}");
}
