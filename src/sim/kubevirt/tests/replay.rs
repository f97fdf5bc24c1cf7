//! The same seed gives the same run, byte for byte.

use super::*;
use crate::sim::kubevirt::Fault;
use miyako_core::model::VmKey;

/// A busy quarter of an hour; what the API server was asked, and what it holds in the end.
async fn run(seed: u64) -> (String, String) {
    let world = world_of(5, WorldSettings { seed, journal: true, ..WorldSettings::default() }).await;
    for index in 0..12 {
        add_vm(&world, &format!("vm-{index}"), &format!("n{}", 1 + index % 4)).await;
    }
    let fault = Fault::Fail { after: Duration::from_secs(2), reason: "broken".into() };
    world.hands.lock().unwrap().break_vm(VmKey::new(NAMESPACE, "vm-3"), fault);
    for index in 0..12 {
        ask(&world, &format!("m-{index}"), &format!("vm-{index}"), Some("n5")).await.unwrap();
        sleep(0.7).await;
    }
    patch_vmi(&world, "vm-11", json!({"status": {"evacuationNodeName": "n4"}})).await;
    cancel(&world, "m-7").await;
    sleep(900.0).await;
    let journal: Vec<String> = world.server.journal().iter().map(|request| format!("{request:?}")).collect();
    let kinds = [
        ("kubevirt.io", "virtualmachineinstances"),
        ("kubevirt.io", "virtualmachineinstancemigrations"),
        ("", "pods"),
        ("", "events"),
    ];
    let stored = world.server.view(|view| {
        let all = kinds.iter().flat_map(|(group, plural)| view.list(group, plural, ""));
        all.map(Value::to_string).collect::<Vec<_>>().join("\n")
    });
    (journal.join("\n"), stored)
}

/// Runs it on a runtime of its own, so that nothing is left over from another run.
fn alone(seed: u64) -> (String, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(run(seed))
}

fn assert_same(what: &str, one: &str, other: &str) {
    for (number, (one, other)) in one.lines().zip(other.lines()).enumerate() {
        assert_eq!(one, other, "{what}, line {number}");
    }
    assert_eq!(one.lines().count(), other.lines().count(), "{what}");
}

#[test]
fn the_same_seed_gives_the_same_requests_and_objects() {
    let (first, second) = (alone(7), alone(7));
    assert!(first.0.lines().count() > 500, "{} requests", first.0.lines().count());
    assert_same("requests", &first.0, &second.0);
    assert_same("objects", &first.1, &second.1);
}

#[test]
fn another_seed_gives_another_run() {
    assert_ne!(alone(7).1, alone(8).1);
}
