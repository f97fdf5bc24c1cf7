//! What holds, for whom, and for how long.

use super::{NOW, apply, cluster, object, remove, world_of};
use crate::observe::world::World;
use miyako_core::model::{
    Concern, Hold, HoldKind, MigrationMode, NodeName, Policy, PolicyName, Snapshot, Span, Timestamp, VmActivity, VmKey,
};
use serde_json::{Value, json};

fn at_rest() -> World {
    let quiet = |object: &Value| {
        object["kind"] != "VirtualMachineInstanceMigration" && object["metadata"]["name"] != "virt-launcher-db-2"
    };
    world_of(&cluster().into_iter().filter(quiet).collect::<Vec<_>>())
}

fn minutes(count: u64) -> Span {
    Span::from_secs(count * 60)
}

fn at(world: &mut World, moment: Timestamp) -> (Snapshot, Policy) {
    world.refresh(moment);
    let (snapshot, policies) = world.view();
    (snapshot.clone(), policies.policies[&PolicyName::new("shop")].clone())
}

fn hold(world: &mut World, kind: HoldKind, moment: Timestamp) -> Option<Hold> {
    at(world, moment).0.holds.into_iter().find(|hold| hold.kind == kind)
}

fn vmi(change: impl FnOnce(&mut Value)) -> Value {
    let mut vmi = object("VirtualMachineInstance", "db");
    change(&mut vmi);
    vmi
}

fn marked(change: impl FnOnce(&mut Value)) -> World {
    let mut world = at_rest();
    let vmi = vmi(|vmi| {
        vmi["status"]["evacuationNodeName"] = json!("node-a");
        change(vmi);
    });
    apply(&mut world, &vmi);
    world
}

#[test]
fn a_mark_that_kubevirt_will_never_act_on_concerns_that_vm_alone() {
    let not_migratable = json!([{"type": "LiveMigratable", "status": "False", "reason": "DisksNotLiveMigratable"}]);
    let mut worlds = [
        (marked(|vmi| vmi["spec"]["evictionStrategy"] = json!("External")), "External"),
        (marked(|vmi| vmi["status"]["conditions"] = not_migratable), "DisksNotLiveMigratable"),
    ];
    for (world, why) in &mut worlds {
        let (snapshot, _) = at(world, NOW);
        assert_eq!(snapshot.evacuations_waiting, 0, "{why}");
        assert_eq!(snapshot.vms[&VmKey::new("shop", "db")].activity, Some(VmActivity::Evacuating), "it stays itself");
        let young = hold(world, HoldKind::Evacuation, NOW).expect("it is listed");
        assert!(!young.holds_all && !young.overdue, "{young:?}");
        let old = hold(world, HoldKind::Evacuation, NOW + minutes(20)).unwrap();
        assert!(old.overdue && !old.holds_all && old.since == NOW, "{old:?}");
        assert_eq!(old.concerns, Concern::Vm(VmKey::new("shop", "db")));
        assert!(old.detail.contains(*why) && old.detail.contains("node-a"), "{old}");
        assert!(old.cure.contains("virtctl evacuate-cancel vm db -n shop"), "{}", old.cure);
    }
}

#[test]
fn an_evacuation_goes_first_while_it_can_be_waiting_for_a_slot() {
    let mut world = marked(|_| {});
    assert_eq!(at(&mut world, NOW).0.evacuations_waiting, 1);
    assert_eq!(at(&mut world, NOW + minutes(14)).0.evacuations_waiting, 1);
    // Slots have been free for all that time, so it waits for something else.
    let (snapshot, _) = at(&mut world, NOW + minutes(15));
    assert_eq!(snapshot.evacuations_waiting, 0);
    assert!(snapshot.holds[0].overdue);
    // Its node's two slots are taken by others: it waits for them, however long that takes.
    for other in ["x", "y"] {
        let mut migration = object("VirtualMachineInstanceMigration", "miyako-def");
        migration["metadata"] = json!({"name": other, "namespace": "shop", "uid": other, "resourceVersion": "90"});
        migration["spec"] = json!({"vmiName": other});
        migration["status"] = json!({"phase": "Running", "migrationState": {"sourceNode": "node-a"}});
        apply(&mut world, &migration);
    }
    assert_eq!(at(&mut world, NOW + minutes(60)).0.evacuations_waiting, 1);
    // A mark that goes and comes is a new one.
    apply(&mut world, &object("VirtualMachineInstance", "db"));
    assert_eq!(hold(&mut world, HoldKind::Evacuation, NOW + minutes(61)), None);
}

#[test]
fn a_restarted_operator_knows_since_when_something_holds() {
    let mut objects: Vec<Value> = cluster();
    objects.retain(|object| object["kind"] != "VirtualMachineInstanceMigration");
    for object in &mut objects {
        if object["kind"] == "VirtualMachineInstance" {
            object["status"]["evacuationNodeName"] = json!("node-a");
        }
        if object["kind"] == "ConsolidationPolicy" {
            let since = "2026-01-01T00:00:00Z";
            object["status"] = json!({"holds": [
                {"reason": "Evacuation", "key": "shop/db", "since": since, "message": "weeks"},
                {"reason": "Evacuation", "key": "shop/other", "since": since, "message": "over"},
            ]});
        }
    }
    let found = hold(&mut world_of(&objects), HoldKind::Evacuation, NOW).unwrap();
    assert!(found.overdue && NOW.since(found.since) == Span::from_secs(4 * 86_400), "{found:?}");
}

#[test]
fn a_migration_whose_object_is_gone_is_over_once_all_watches_have_caught_up() {
    let mut world = at_rest();
    let key = VmKey::new("shop", "db");
    let lost = vmi(|vmi| vmi["status"]["migrationState"] = json!({"migrationUid": "lost", "sourceNode": "node-a"}));
    apply(&mut world, &lost);
    assert_eq!(at(&mut world, NOW).0.vms[&key].activity, Some(VmActivity::MigrationVanished));
    assert_eq!(at(&mut world, NOW + Span::from_secs(59)).0.vms[&key].activity, Some(VmActivity::MigrationVanished));
    let vm = at(&mut world, NOW + Span::from_secs(60)).0.vms[&key].clone();
    assert_eq!((vm.activity, vm.last_migration.unwrap().failed), (None, true));
    // Told anew it is no younger.
    apply(&mut world, &lost);
    assert_eq!(at(&mut world, NOW + Span::from_secs(61)).0.vms[&key].activity, None);
    // A second launcher, or the object after all, shows that it goes on.
    let mut target = object("Pod", "virt-launcher-db-2");
    target["spec"]["nodeName"] = json!("node-b");
    apply(&mut world, &target);
    let vm = at(&mut world, NOW + Span::from_secs(62)).0.vms[&key].clone();
    assert_eq!((vm.activity, vm.last_migration.unwrap().failed), (Some(VmActivity::Migrating), false));
    assert_eq!(vm.mode_label, Some(MigrationMode::PostCopy), "nothing else of it changed");
}

fn node(name: &str, kubelet: &str, down_since: Option<Timestamp>) -> Value {
    let mut node = object("Node", name);
    node["metadata"]["labels"]["kubevirt.io/schedulable"] = json!("true");
    node["status"]["nodeInfo"]["kubeletVersion"] = json!(kubelet);
    if let Some(since) = down_since {
        node["status"]["conditions"] =
            json!([{"type": "Ready", "status": "Unknown", "lastTransitionTime": since.to_string()}]);
    }
    node
}

#[test]
fn a_dead_node_with_an_old_kubelet_holds_nobody() {
    let mut world = at_rest();
    let held = |world: &mut World, moment| at(world, moment).1.held;
    // It sleeps: the upgrade is still to come to it.
    apply(&mut world, &node("node-b", "v1.35.0", Some(NOW - minutes(600))));
    assert!(held(&mut world, NOW).unwrap().starts_with("ClusterUpgrade"));
    // It is dead.
    remove(&mut world, &object("NodePower", "node-b"));
    assert_eq!(held(&mut world, NOW), None);
    // It has just begun to restart.
    apply(&mut world, &node("node-b", "v1.35.0", Some(NOW - minutes(1))));
    assert!(held(&mut world, NOW).is_some());
    // Both live, and the upgrade stands still.
    apply(&mut world, &node("node-b", "v1.35.0", None));
    assert!(held(&mut world, NOW + minutes(23 * 60)).is_some());
    assert_eq!(held(&mut world, NOW + minutes(25 * 60)), None);
    let old = hold(&mut world, HoldKind::ClusterUpgrade, NOW + minutes(25 * 60)).unwrap();
    assert!(old.overdue && old.detail.contains("v1.35.0 on 1 nodes"), "{old:?}");
    // Whatever changes is progress.
    apply(&mut world, &node("node-b", "v1.37.0", None));
    assert!(held(&mut world, NOW + minutes(25 * 60 + 1)).is_some());
}

fn virt_handler(desired: u32, updated: u32) -> Value {
    let mut handler = object("DaemonSet", "virt-handler");
    handler["status"]["desiredNumberScheduled"] = json!(desired);
    handler["status"]["updatedNumberScheduled"] = json!(updated);
    handler
}

#[test]
fn a_rollout_of_virt_handler_that_only_a_dead_node_lacks_is_over() {
    let mut world = at_rest();
    remove(&mut world, &object("NodePower", "node-b"));
    apply(&mut world, &virt_handler(2, 1));
    let (snapshot, policy) = at(&mut world, NOW);
    assert!(snapshot.kubevirt.rolling_out && policy.held.unwrap().starts_with("KubeVirtUpgrade"));
    apply(&mut world, &node("node-b", "v1.36.3", Some(NOW - minutes(4))));
    assert!(at(&mut world, NOW).0.kubevirt.rolling_out, "it may come back");
    assert!(!at(&mut world, NOW + minutes(1)).0.kubevirt.rolling_out);
    assert_eq!(at(&mut world, NOW + minutes(1)).1.held, None);
    // With two of them to go, one is alive.
    apply(&mut world, &virt_handler(3, 1));
    assert!(at(&mut world, NOW + minutes(2)).0.kubevirt.rolling_out);
}

#[test]
fn a_rollout_that_only_sleeping_nodes_lack_wakes_them_and_stops_no_move() {
    let mut world = at_rest();
    apply(&mut world, &node("node-b", "v1.36.3", Some(NOW - minutes(600))));
    apply(&mut world, &virt_handler(2, 1));
    let (snapshot, policy) = at(&mut world, NOW);
    assert!(!snapshot.kubevirt.rolling_out);
    assert!(policy.held.unwrap().starts_with("KubeVirtUpgrade"), "a policy that waits for upgrades wakes it");
    let later = hold(&mut world, HoldKind::KubeVirtRollout, NOW + minutes(600)).unwrap();
    assert!(!later.overdue, "it gets the new pod when it wakes: {later:?}");
}

#[test]
fn a_rollout_that_stands_still_is_told_and_holds_nobody_any_more() {
    let mut world = at_rest();
    remove(&mut world, &object("NodePower", "node-b"));
    apply(&mut world, &node("node-b", "v1.36.3", None));
    apply(&mut world, &virt_handler(9, 1));
    assert!(at(&mut world, NOW).0.kubevirt.rolling_out);
    apply(&mut world, &virt_handler(9, 2));
    assert!(at(&mut world, NOW + minutes(29)).0.kubevirt.rolling_out);
    assert!(at(&mut world, NOW + minutes(58)).0.kubevirt.rolling_out, "it had made progress");
    let (snapshot, policy) = at(&mut world, NOW + minutes(59));
    assert!(!snapshot.kubevirt.rolling_out && policy.held.is_none());
    let old = hold(&mut world, HoldKind::KubeVirtRollout, NOW + minutes(59)).unwrap();
    assert!(old.overdue && old.detail.contains("on 2 of 9 nodes"), "{old:?}");
    assert_eq!(old.concerns, Concern::Nodes(vec![NodeName::new("node-b")]), "where virt-handler is not ready");
}

#[test]
fn a_snapshot_that_never_ends_holds_its_vm_alone_after_an_hour_and_a_backup_after_twelve() {
    let mut world = at_rest();
    let mut machine = object("VirtualMachine", "db");
    machine["status"]["snapshotInProgress"] = json!("nightly");
    apply(&mut world, &machine);
    assert!(at(&mut world, NOW).1.backup.is_some());
    assert!(at(&mut world, NOW + minutes(59)).1.backup.is_some());
    assert_eq!(at(&mut world, NOW + minutes(60)).1.backup, None);
    assert!(hold(&mut world, HoldKind::Backup, NOW + minutes(60)).unwrap().overdue);
    let mut world = at_rest();
    let backup = json!({"backupStatus": {"startTimestamp": (NOW - minutes(11 * 60)).to_string(), "completed": false}});
    apply(&mut world, &vmi(|vmi| vmi["status"]["changedBlockTracking"] = backup));
    assert!(at(&mut world, NOW).1.backup.is_some());
    let late = at(&mut world, NOW + minutes(61)).0;
    assert_eq!(late.vms[&VmKey::new("shop", "db")].activity, Some(VmActivity::BackingUp), "it stays itself");
    assert!(late.holds.iter().any(|hold| hold.overdue && NOW.since(hold.since) == minutes(11 * 60)));
}
