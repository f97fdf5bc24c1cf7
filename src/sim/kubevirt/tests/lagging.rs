//! Two watches tell of a VMI and of its launcher, and one of them may be late.

use super::*;
use crate::sim::kubevirt::{KubeVirtStandIn, Timing};

/// A second virt-controller that has seen no launcher, and then sees the VMI as it is.
async fn sees_only_the_vmi(world: &World) {
    let parts = (world.kubevirt.clone(), world.hands.clone(), world.now.clone());
    let mut late = KubeVirtStandIn::new(parts.0, parts.1, parts.2, Timing::default());
    late.vmis.refresh().await.unwrap();
    late.tend_vms((world.now)()).await;
}

#[tokio::test(start_paused = true)]
async fn a_vm_whose_launcher_was_not_seen_yet_runs_on() {
    let world = world(1).await;
    add_vm(&world, "vm", "n1").await;
    sees_only_the_vmi(&world).await;
    assert_eq!(vmi(&world, "vm").await.status.unwrap().phase.as_deref(), Some("Running"));
}

#[tokio::test(start_paused = true)]
async fn a_vm_whose_launcher_is_gone_has_failed() {
    let world = world(1).await;
    add_vm(&world, "vm", "n1").await;
    let (launcher, ..) = launchers(&world, "vm").await.remove(0);
    world.outages.set_virt_controller_away(true);
    pods(&world).delete(&launcher, &DeleteParams::default()).await.unwrap();
    sees_only_the_vmi(&world).await;
    assert_eq!(vmi(&world, "vm").await.status.unwrap().phase.as_deref(), Some("Failed"));
}
