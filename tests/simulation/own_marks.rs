//! What we write on others' objects is there only while we need it, and says what we mean.

use super::{begin, moves, node_of, one_busy_vm, run, unfinished};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use miyako::sim::kubevirt::Fault;
use miyako::sim::simulation::{Simulation, USER};
use miyako_api::kubevirt::{MigrationPolicy, VirtualMachineInstance};
use miyako_api::names::ours;
use miyako_core::model::VmKey;
use serde_json::{Value, json};
use std::time::Duration;

fn vmis(world: &Simulation) -> Api<VirtualMachineInstance> {
    Api::namespaced(world.world.admin.clone(), "vms")
}

async fn label(world: &Simulation, vm: &str) -> Option<String> {
    vmis(world).get(vm).await.expect("it is there").labels().get(ours::MIGRATION_MODE).cloned()
}

async fn set_label(world: &Simulation, vm: &str, value: &str) {
    let patch = Patch::Merge(json!({"metadata": {"labels": {ours::MIGRATION_MODE: value, "team": "shop"}}}));
    vmis(world).patch(vm, &PatchParams::default(), &patch).await.expect("labels may be set");
}

#[tokio::test(start_paused = true)]
async fn our_label_is_there_for_the_move_and_gone_after_it() {
    let mut world = begin(one_busy_vm(1)).await;
    let mut while_moving = Vec::new();
    for _ in 0..90 {
        run(&mut world, 1).await;
        if moves(&world) > 0 && unfinished(&world) > 0 {
            while_moving.push(label(&world, "vm0").await);
        }
    }
    assert!(while_moving.contains(&Some("post-copy".into())), "{while_moving:?}");
    assert!(node_of(&world, "vm0").starts_with("dedicated"));
    assert_eq!(label(&world, "vm0").await, None, "a drain by somebody else goes as its owner wants");
    let vmi = vmis(&world).get("vm0").await.expect("it is there");
    let policy = vmi.status.and_then(|status| status.migration_state).and_then(|state| state.migration_policy_name);
    assert_eq!(policy.as_deref(), Some(ours::POST_COPY_POLICY), "our move went by our policy");
}

#[tokio::test(start_paused = true)]
async fn our_label_goes_however_the_move_ends_and_whoever_left_it() {
    let mut world = begin(one_busy_vm(2)).await;
    // Left by an operator that died, or by an earlier release.
    set_label(&world, "vm1", "post-copy").await;
    set_label(&world, "vm2", "pre-copy").await;
    let fault = Fault::Fail { after: Duration::from_secs(1), reason: "no route".into() };
    world.world.hands.lock().expect("nobody panicked").break_vm(VmKey::new("vms", "vm0"), fault);
    run(&mut world, 5).await;
    assert_eq!((label(&world, "vm1").await, label(&world, "vm2").await), (None, None));
    let vmi = vmis(&world).get("vm1").await.expect("it is there");
    assert_eq!(vmi.labels().get("team").map(String::as_str), Some("shop"), "only our own label goes");
    for _ in 0..90 {
        run(&mut world, 1).await;
        if moves(&world) > 0 && unfinished(&world) == 0 {
            break;
        }
    }
    run(&mut world, 3).await;
    assert!(node_of(&world, "vm0").starts_with("shared"), "its move failed");
    assert_eq!(label(&world, "vm0").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_migration_policy_of_ours_that_somebody_changed_is_replaced_at_once() {
    let mut world = begin(one_busy_vm(3)).await;
    run(&mut world, 60).await;
    let policies: Api<MigrationPolicy> = Api::all(world.world.server.client(USER));
    let wanted = policies.get(ours::POST_COPY_POLICY).await.expect("the move made it").spec;
    let hands: [Value; 3] = [
        json!({"spec": {"allowPostCopy": false, "bandwidthPerMigration": "1Mi"}}),
        json!({"spec": {"selectors": {"virtualMachineInstanceSelector": {"tier": "db"}}}}),
        json!({"spec": {"selectors": {"namespaceSelector": {"team": "a"}}}, "metadata": {"labels": {ours::MANAGED_BY: null}}}),
    ];
    for hand in hands {
        let change = Patch::Merge(hand.clone());
        policies.patch(ours::POST_COPY_POLICY, &PatchParams::default(), &change).await.expect("people may");
        assert_ne!(policies.get(ours::POST_COPY_POLICY).await.expect("it is there").spec, wanted);
        run(&mut world, 8).await;
        let found = policies.get(ours::POST_COPY_POLICY).await.expect("it is there");
        assert_eq!(found.spec, wanted, "{hand}");
        assert_eq!(found.labels().get(ours::MANAGED_BY).map(String::as_str), Some(ours::MIYAKO));
    }
    // A policy of somebody's own is left as it is.
    let mut theirs = MigrationPolicy::new("theirs", Default::default());
    theirs.spec.allow_auto_converge = Some(true);
    policies.create(&Default::default(), &theirs).await.expect("people may");
    run(&mut world, 8).await;
    assert_eq!(policies.get("theirs").await.expect("it is there").spec, theirs.spec);
}
