//! Targets that can't be created: KubeVirt tells of it in Events about the VMI, goes on trying, and holds no slot.

use super::*;

async fn failed_creates(world: &World, vm: &str) -> Vec<(String, i32)> {
    let events: Api<Event> = Api::namespaced(world.admin.clone(), NAMESPACE);
    let all = events.list(&ListParams::default()).await.unwrap();
    let about = |event: &Event| {
        event.involved_object.name.as_deref() == Some(vm) && event.reason.as_deref() == Some("FailedCreate")
    };
    let told = |event: Event| (event.message.unwrap_or_default(), event.count.unwrap_or(0));
    all.into_iter().filter(about).map(told).collect()
}

#[tokio::test(start_paused = true)]
async fn pod_security_or_a_webhook_leaves_the_migration_pending_until_it_lets_go() {
    for (webhook, text) in
        [("", "violates PodSecurity \"restricted:latest\": seccompProfile"), ("pods.example.org", "no team label")]
    {
        let world = world(2).await;
        add_vm(&world, "vm", "n1").await;
        world.pod_refusals.refuse(webhook, NAMESPACE, text);
        ask(&world, "m", "vm", Some("n2")).await.unwrap();
        sleep(8.0).await;
        let status = migrations(&world).get("m").await.unwrap().status.unwrap();
        assert_eq!((status.phase.as_deref(), status.conditions.len()), (Some("Pending"), 0));
        assert_eq!(launchers(&world, "vm").await.len(), 1);
        let told = failed_creates(&world, "vm").await;
        assert!(told.iter().all(|(message, _)| message.contains(text)), "{told:?}");
        assert!(told.iter().any(|(message, _)| message.starts_with("Error creating pod: ")), "{told:?}");
        world.pod_refusals.allow();
        until_phase(&world, "m", "Succeeded").await;
    }
}

#[tokio::test(start_paused = true)]
async fn five_refused_targets_hold_no_slot() {
    let world = world(6).await;
    let other = VmSpec { namespace: "others".into(), ..vm("other") };
    world.add_vm(&other, "n6").await.unwrap();
    for index in 1..=5 {
        add_vm(&world, &format!("vm-{index}"), &format!("n{index}")).await;
    }
    world.pod_refusals.refuse("pods.example.org", NAMESPACE, "no");
    for index in 1..=5 {
        ask(&world, &format!("m-{index}"), &format!("vm-{index}"), None).await.unwrap();
    }
    sleep(5.0).await;
    let theirs: Api<Migration> = Api::namespaced(world.admin.clone(), "others");
    let wanted = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
        "metadata": {"name": "m"}, "spec": {"vmiName": "other"},
    });
    theirs.create(&PostParams::default(), &serde_json::from_value(wanted).unwrap()).await.unwrap();
    let phase = || async { theirs.get("m").await.unwrap().status?.phase };
    until("moved", || async { (phase().await.as_deref() == Some("Succeeded")).then_some(()) }).await;
}

#[tokio::test(start_paused = true)]
async fn after_some_twenty_five_events_about_a_vm_there_are_no_more_for_a_while() {
    let world = world(2).await;
    add_vm(&world, "vm", "n1").await;
    world.pod_refusals.refuse("pods.example.org", NAMESPACE, "no");
    let count = async |world: &World| failed_creates(world, "vm").await.iter().map(|(_, count)| *count).sum::<i32>();
    // Each new migration starts with the shortest pauses.
    for index in 0..3 {
        ask(&world, &format!("m-{index}"), "vm", Some("n2")).await.unwrap();
        sleep(15.0).await;
        cancel(&world, &format!("m-{index}")).await;
        until_gone(&world, &format!("m-{index}")).await;
    }
    let told = count(&world).await;
    assert_eq!(told, 25);
    ask(&world, "m-late", "vm", Some("n2")).await.unwrap();
    sleep(60.0).await;
    assert_eq!(count(&world).await, told, "the next migration waits without a word");
}
