//! Whatever objects hold, the picture stands: no panic, no failed pass, and the same whatever the way it came about.

use super::{NOW, apply, cluster, look, remove, see, world_of};
use crate::observe::{
    seen::{Kind, Update, Version},
    world::World,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Values that people and programs write where they should not.
fn junk() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!("")),
        Just(json!("NaN")),
        Just(json!("-1")),
        Just(json!("1e400")),
        Just(json!("9999999999999999999999999Ei")),
        Just(json!("\u{0}\u{202e}/..")),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null, 3, "x", {"name": null}])),
        Just(json!({"a": {"b": [1]}})),
        Just(json!(-5)),
        Just(json!(1e300)),
        Just(json!(u64::MAX)),
        Just(json!(true)),
        Just(json!("9999-12-31T23:59:59Z")),
        Just(json!("0001-01-01T00:00:00Z")),
        Just(json!("x".repeat(10_000))),
        ".{0,20}".prop_map(Value::String),
        any::<i64>().prop_map(Value::from),
    ]
}

/// Where in an object something is replaced: at each level one of its children, chosen by a number.
fn replace(object: &mut Value, path: &[usize], with: &Value) {
    let Some((first, rest)) = path.split_first() else {
        *object = with.clone();
        return;
    };
    match object {
        Value::Object(fields) if !fields.is_empty() => {
            let at = first % fields.len();
            if let Some((_, child)) = fields.iter_mut().nth(at) {
                replace(child, rest, with);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = first % items.len();
            replace(&mut items[at], rest, with);
        }
        leaf => *leaf = with.clone(),
    }
}

/// An object of the cluster with some of its parts replaced by junk. Its kind stays: the watch knows it.
fn spoilt() -> impl Strategy<Value = Value> {
    let parts = prop::collection::vec((prop::collection::vec(0..64_usize, 1..8), junk()), 1..4);
    (0..cluster().len(), parts).prop_map(|(which, parts)| {
        let mut object = cluster().swap_remove(which);
        let kind = object["kind"].clone();
        for (path, with) in parts {
            replace(&mut object, &path, &with);
        }
        if let Value::Object(fields) = &mut object {
            fields.insert("kind".into(), kind);
        }
        object
    })
}

/// Renders what the planner would see. Arcs that share a value print alike. A switch stays on whatever became of its
/// object, and only who knew a spec before can tell that it changed: these two depend on the way, and are left out.
fn picture(world: &mut World) -> String {
    let (snapshot, policies) = look(world);
    let (mut snapshot, mut policies) = (snapshot.clone(), policies.clone());
    snapshot.switches = Default::default();
    policies.policies.values_mut().for_each(|policy| policy.changed = Default::default());
    format!("{snapshot:#?}\n{policies:#?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn spoilt_objects_never_panic(object in spoilt()) {
        let mut world = world_of(&cluster());
        apply(&mut world, &object);
        look(&mut world);
        remove(&mut world, &object);
        look(&mut world);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever came and went in whatever order, the picture is that of what is there now.
    #[test]
    fn the_way_does_not_matter(
        changes in prop::collection::vec((0..cluster().len(), any::<bool>(), prop::option::of(spoilt())), 1..40),
        looks in prop::collection::vec(any::<bool>(), 40),
    ) {
        let objects = cluster();
        let mut there: Vec<Option<Value>> = objects.iter().cloned().map(Some).collect();
        let mut world = world_of(&objects);
        for ((which, stays, other), looked) in changes.into_iter().zip(looks) {
            let before = &objects[which];
            // A spoilt object counts as that object only if it still bears its name and can be told from others.
            let other = other.filter(|other| {
                other["kind"] == before["kind"] && other["metadata"]["name"] == before["metadata"]["name"]
                    && other["metadata"]["namespace"] == before["metadata"]["namespace"]
            });
            let now = other.unwrap_or_else(|| before.clone());
            if stays {
                apply(&mut world, &now);
                there[which] = Some(now);
            } else {
                remove(&mut world, before);
                there[which] = None;
            }
            if looked {
                look(&mut world);
            }
        }
        let left: Vec<_> = there.into_iter().flatten().collect();
        prop_assert_eq!(picture(&mut world), picture(&mut world_of(&left)));
        // Listing the same again changes nothing.
        let before = picture(&mut world);
        let seen: Vec<_> = left.iter().map(see).collect();
        for kind in Kind::ALL {
            let all = seen.iter().filter(|(of, _)| *of == kind).map(|(_, seen)| seen.clone()).collect();
            world.apply(kind, Update::All(all, Version(5000)), NOW);
        }
        prop_assert_eq!(picture(&mut world), before);
    }
}

#[test]
fn an_unreadable_object_is_a_problem_and_not_a_gap_in_the_rest() {
    let mut world = world_of(&cluster());
    let before = look(&mut world).0.pods.len();
    let mut pod = super::object("Pod", "virt-launcher-db-1");
    pod["spec"]["containers"] = json!("none");
    apply(&mut world, &pod);
    let (snapshot, _) = look(&mut world);
    assert_eq!(snapshot.pods.len(), before - 1);
    let problems: Vec<_> =
        world.problems().map(|(kind, key, problems)| (kind, key.to_string(), problems.len())).collect();
    assert_eq!(problems, [(Kind::Pod, "shop/virt-launcher-db-1".to_owned(), 1)]);
    apply(&mut world, &super::object("Pod", "virt-launcher-db-1"));
    assert_eq!(world.problems().count(), 0);
}

#[test]
fn a_megabyte_of_junk_in_a_policy_only_makes_it_invalid() {
    let mut world = world_of(&cluster());
    let mut policy = super::object("ConsolidationPolicy", "shop");
    policy["spec"]["schedules"] = json!([{"name": "n", "cron": "x ".repeat(500_000), "duration": "1h"}]);
    apply(&mut world, &policy);
    let policy = look(&mut world).1.policies.values().next().unwrap().clone();
    assert!(policy.invalid.is_some_and(|message| message.len() < 2000));
    let mut policy = super::object("ConsolidationPolicy", "shop");
    policy["spec"]["nodeClasses"] = json!({"junk": "y".repeat(1_000_000)});
    apply(&mut world, &policy);
    let policy = look(&mut world).1.policies.values().next().unwrap().clone();
    assert!(policy.invalid.is_some_and(|message| message.len() < 2000));
}
