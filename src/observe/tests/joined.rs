//! What a live cluster's objects come to together.

use super::{NOW, apply, cluster, look, object, remove, world_of};
use crate::observe::world::World;
use miyako_core::{
    fit::{Candidate, Occupancy, fits},
    model::{
        Bytes, KubeVirtProblem, MigrationMode, MigrationName, MigrationPhase, MilliCpu, Name, NodeName, PlanPhase,
        PodKey, PodOwner, PolicyName, PostCopyMark, PowerState, Selector, Span, TargetTrouble, Timestamp, Uid,
        Unsupported, Vm, VmActivity, VmKey,
    },
};
use serde_json::{Value, json};

pub(super) fn db() -> VmKey {
    VmKey::new("shop", "db")
}

pub(super) fn vm(world: &mut World) -> Vm {
    look(world).0.vms[&db()].clone()
}

/// The small cluster without the migration that is under way.
pub(super) fn at_rest() -> World {
    let quiet = |object: &Value| {
        object["kind"] != "VirtualMachineInstanceMigration" && object["metadata"]["name"] != "virt-launcher-db-2"
    };
    world_of(&cluster().into_iter().filter(quiet).collect::<Vec<_>>())
}

/// The VMI with some fields replaced, by JSON pointer.
pub(super) fn vmi(changes: &[(&str, Value)]) -> Value {
    changed(object("VirtualMachineInstance", "db"), changes)
}

pub(super) fn changed(mut object: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/");
        object.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key, value.clone());
    }
    object
}

#[test]
fn the_fixture_has_no_problems() {
    let mut world = world_of(&cluster());
    look(&mut world);
    assert_eq!(world.problems().count(), 0);
    assert!(world.synced());
    assert_eq!(world.view().0.incomplete, None);
}

#[test]
fn a_node_is_joined_with_its_power_and_its_virt_handler() {
    let mut world = at_rest();
    let (snapshot, _) = look(&mut world);
    let a = &snapshot.nodes[&NodeName::new("node-a")];
    assert!(a.ready && a.virt_handler_ready && a.is_usable() && !a.unschedulable);
    assert_eq!((a.allocatable.cpu, a.allocatable.memory, a.allocatable.pods), (MilliCpu(16_000), Bytes::gib(64), 110));
    assert_eq!(a.allocatable.extended["devices.kubevirt.io/kvm"], 1000);
    assert_eq!(a.attached_volumes, ["kubernetes.io/csi/disks^vol-1"]);
    assert_eq!((a.attached_of("disks"), a.attach_limits["disks"]), (1, 24));
    let b = &snapshot.nodes[&NodeName::new("node-b")];
    assert_eq!((b.power, b.virt_handler_ready), (PowerState::Suspended, false));
    assert_eq!(b.wake_tested, Some(NOW - Span::from_secs(24 * 3600)));
    assert_eq!(b.keep_awake.as_deref(), Some("runs the night report"));
    assert_eq!(b.maintenance.as_deref(), Some("cordoned"));
    let mut handler = object("Pod", "virt-handler-a");
    handler["status"]["conditions"][0]["status"] = json!("False");
    apply(&mut world, &handler);
    remove(&mut world, &object("NodePower", "node-b"));
    remove(&mut world, &object("CSINode", "node-a"));
    let (snapshot, _) = look(&mut world);
    assert!(!snapshot.nodes[&NodeName::new("node-a")].virt_handler_ready);
    assert!(snapshot.nodes[&NodeName::new("node-a")].attach_limits.is_empty());
    assert_eq!(snapshot.nodes[&NodeName::new("node-b")].power, PowerState::Awake);
    assert_eq!(snapshot.nodes[&NodeName::new("node-b")].wake_tested, None);
}

#[test]
fn a_vm_is_its_vmi_with_its_virtual_machine() {
    let mut world = at_rest();
    let vm = vm(&mut world);
    assert_eq!((vm.vcpus, vm.memory, vm.running), (4, Bytes::gib(4), true));
    assert_eq!((vm.not_migratable, vm.activity, vm.host_device), (None, None, false));
    assert_eq!(vm.node, Some(NodeName::new("node-a")));
    assert_eq!(vm.mode_label, Some(MigrationMode::PostCopy));
    assert_eq!(vm.marks.post_copy, Some(PostCopyMark::Never), "the stricter word wins");
    assert_eq!(vm.user_migration_policy.as_deref(), Some("gentle"), "ours is not a user's, however well it matches");
    let last = vm.last_migration.unwrap();
    assert_eq!((last.uid, last.completed, last.failed), (Uid::new("mig-0"), true, false));
    assert_eq!(last.ended, Some(NOW - Span::from_secs(3600) + Span::from_secs(9)));
}

#[test]
fn the_next_target_asks_for_what_kubevirt_will_ask_for() {
    let mut world = at_rest();
    let vm = vm(&mut world);
    assert_eq!(vm.unsupported, None);
    let target = &vm.target;
    let keys: Vec<_> = target.node_selector.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "cpu-feature.node.kubevirt.io/vmx",
            "cpu-model-migration.node.kubevirt.io/Skylake-Server",
            "cpu-vendor.node.kubevirt.io/Intel",
            "kubernetes.io/arch",
            "kubernetes.io/os",
            "kubevirt.io/schedulable",
            "machine-type.node.kubevirt.io/q35",
        ],
        "the host name was its last migration's, not its own"
    );
    assert_eq!(target.requests.cpu, MilliCpu(405));
    assert_eq!(target.requests.memory, Bytes(4368 * (1 << 20) + 35_000_000));
    assert_eq!(target.requests.extended["devices.kubevirt.io/kvm"], 1);
    assert!(target.anti_affinity.iter().any(|term| term.selector == Selector::label("tier", "db")));
    let own = Selector::label("kubevirt.io/created-by", "vmi-db");
    assert!(target.anti_affinity.iter().all(|term| term.selector != own), "left to `Candidate::leaves`");
    assert_eq!(target.volume_topology.len(), 1);
    assert_eq!(vm.launcher_labels["tier"], "db");
}

#[test]
fn a_host_name_that_the_vm_itself_asks_for_stays() {
    let mut world = at_rest();
    apply(&mut world, &vmi(&[("/spec/nodeSelector", json!({"kubernetes.io/hostname": "node-a"}))]));
    assert_eq!(vm(&mut world).target.node_selector["kubernetes.io/hostname"], "node-a");
}

#[test]
fn a_bound_launcher_keeps_what_others_feel() {
    let mut world = at_rest();
    let pod = &look(&mut world).0.pods[&PodKey::new("shop", "virt-launcher-db-1")];
    assert_eq!(pod.owner, PodOwner::Vm { vm: db(), uid: Uid::new("vmi-db"), target_of: Some(Uid::new("mig-0")) });
    assert!(pod.scheduling.node_selector.is_empty() && pod.scheduling.tolerations.is_empty());
    assert_eq!(pod.scheduling.anti_affinity.len(), 1, "its own launchers are kept apart by `Candidate::leaves`");
    assert_eq!(pod.scheduling.requests.cpu, MilliCpu(405));
}

#[test]
fn the_scheduler_would_take_the_vm_where_everything_matches_and_not_where_it_is() {
    let mut world = at_rest();
    let mut other = object("Node", "node-a");
    other["metadata"]["name"] = json!("node-c");
    other["metadata"]["labels"]["kubernetes.io/hostname"] = json!("node-c");
    other["metadata"]["labels"]["kubernetes.io/os"] = json!("linux");
    apply(&mut world, &other);
    apply(&mut world, &changed(object("Node", "node-a"), &[("/metadata/labels/kubernetes.io~1os", json!("linux"))]));
    let (snapshot, _) = look(&mut world);
    let occupancy = Occupancy::new(snapshot);
    let fits = |node: &str| {
        fits(Candidate::target_of(&snapshot.vms[&db()]), &snapshot.nodes[&NodeName::new(node)], &occupancy)
    };
    assert_eq!(fits("node-c"), Ok(()));
    assert!(fits("node-a").is_err(), "its own launcher is there");
    assert!(fits("node-b").is_err(), "cordoned, and without its CPU");
}

#[test]
fn what_goes_on_in_a_vm_keeps_it_where_it_is() {
    let under_way = json!({"migrationUid": "m", "sourceNode": "node-a", "targetNode": "node-b", "mode": "PreCopy"});
    let condition =
        |kind: &str| json!([{"type": "LiveMigratable", "status": "True"}, {"type": kind, "status": "True"}]);
    let hotplug = json!([{"name": "d", "hotplugVolume": {}, "phase": "AttachedToNode"}]);
    let backup =
        |completed: bool| json!({"state": "Enabled", "backupStatus": {"backupName": "b", "completed": completed}});
    let cases = [
        ("/status/migrationState", under_way, Some(VmActivity::MigrationVanished)),
        ("/status/evacuationNodeName", json!("node-a"), Some(VmActivity::Evacuating)),
        ("/status/conditions", condition("HotVCPUChange"), Some(VmActivity::Hotplugging)),
        ("/status/conditions", condition("HotMemoryChange"), Some(VmActivity::Hotplugging)),
        ("/status/volumeStatus", hotplug, Some(VmActivity::Hotplugging)),
        ("/status/volumeStatus", json!([{"name": "d", "hotplugVolume": {}, "phase": "Ready"}]), None),
        ("/status/conditions", condition("VolumesChange"), Some(VmActivity::ChangingVolumes)),
        ("/status/migratedVolumes", json!([{"volumeName": "disk"}]), Some(VmActivity::ChangingVolumes)),
        ("/status/changedBlockTracking", backup(false), Some(VmActivity::BackingUp)),
        ("/status/changedBlockTracking", backup(true), None),
        ("/status/fsFreezeStatus", json!("frozen"), Some(VmActivity::BackingUp)),
        ("/status/conditions", condition("Paused"), Some(VmActivity::Paused)),
        // KubeVirt lists finished launchers here too, for days.
        ("/status/activePods", json!({"a": "node-a", "b": "node-b"}), None),
        ("/metadata/deletionTimestamp", json!("2026-01-05T00:00:00Z"), Some(VmActivity::Stopping)),
        ("/status/phase", json!("Succeeded"), Some(VmActivity::Stopping)),
    ];
    for (pointer, value, expected) in cases {
        let mut world = at_rest();
        apply(&mut world, &vmi(&[(pointer, value.clone())]));
        assert_eq!(vm(&mut world).activity, expected, "{pointer} = {value}");
    }
    let mut world = at_rest();
    let snapshotting = changed(object("VirtualMachine", "db"), &[("/status/snapshotInProgress", json!("nightly"))]);
    apply(&mut world, &snapshotting);
    assert_eq!(vm(&mut world).activity, Some(VmActivity::BackingUp));
    let shop = look(&mut world).1.policies[&PolicyName::new("shop")].clone();
    assert!(shop.backup.unwrap().starts_with("VM shop/db has been backed up since"));
    assert_eq!(shop.held, None, "what sleeps has no part in a backup");
    remove(&mut world, &snapshotting);
    assert_eq!(vm(&mut world).activity, None);
    assert_eq!(look(&mut world).1.policies[&PolicyName::new("shop")].backup, None);
}

#[test]
fn what_a_vm_is_keeps_it_where_it_is() {
    let not = |conditions: Value| {
        let mut world = at_rest();
        apply(&mut world, &vmi(&[("/status/conditions", conditions)]));
        vm(&mut world).not_migratable
    };
    let refused = json!([{"type": "LiveMigratable", "status": "False", "reason": "DisksNotLiveMigratable", "message": "PVC db-disk is not shared"}]);
    assert_eq!(not(refused).as_deref(), Some("DisksNotLiveMigratable: PVC db-disk is not shared"));
    assert!(not(json!([])).is_some(), "KubeVirt has not said");
    let device = |pointer: &str, value: Value| {
        let mut world = at_rest();
        apply(&mut world, &vmi(&[(pointer, value)]));
        vm(&mut world).host_device
    };
    assert!(device("/spec/domain/devices/gpus", json!([{"name": "g", "deviceName": "vendor/gpu"}])));
    assert!(device("/spec/domain/devices/hostDevices", json!([{"name": "h", "deviceName": "vendor/nic"}])));
    assert!(device("/spec/domain/devices/interfaces", json!([{"name": "i", "sriov": {}}])));
}

#[test]
fn what_we_do_not_understand_is_named() {
    let unsupported = |kind: &str, name: &str, changes: &[(&str, Value)]| {
        let mut world = at_rest();
        apply(&mut world, &changed(object(kind, name), changes));
        vm(&mut world).unsupported.map(|unsupported| unsupported.field)
    };
    let vmi = ("VirtualMachineInstance", "db");
    let pod = ("Pod", "virt-launcher-db-1");
    let claim = ("PersistentVolumeClaim", "db-disk");
    let cases = [
        (vmi, "/spec/resourceClaims", json!([{"name": "g"}]), "spec.resourceClaims"),
        (vmi, "/spec/domain/cpu/numa", json!({"guestMappingPassthrough": {}}), "spec.domain.cpu.numa"),
        (pod, "/spec/schedulingGates", json!([{"name": "g"}]), "spec.schedulingGates"),
        (pod, "/spec/schedulerName", json!("mine"), "spec.schedulerName"),
        (claim, "/spec/volumeName", json!(""), "persistentVolumeClaim db-disk (WaitForFirstConsumer, not bound yet)"),
        (claim, "/spec/volumeName", json!("vol-9"), "persistentVolumeClaim db-disk (its volume is not found)"),
    ];
    for ((kind, name), pointer, value, field) in cases {
        assert_eq!(unsupported(kind, name, &[(pointer, value)]).as_deref(), Some(field));
    }
    let mut world = at_rest();
    remove(&mut world, &object("Pod", "virt-launcher-db-1"));
    assert_eq!(vm(&mut world).unsupported, Some(Unsupported { field: "its launcher pod (not found)".into() }));
    apply(&mut world, &object("Pod", "virt-launcher-db-1"));
    assert_eq!(vm(&mut world).unsupported, None);
}

#[test]
fn a_vm_on_a_node_that_is_gone_is_nowhere() {
    let mut world = at_rest();
    remove(&mut world, &object("Node", "node-a"));
    assert_eq!(vm(&mut world).node, None);
    apply(&mut world, &object("Node", "node-a"));
    assert_eq!(vm(&mut world).node, Some(NodeName::new("node-a")));
}

#[test]
fn a_vm_waits_for_its_unfinished_launchers_and_not_for_finished_ones() {
    let mut world = at_rest();
    let other = |phase: &str| changed(object("Pod", "virt-launcher-db-2"), &[("/status/phase", json!(phase))]);
    for (phase, expected) in [
        ("Running", Some(VmActivity::OldLauncherLeaving)),
        ("Succeeded", None),
        ("Pending", Some(VmActivity::OldLauncherLeaving)),
        ("Failed", None),
        ("Unknown", Some(VmActivity::OldLauncherLeaving)),
    ] {
        apply(&mut world, &other(phase));
        assert_eq!(vm(&mut world).activity, expected, "{phase}");
    }
}

#[test]
fn a_launcher_of_an_earlier_vmi_of_that_name_is_nobodys() {
    let mut world = at_rest();
    apply(&mut world, &vmi(&[("/metadata/uid", json!("vmi-new"))]));
    assert!(vm(&mut world).unsupported.is_some());
}

#[test]
fn a_migration_knows_what_keeps_its_target_from_coming_up() {
    let mut world = world_of(&cluster());
    let name = MigrationName::new("shop", "miyako-def");
    let migration = look(&mut world).0.migrations[&name].clone();
    assert_eq!((migration.phase, migration.system), (MigrationPhase::Preparing, false));
    assert_eq!(migration.plan.map(|plan| plan.to_string()).as_deref(), Some("shop-2"));
    assert_eq!(migration.target, Some(NodeName::new("node-b")));
    assert!(matches!(migration.trouble, Some(TargetTrouble::Unschedulable(why)) if why.contains("0/2 nodes")));
    assert_eq!(vm(&mut world).activity, Some(VmActivity::Migrating), "before the VMI's status says so");
    // The scheduler finds a place after all.
    let mut target = object("Pod", "virt-launcher-db-2");
    target["spec"]["nodeName"] = json!("node-b");
    target["status"]["conditions"][0]["status"] = json!("True");
    apply(&mut world, &target);
    assert_eq!(look(&mut world).0.migrations[&name].trouble, None);
    let mut migration = object("VirtualMachineInstanceMigration", "miyako-def");
    migration["status"]["conditions"] =
        json!([{"type": "migrationRejectedByResourceQuota", "status": "True", "message": "exceeded quota: room"}]);
    apply(&mut world, &migration);
    let trouble = look(&mut world).0.migrations[&name].trouble.clone();
    assert_eq!(trouble, Some(TargetTrouble::QuotaRefused("exceeded quota: room".into())));
}

#[test]
fn finished_migrations_are_kept_only_if_they_are_ours() {
    let mut world = world_of(&cluster());
    let mut migration = object("VirtualMachineInstanceMigration", "miyako-def");
    migration["status"]["phase"] = json!("Succeeded");
    apply(&mut world, &migration);
    let (snapshot, _) = look(&mut world);
    assert_eq!(snapshot.migrations.len(), 1);
    assert_eq!(snapshot.unfinished_migration(&db()), None);
    migration["metadata"]["labels"] = json!({});
    apply(&mut world, &migration);
    assert!(look(&mut world).0.migrations.is_empty());
}

#[test]
fn evacuations_wait_until_they_hold_a_slot() {
    let mut world = at_rest();
    assert_eq!(look(&mut world).0.evacuations_waiting, 0);
    apply(&mut world, &vmi(&[("/status/evacuationNodeName", json!("node-a"))]));
    assert_eq!(look(&mut world).0.evacuations_waiting, 1);
    let mut migration = object("VirtualMachineInstanceMigration", "miyako-def");
    migration["metadata"]["name"] = json!("kubevirt-evacuation-x");
    migration["metadata"]["labels"] = json!({});
    migration["spec"]["priority"] = json!("system-critical");
    migration["status"]["phase"] = json!("Pending");
    apply(&mut world, &migration);
    let (snapshot, _) = look(&mut world);
    assert_eq!(snapshot.evacuations_waiting, 1, "one VM, however it is known");
    assert!(snapshot.migrations.values().all(|migration| migration.system));
    migration["status"]["phase"] = json!("Running");
    apply(&mut world, &migration);
    assert_eq!(look(&mut world).0.evacuations_waiting, 0);
}

#[test]
fn kubevirt_is_judged_with_its_rollout() {
    let mut world = at_rest();
    let kubevirt = look(&mut world).0.kubevirt.clone();
    assert_eq!((kubevirt.problem, kubevirt.parallel_per_cluster, kubevirt.rolling_out), (None, 7, false));
    apply(&mut world, &changed(object("DaemonSet", "virt-handler"), &[("/status/updatedNumberScheduled", json!(1))]));
    let (snapshot, policies) = look(&mut world);
    assert!(snapshot.kubevirt.rolling_out);
    assert!(policies.policies[&PolicyName::new("shop")].held.as_ref().unwrap().starts_with("KubeVirtUpgrade"));
    remove(&mut world, &object("KubeVirt", "kubevirt"));
    assert_eq!(look(&mut world).0.kubevirt.problem, Some(KubeVirtProblem::Missing));
}

#[test]
fn plans_are_kept_until_they_are_over_and_remembered_after() {
    let mut world = at_rest();
    let (snapshot, _) = look(&mut world);
    let plan = snapshot.plans.values().next().unwrap();
    assert_eq!((plan.phase, plan.needs_approval, plan.steps.len()), (PlanPhase::Running, false, 1));
    let moves = snapshot.history.of(&Uid::new("vmi-db")).unwrap().clone();
    assert_eq!((moves.within_a_day(NOW), moves.failures), (1, 1));
    apply(&mut world, &changed(object("ConsolidationPlan", "shop-1"), &[("/status/phase", json!("Failed"))]));
    let (snapshot, _) = look(&mut world);
    assert!(snapshot.plans.is_empty());
    assert_eq!(snapshot.history.of(&Uid::new("vmi-db")), Some(&moves));
    remove(&mut world, &object("ConsolidationPlan", "shop-1"));
    assert!(look(&mut world).0.history.vms.is_empty());
}

#[test]
fn a_policy_is_judged_by_its_classes_its_hours_and_its_neighbours() {
    let mut world = at_rest();
    let policy = |world: &mut World, at: Timestamp| {
        world.refresh(at);
        world.view().1.policies[&PolicyName::new("shop")].clone()
    };
    let hour = |count: u64| Span::from_secs(count * 3600);
    let night = policy(&mut world, NOW);
    assert_eq!((night.in_schedule, night.schedule_changes), (true, Some(NOW + hour(6))));
    let day = policy(&mut world, NOW + hour(6));
    assert_eq!((day.in_schedule, day.schedule_changes), (false, Some(NOW + hour(22))));
    assert!(policy(&mut world, NOW + hour(5)).in_schedule, "the clock was set back");
    assert_eq!((night.invalid, night.held, night.rival), (None, None, None));
    remove(&mut world, &object("NodePowerClass", "shared"));
    assert!(policy(&mut world, NOW).invalid.unwrap().contains("no NodePowerClass shared"));
    apply(&mut world, &changed(object("Node", "node-b"), &[("/status/nodeInfo/kubeletVersion", json!("v1.37.0"))]));
    assert!(policy(&mut world, NOW).held.unwrap().starts_with("ClusterUpgrade"));
    let mut descheduler = object("Pod", "virt-handler-a");
    descheduler["metadata"]["name"] = json!("descheduler-x");
    descheduler["metadata"]["labels"] = json!({"app.kubernetes.io/name": "descheduler"});
    apply(&mut world, &descheduler);
    assert!(policy(&mut world, NOW).rival.unwrap().contains("kubevirt/descheduler-x"));
    descheduler["status"]["phase"] = json!("Succeeded");
    apply(&mut world, &descheduler);
    assert_eq!(policy(&mut world, NOW).rival, None);
}

#[test]
fn quotas_and_switches_are_where_the_planner_looks() {
    let mut world = at_rest();
    let (snapshot, _) = look(&mut world);
    let shop = &snapshot.namespaces[&Name::from("shop")];
    assert_eq!(shop.quotas[0].hard["requests.memory"], (64_u128 << 30) * 1000);
    assert_eq!(snapshot.switches.held.as_deref(), Some("ana: upgrade tonight"));
    assert_eq!(snapshot.switches.paused, None);
    remove(&mut world, &object("ConfigMap", "miyako-switches"));
    remove(&mut world, &object("ResourceQuota", "room"));
    let (snapshot, _) = look(&mut world);
    let held = snapshot.switches.held.as_deref().unwrap();
    assert!(held.starts_with("ana: upgrade tonight; its ConfigMap was deleted"), "a deletion releases nothing: {held}");
    assert!(snapshot.namespaces[&Name::from("shop")].quotas.is_empty());
}
