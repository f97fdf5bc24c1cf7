//! Evacuations: VMs that KubeVirt moves by itself, and its queue.

use super::*;
use miyako_api::names::kubevirt::EVACUATION_MIGRATION;

#[tokio::test(start_paused = true)]
async fn a_marked_vm_is_moved_away_with_priority_and_its_mark_taken_off() {
    let world = world(2).await;
    add_vm(&world, "vm", "n1").await;
    patch_vmi(&world, "vm", json!({"status": {"evacuationNodeName": "n1"}})).await;
    let migration = until("a migration", || async {
        migrations(&world).list(&ListParams::default()).await.unwrap().items.into_iter().next()
    })
    .await;
    assert!(migration.name_any().starts_with("kubevirt-evacuation-"));
    assert_eq!(migration.spec.priority.as_deref(), Some("system-critical"));
    assert_eq!(migration.annotations()[EVACUATION_MIGRATION], "n1");
    until("away", || async { (node_of(&world, "vm").await == "n2").then_some(()) }).await;
    sleep(5.0).await;
    assert_eq!(vmi(&world, "vm").await.status.unwrap().evacuation_node_name, None);
    assert_eq!(migrations(&world).list(&ListParams::default()).await.unwrap().items.len(), 1);
}

/// Whether an evacuation gets the one slot before a user's migration that has waited longer.
async fn overtakes(seed: u64) -> bool {
    let settings = WorldSettings {
        seed,
        configuration: [("parallelMigrationsPerCluster".to_owned(), json!(1))].into(),
        ..WorldSettings::default()
    };
    let world = world_of(3, settings).await;
    for name in ["first", "waits", "leaving"] {
        add_vm(&world, name, "n1").await;
    }
    ask(&world, "m-first", "first", Some("n2")).await.unwrap();
    until_phase(&world, "m-first", "Running").await;
    ask(&world, "m-waits", "waits", Some("n2")).await.unwrap();
    until_phase(&world, "m-waits", "Pending").await;
    patch_vmi(&world, "leaving", json!({"status": {"evacuationNodeName": "n1"}})).await;
    until("evacuated", || async { (node_of(&world, "leaving").await != "n1").then_some(()) }).await;
    let overtook = phase(&world, "m-waits").await.as_deref() == Some("Pending");
    until_phase(&world, "m-waits", "Succeeded").await;
    overtook
}

#[tokio::test(start_paused = true)]
async fn evacuations_overtake_those_that_wait_longer_more_often_than_not() {
    let mut overtook = 0;
    for seed in 0..16 {
        overtook += u32::from(overtakes(seed).await);
    }
    assert!((9..16).contains(&overtook), "{overtook} of 16");
}

#[tokio::test(start_paused = true)]
async fn an_evacuation_that_failed_is_tried_again_after_twenty_seconds_and_then_forty() {
    use crate::sim::kubevirt::Fault;
    let world = world(2).await;
    add_vm(&world, "vm", "n1").await;
    {
        let mut hands = world.hands.lock().unwrap();
        for _ in 0..2 {
            let fault = Fault::Fail { after: Duration::from_secs(1), reason: "no route".into() };
            hands.break_vm(miyako_core::model::VmKey::new(NAMESPACE, "vm"), fault);
        }
    }
    let start = tokio::time::Instant::now();
    patch_vmi(&world, "vm", json!({"status": {"evacuationNodeName": "n1"}})).await;
    until("away", || async { (node_of(&world, "vm").await == "n2").then_some(()) }).await;
    assert!((60.0..=90.0).contains(&since(start)), "{}", since(start));
    assert_eq!(migrations(&world).list(&ListParams::default()).await.unwrap().items.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_can_not_migrate_is_left_alone() {
    let world = world(2).await;
    world.add_vm(&VmSpec { migratable: false, ..vm("vm") }, "n1").await.unwrap();
    patch_vmi(&world, "vm", json!({"status": {"evacuationNodeName": "n1"}})).await;
    sleep(60.0).await;
    assert!(migrations(&world).list(&ListParams::default()).await.unwrap().items.is_empty());
    assert!(ask(&world, "m", "vm", Some("n2")).await.is_err());
}
