//! "Phases in time", "Who writes what", `selinuxContext`, "can't migrate again while …".

use super::*;

#[tokio::test(start_paused = true)]
async fn on_an_idle_cluster_a_migration_runs_after_half_a_second() {
    let world = world(3).await;
    for index in 0..10 {
        add_vm(&world, &format!("vm-{index}"), "n1").await;
    }
    for index in 0..10 {
        let (migration, vm) = (format!("m-{index}"), format!("vm-{index}"));
        let start = tokio::time::Instant::now();
        ask(&world, &migration, &vm, Some("n2")).await.unwrap();
        until_phase(&world, &migration, "Running").await;
        let took = since(start);
        assert!((0.45..=0.75).contains(&took), "{took} s");
        until_phase(&world, &migration, "Succeeded").await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_phase_is_passed_in_order() {
    let world = world(2).await;
    add_vm(&world, "vm", "n1").await;
    moved(&world, "m", "vm", "n2").await;
    let migration = migrations(&world).get("m").await.unwrap();
    let status = migration.status.unwrap();
    let passed: Vec<&str> = status.phase_transition_timestamps.iter().map(|entered| entered.phase.as_str()).collect();
    let all = ["Pending", "Scheduling", "Scheduled", "PreparingTarget", "TargetReady", "Running", "Succeeded"];
    assert_eq!(passed, all);
    let told = status.migration_state.unwrap();
    assert!(told.completed && !told.failed);
    assert_eq!((told.source_node.as_deref(), told.target_node.as_deref()), (Some("n1"), Some("n2")));
}

#[tokio::test(start_paused = true)]
async fn virt_controller_says_who_goes_where_and_virt_handlers_how_it_goes() {
    let world = world(2).await;
    add_vm(&world, "vm", "n1").await;
    let source_pod = launchers(&world, "vm").await[0].0.clone();
    let migration = ask(&world, "m", "vm", Some("n2")).await.unwrap();
    until_phase(&world, "m", "Running").await;
    let running = vmi(&world, "vm").await;
    assert_eq!(running.labels()["kubevirt.io/migrationTargetNodeName"], "n2");
    let told = state(&world, "vm").await;
    assert_eq!(told.migration_uid, migration.uid());
    assert_eq!(told.source_pod.as_deref(), Some(source_pod.as_str()));
    assert!(told.target_pod.is_some_and(|pod| pod != source_pod));
    assert!(told.target_node_address.is_some() && !told.target_direct_migration_node_ports.is_empty());
    assert!(told.start_timestamp.is_some() && told.end_timestamp.is_none());
    assert_eq!(told.mode.as_deref(), Some("PreCopy"));
    let configuration = json!(told.migration_configuration);
    for (key, value) in [
        ("parallelMigrationsPerCluster", 5),
        ("parallelOutboundMigrationsPerNode", 2),
        ("progressTimeout", 150),
        ("maxDowntimeMs", 900),
        ("completionTimeoutPerGiB", 150),
    ] {
        assert_eq!(configuration[key], value, "{key}");
    }

    until_phase(&world, "m", "Succeeded").await;
    until("one launcher", || async { (active(&world, "vm").await == 1).then_some(()) }).await;
    sleep(1.0).await;
    let after = vmi(&world, "vm").await;
    assert_eq!(after.labels()["kubevirt.io/nodeName"], "n2");
    assert!(!after.labels().contains_key("kubevirt.io/migrationTargetNodeName"));
    let status = after.status.unwrap();
    assert_eq!(status.node_name.as_deref(), Some("n2"));
    let mut on: Vec<&String> = status.active_pods.values().collect();
    on.sort();
    assert_eq!(on, ["n1", "n2"], "the finished launcher is listed as long as it exists");
    let told = status.migration_state.unwrap();
    assert!(told.completed && told.target_node_domain_detected);
    assert!(told.target_node_domain_ready_timestamp.is_some() && told.end_timestamp.is_some());
    let source = launchers(&world, "vm").await.into_iter().find(|(name, ..)| *name == source_pod).unwrap();
    assert_eq!((source.1.as_str(), source.2.as_str()), ("Succeeded", "n1"));
}

#[tokio::test(start_paused = true)]
async fn without_a_selinux_context_every_migration_stays_pending() {
    let world = world(2).await;
    add_vm(&world, "vm", "n1").await;
    patch_vmi(&world, "vm", json!({"status": {"selinuxContext": null}})).await;
    ask(&world, "m", "vm", Some("n2")).await.unwrap();
    sleep(60.0).await;
    assert_eq!(phase(&world, "m").await.as_deref(), Some("Pending"));
    patch_vmi(&world, "vm", json!({"status": {"selinuxContext": "none"}})).await;
    until_phase(&world, "m", "Succeeded").await;
}

#[tokio::test(start_paused = true)]
async fn a_vm_does_not_move_again_before_its_old_launcher_has_gone() {
    let settings = WorldSettings {
        kubevirt: crate::sim::kubevirt::Timing { launcher_exit: Duration::from_secs(20), ..Default::default() },
        ..WorldSettings::default()
    };
    let world = world_of(3, settings).await;
    add_vm(&world, "vm", "n1").await;
    ask(&world, "m1", "vm", Some("n2")).await.unwrap();
    until_phase(&world, "m1", "Succeeded").await;
    let start = tokio::time::Instant::now();
    ask(&world, "m2", "vm", Some("n3")).await.unwrap();
    sleep(10.0).await;
    assert_eq!(phase(&world, "m2").await.as_deref(), Some("Pending"));
    assert_eq!(active(&world, "vm").await, 2);
    until_phase(&world, "m2", "Running").await;
    assert!(since(start) > 15.0);
}
