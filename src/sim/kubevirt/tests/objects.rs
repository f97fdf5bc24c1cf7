//! "What virt-api adds", "no status subresource", "Launcher pod", "A node that takes VMs needs …".

use super::*;
use kube::api::{Patch, PatchParams};

fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("not the API server's: {other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_migration_bears_finalizer_and_label_and_a_second_is_refused() {
    let world = world(2).await;
    add_vm(&world, "vm", "n1").await;
    let migration = ask(&world, "m1", "vm", Some("n2")).await.unwrap();
    assert_eq!(migration.finalizers(), ["kubevirt.io/migrationJobFinalize"]);
    assert_eq!(migration.labels()["kubevirt.io/vmi-name"], "vm");
    let refused = message(ask(&world, "m2", "vm", Some("n2")).await.unwrap_err());
    assert!(refused.contains("in-flight migration detected"), "{refused}");
    until_phase(&world, "m1", "Succeeded").await;
    ask(&world, "m2", "vm", Some("n1")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_vmis_status_is_put_back_silently_and_its_spec_refused() {
    let world = world(1).await;
    add_vm(&world, "vm", "n1").await;
    let patch = |patch: Value| {
        let api = vmis(&world);
        async move { api.patch("vm", &PatchParams::default(), &Patch::Merge(patch)).await }
    };
    let answer = patch(json!({"status": {"nodeName": "n9", "phase": "Failed"}})).await.unwrap();
    assert_eq!(answer.status.unwrap().node_name.as_deref(), Some("n1"));
    assert_eq!(node_of(&world, "vm").await, "n1");
    let refused = message(patch(json!({"spec": {"evictionStrategy": "None"}})).await.unwrap_err());
    assert!(refused.contains("update of VMI object is restricted"), "{refused}");
    let answer = patch(json!({"metadata": {"labels": {"miyako.dev/migration-mode": "post-copy"}}})).await.unwrap();
    assert_eq!(answer.labels()["miyako.dev/migration-mode"], "post-copy");
}

#[tokio::test(start_paused = true)]
async fn a_target_launcher_is_as_seen_live() {
    let world = world(2).await;
    world.add_vm(&VmSpec::new(NAMESPACE, "vm", 1, Bytes::mib(512)), "n1").await.unwrap();
    let migration = ask(&world, "m", "vm", Some("n2")).await.unwrap();
    until_phase(&world, "m", "Running").await;
    let target = state(&world, "vm").await.target_pod.unwrap();
    let pod = pods(&world).get(&target).await.unwrap();
    assert_eq!(Some(&pod.labels()["kubevirt.io/migrationJobUID"]), migration.metadata.uid.as_ref());
    assert_eq!(Some(&pod.labels()["kubevirt.io/created-by"]), vmi(&world, "vm").await.metadata.uid.as_ref());
    let overhead = Bytes::mib(269).0.to_string();
    assert_eq!(pod.annotations()["kubevirt.io/memory-overhead-bytes"], overhead);
    assert!(pod.annotations().contains_key("descheduler.alpha.kubernetes.io/request-evict-only"));
    let spec = pod.spec.unwrap();
    let selector = spec.node_selector.unwrap();
    for key in [
        "kubevirt.io/schedulable",
        "cpu-model.node.kubevirt.io/Haswell",
        "machine-type.node.kubevirt.io/q35",
        "cpu-vendor.node.kubevirt.io/Intel",
    ] {
        assert_eq!(selector.get(key).map(String::as_str), Some("true"), "{key}");
    }
    assert_eq!(selector[HOSTNAME], "n2");
    assert_eq!(spec.containers[1].name, "guest-console-log");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_schedulable_for_kubevirt_gets_no_vm() {
    let world = world(2).await;
    let mut deaf = NodeSpec::new("n3", 16, Bytes::gib(64));
    deaf.labels.insert("kubevirt.io/schedulable".into(), "false".into());
    world.add_node(&deaf).await.unwrap();
    add_vm(&world, "vm", "n1").await;
    ask(&world, "m", "vm", Some("n3")).await.unwrap();
    until("unschedulable", || async {
        reasons(&world, "m").await.contains(&"migrationTargetPodUnschedulable".to_owned()).then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_a_user_creates_is_scheduled_and_ends_with_its_launcher() {
    let world = world(2).await;
    add_vm(&world, "other", "n1").await;
    let vmi: VirtualMachineInstance = serde_json::from_value(vm("new").vmi()).unwrap();
    vmis(&world).create(&PostParams::default(), &vmi).await.unwrap();
    let node = until("runs", || async {
        let status = self::vmi(&world, "new").await.status?;
        (status.phase.as_deref() == Some("Running")).then_some(status.node_name?)
    })
    .await;
    assert_eq!(node, "n2", "the emptier node");
    vmis(&world).delete("new", &DeleteParams::default()).await.unwrap();
    until("gone", || async { vmis(&world).get_opt("new").await.unwrap().is_none().then_some(()) }).await;
    assert!(launchers(&world, "new").await.is_empty());
}
