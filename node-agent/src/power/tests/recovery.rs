//! What a node needs when it wakes.

use super::world::{World, order};
use crate::power::{Heartbeat, Look};
use miyako_api::node_power_class::SuspendMethod;
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// Sleeps for a minute and wakes.
async fn wakes(world: &Arc<World>, then: impl Future<Output = ()>) {
    let wake = async {
        let mut asleep = world.machine.is_asleep();
        asleep.wait_for(|asleep| *asleep).await.unwrap();
        sleep(Duration::from_secs(60)).await;
        world.machine.wake();
        then.await;
    };
    let work = async {
        let mut agent = world.agent(&Arc::default());
        assert_eq!(agent.look().await.unwrap(), Look::Again);
        assert_eq!(agent.look().await.unwrap(), Look::Done);
    };
    tokio::join!(wake, work);
}

#[tokio::test(start_paused = true)]
async fn the_time_until_each_part_is_well_again_is_told() {
    let world = World::new(order(1, SuspendMethod::S3));
    world.machine.set_kubelet(Err("not yet".into()));
    *world.heartbeats.lock().unwrap() = vec![Heartbeat::NotYet("virt-handler is not ready".into()); 4];
    wakes(&world, async {
        sleep(Duration::from_secs(2)).await;
        world.machine.set_kubelet(Ok(()));
    })
    .await;
    let slept = world.record().last_sleep.unwrap();
    let kubelet = slept.kubelet_after_millis.unwrap();
    assert!((2_000..=2_300).contains(&kubelet), "{kubelet}");
    assert_eq!(slept.kube_virt_after_millis, Some(kubelet + 1_000));
}

#[tokio::test(start_paused = true)]
async fn a_node_without_kubevirt_has_no_time_for_it() {
    let world = World::new(order(1, SuspendMethod::S3));
    *world.heartbeats.lock().unwrap() = vec![Heartbeat::NoKubeVirt];
    wakes(&world, async {}).await;
    let slept = world.record().last_sleep.unwrap();
    assert_eq!((slept.kubelet_after_millis, slept.kube_virt_after_millis), (Some(0), None));
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_stays_ill_is_given_up_after_a_while() {
    let world = World::new(order(1, SuspendMethod::S3));
    world.machine.set_kubelet(Err("gone".into()));
    wakes(&world, async {}).await;
    let record = world.record();
    assert_eq!(record.last_sleep.unwrap().kubelet_after_millis, None);
    assert!(record.resumed_at.is_some());
}
