//! Own writes are in the picture at once, and no older news undoes them.

use super::{NOW, apply, cluster, look, object, see, world_of};
use crate::observe::{
    EXPECTED_WITHIN, TOO_LONG,
    seen::{Kind, Update, Version},
    world::World,
};
use miyako_core::model::{MigrationMode, Span, VmKey};
use serde_json::{Value, json};

const KIND: Kind = Kind::VirtualMachineInstanceMigration;

/// A migration of ours, as the API server answered our request for it.
fn migration(version: u64) -> Value {
    let mut migration = object("VirtualMachineInstanceMigration", "miyako-def");
    migration["metadata"]["name"] = json!("miyako-new");
    migration["metadata"]["uid"] = json!("mig-new");
    migration["metadata"]["resourceVersion"] = json!(version.to_string());
    migration["status"] = json!({});
    migration
}

fn write(world: &mut World, object: &Value) {
    let (kind, seen) = see(object);
    world.written(kind, seen, NOW);
}

fn count(world: &mut World) -> usize {
    look(world).0.migrations.len()
}

fn gone(world: &mut World, object: &Value, version: u64) {
    let (kind, seen) = see(object);
    world.apply(kind, Update::Gone(seen.key, seen.uid, Version(version)), NOW);
}

#[test]
fn an_own_write_shows_at_once_and_is_forgotten_when_the_watch_tells_it() {
    let mut world = world_of(&cluster());
    write(&mut world, &migration(2000));
    assert_eq!((count(&mut world), world.expected()), (2, 1));
    apply(&mut world, &migration(2000));
    assert_eq!((count(&mut world), world.expected()), (2, 0));
}

#[test]
fn older_news_does_not_undo_an_own_write() {
    let mut world = world_of(&cluster());
    let mut vmi = object("VirtualMachineInstance", "db");
    vmi["metadata"]["labels"]["miyako.dev/migration-mode"] = json!("pre-copy");
    vmi["metadata"]["resourceVersion"] = json!("2000");
    write(&mut world, &vmi);
    let mode = |world: &mut World| look(world).0.vms[&VmKey::new("shop", "db")].mode_label;
    // The VMI as it was before, told late.
    apply(&mut world, &object("VirtualMachineInstance", "db"));
    assert_eq!((mode(&mut world), world.expected()), (Some(MigrationMode::PreCopy), 1));
    vmi["metadata"]["labels"]["miyako.dev/migration-mode"] = json!("post-copy");
    vmi["metadata"]["resourceVersion"] = json!("2001");
    apply(&mut world, &vmi);
    assert_eq!((mode(&mut world), world.expected()), (Some(MigrationMode::PostCopy), 0));
}

#[test]
fn a_list_from_before_the_write_does_not_undo_it_and_one_from_after_does() {
    let mut world = world_of(&cluster());
    write(&mut world, &migration(2000));
    let listed = vec![see(&object("VirtualMachineInstanceMigration", "miyako-def")).1];
    world.apply(KIND, Update::All(listed.clone(), Version(1999)), NOW);
    assert_eq!((count(&mut world), world.expected()), (2, 1));
    world.apply(KIND, Update::All(listed, Version(2001)), NOW);
    assert_eq!((count(&mut world), world.expected()), (1, 0));
}

#[test]
fn a_deletion_is_not_undone_by_older_news_but_a_successor_of_that_name_shows() {
    let mut world = world_of(&cluster());
    let (kind, seen) = see(&object("VirtualMachineInstanceMigration", "miyako-def"));
    world.deleted(kind, seen.key.clone(), seen.uid.clone(), NOW);
    apply(&mut world, &object("VirtualMachineInstanceMigration", "miyako-def"));
    assert_eq!((count(&mut world), world.expected()), (0, 1));
    gone(&mut world, &object("VirtualMachineInstanceMigration", "miyako-def"), 2000);
    assert_eq!((count(&mut world), world.expected()), (0, 0));
    world.deleted(kind, seen.key, seen.uid, NOW);
    let mut successor = object("VirtualMachineInstanceMigration", "miyako-def");
    successor["metadata"]["uid"] = json!("another");
    apply(&mut world, &successor);
    assert_eq!((count(&mut world), world.expected()), (1, 0));
}

#[test]
fn the_end_of_an_earlier_object_of_that_name_is_older_news() {
    let mut world = world_of(&cluster());
    write(&mut world, &migration(2000));
    gone(&mut world, &migration(1500), 1999);
    assert_eq!((count(&mut world), world.expected()), (2, 1));
    gone(&mut world, &migration(2000), 2005);
    assert_eq!((count(&mut world), world.expected()), (1, 0));
}

#[test]
fn what_does_not_show_up_is_read_directly_and_the_answer_counts() {
    let mut world = world_of(&cluster());
    write(&mut world, &migration(2000));
    assert!(world.overdue(NOW).is_empty());
    let late = NOW + EXPECTED_WITHIN;
    let overdue = world.overdue(late);
    assert_eq!(overdue.len(), 1);
    assert!(world.overdue(late).is_empty(), "asked for once in a while, not every tick");
    assert_eq!(world.overdue(late + EXPECTED_WITHIN).len(), 1);
    let (kind, key) = overdue.into_iter().next().unwrap();
    world.apply(kind, Update::Read(key, None), late);
    assert_eq!((count(&mut world), world.expected()), (1, 0));
}

#[test]
fn a_clock_that_is_set_back_does_not_keep_an_expectation_for_hours() {
    let mut world = world_of(&cluster());
    write(&mut world, &migration(2000));
    assert_eq!(world.overdue(NOW - Span::from_secs(7200)).len(), 1);
}

#[test]
fn a_watch_that_fails_for_too_long_leaves_the_picture_incomplete() {
    let mut world = world_of(&cluster());
    let incomplete = |world: &mut World, at| {
        world.refresh(at);
        world.view().0.incomplete.clone()
    };
    world.apply(Kind::Pod, Update::Failed("connection refused".into()), NOW);
    assert_eq!(incomplete(&mut world, NOW + TOO_LONG), None);
    world.apply(Kind::Pod, Update::Failed("connection refused".into()), NOW + TOO_LONG);
    let why = incomplete(&mut world, NOW + TOO_LONG + Span::from_secs(1)).unwrap();
    assert!(why.contains("Pod") && why.contains("connection refused"), "{why}");
    world.apply(Kind::Pod, Update::Alive, NOW + TOO_LONG + TOO_LONG);
    assert_eq!(incomplete(&mut world, NOW + TOO_LONG + TOO_LONG), None);
}

#[test]
fn nothing_is_complete_before_all_is_listed() {
    let mut world = World::new();
    for kind in Kind::ALL {
        assert!(!world.synced());
        let why = look(&mut world).0.incomplete.clone().unwrap();
        assert!(why.contains(&kind.to_string()), "{why}");
        world.apply(kind, Update::All(Vec::new(), Version(1)), NOW);
    }
    assert!(world.synced());
    assert_eq!(look(&mut world).0.incomplete, None);
}

#[test]
fn kinds_that_come_with_kubevirt_may_be_missing_and_ours_may_not() {
    assert!(Kind::CronJob.may_be_unknown(), "of it only deschedulers matter");
    let mut world = World::new();
    for kind in Kind::ALL {
        if kind.may_be_unknown() {
            world.apply(kind, Update::Unknown, NOW);
        } else {
            world.apply(kind, Update::All(Vec::new(), Version(1)), NOW);
        }
    }
    assert!(world.synced());
    assert!(look(&mut world).0.kubevirt.problem.is_some());
    world.apply(Kind::ConsolidationPlan, Update::Unknown, NOW);
    assert!(!world.synced());
    assert!(look(&mut world).0.incomplete.as_ref().unwrap().contains("install Miyako's CRDs"));
}
