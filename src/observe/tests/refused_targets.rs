//! A target pod that the API server refuses: only an Event about the VM tells, and it must be about this migration.

use super::{NOW, apply, cluster, look, object, remove, world_of};
use crate::observe::world::World;
use miyako_core::model::{MigrationName, TargetTrouble};
use serde_json::{Value, json};

/// The small cluster, whose migration still waits for its target.
fn waiting() -> World {
    let objects = cluster().into_iter().filter(|object| object["metadata"]["name"] != "virt-launcher-db-2");
    world_of(
        &objects
            .map(|object| if object["metadata"]["name"] == "miyako-def" { pending() } else { object })
            .collect::<Vec<_>>(),
    )
}

fn pending() -> Value {
    let mut migration = object("VirtualMachineInstanceMigration", "miyako-def");
    (migration["status"], migration["metadata"]["resourceVersion"]) = (json!({"phase": "Pending"}), json!("31"));
    migration
}

/// An Event so many seconds after the migration was created.
fn event(name: &str, after: i64, words: &str) -> Value {
    let at = |seconds: i64| {
        let moment = crate::time::to_api(NOW).0 + jiff::SignedDuration::from_secs(seconds);
        json!(moment.to_string())
    };
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "40", "creationTimestamp": at(after)},
        "involvedObject": {"kind": "VirtualMachineInstance", "namespace": "shop", "name": "db", "uid": "vmi-db"},
        "reason": "FailedCreate", "type": "Warning", "count": 1, "message": format!("Error creating pod: {words}"),
        "firstTimestamp": at(after), "lastTimestamp": at(after),
    })
}

fn trouble(world: &mut World) -> Option<TargetTrouble> {
    look(world).0.migrations[&MigrationName::new("shop", "miyako-def")].trouble.clone()
}

#[test]
fn an_event_that_is_newer_than_the_migration_tells_that_its_target_is_refused() {
    let mut world = waiting();
    assert_eq!(trouble(&mut world), None, "one that only waits looks the same otherwise");
    apply(&mut world, &event("e1", 2, "no"));
    assert_eq!(trouble(&mut world), Some(TargetTrouble::NotCreated("no".into())));
    apply(&mut world, &event("e2", 5, "no, and why"));
    assert_eq!(trouble(&mut world), Some(TargetTrouble::NotCreated("no, and why".into())), "the last words");
    // KubeVirt gets on by itself when the cause has gone.
    let mut scheduling = pending();
    scheduling["status"]["phase"] = json!("Scheduling");
    apply(&mut world, &scheduling);
    assert_eq!(trouble(&mut world), None);
}

#[test]
fn the_same_event_written_again_is_news() {
    let mut world = waiting();
    let mut old = event("e1", -60, "no");
    apply(&mut world, &old);
    assert_eq!(trouble(&mut world), None);
    old["lastTimestamp"] = event("e1", 3, "no")["lastTimestamp"].clone();
    (old["count"], old["metadata"]["resourceVersion"]) = (json!(2), json!("41"));
    apply(&mut world, &old);
    assert!(trouble(&mut world).is_some());
    remove(&mut world, &old);
    apply(&mut world, &pending());
    assert_eq!(trouble(&mut world), None);
}

#[test]
fn news_of_an_earlier_migration_or_of_another_vm_tells_nothing() {
    let mut world = waiting();
    apply(&mut world, &event("earlier", -1, "no"));
    apply(&mut world, &event("same-second", 0, "it may be about the one before"));
    let mut other = event("other", 5, "no");
    other["involvedObject"]["uid"] = json!("an-earlier-vmi");
    apply(&mut world, &other);
    let mut plug = event("plug", 5, "no");
    plug["message"] = json!("Error creating attachment pod: no");
    apply(&mut world, &plug);
    assert_eq!(trouble(&mut world), None);
    // The Event came late: its last writing is new, what it tells is old.
    let mut late = event("late", -5, "no");
    late["metadata"]["managedFields"] =
        json!([{"manager": "virt-controller", "time": event("", 5, "")["lastTimestamp"]}]);
    apply(&mut world, &late);
    assert_eq!(trouble(&mut world), None);
    // virt-controller's clock is an hour ahead: the API server's own tells.
    let mut ahead = event("ahead", 3600, "no");
    ahead["metadata"]["managedFields"] =
        json!([{"manager": "virt-controller", "time": event("", -5, "")["lastTimestamp"]}]);
    apply(&mut world, &ahead);
    assert_eq!(trouble(&mut world), None);
}
