//! The loop: looks when the order changes, when the node was woken, and now and then.

use super::{
    Settings,
    agent::{Look, LookError, PowerAgent, RECORD_INTERVAL},
    cluster::{Cluster as _, ClusterError},
    host::Host,
    kubernetes::{Connect, KubeCluster},
};
use crate::stream::{BackOff, WallClock};
use futures::{Stream, StreamExt as _};
use kube::{
    Api,
    runtime::watcher::{self, Event, watcher},
};
use miyako_api::node_power::NodePower;
use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};

/// A watch that has ended or failed is begun anew after this time at the earliest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);

/// Obeys the orders for `settings.node`, for ever. `seed` makes its waits differ from other agents'.
///
/// # Errors
/// When no client can be made.
pub async fn run<H: Host>(
    connect: Connect,
    settings: Settings,
    host: Arc<H>,
    clock: WallClock,
    seed: u64,
) -> kube::Result<Infallible> {
    let cluster = Arc::new(KubeCluster::new(settings.node.clone(), connect)?);
    let mut agent = PowerAgent::new(Arc::clone(&cluster), host, settings, clock);
    let mut back_off = BackOff::new(seed);
    let mut changes = changes(&cluster);
    loop {
        match agent.look().await {
            // It may have slept, and the watch's connection with it.
            Ok(Look::Again) => changes = self::changes(&cluster),
            Ok(Look::Done) => {
                back_off.reset();
                next_change(&mut changes, &mut back_off).await;
            }
            Err(LookError::Cluster(ClusterError::Conflict { .. })) => {
                // Somebody wrote: what they wrote is the reason to look again.
                sleep(SHORTEST_PAUSE).await;
            }
            Err(error) => {
                let pause = back_off.after_failure();
                tracing::warn!(%error, again_in = ?pause, "could not look at the order");
                sleep(pause).await;
                // The machine may have slept by somebody else's hand: nothing that was open then answers any more.
                cluster.reconnect();
                changes = self::changes(&cluster);
            }
        }
    }
}

type Changes = Pin<Box<dyn Stream<Item = Result<Event<NodePower>, watcher::Error>> + Send>>;

fn changes(cluster: &KubeCluster) -> Changes {
    let own = watcher::Config::default().fields(&format!("metadata.name={}", cluster.node()));
    watcher(Api::<NodePower>::all(cluster.client()), own).boxed()
}

/// Waits until the NodePower may have changed, or the record is due.
async fn next_change(changes: &mut Changes, back_off: &mut BackOff) {
    let due = Instant::now() + RECORD_INTERVAL;
    loop {
        match timeout_at(due, changes.next()).await {
            Err(_) | Ok(None) => return,
            Ok(Some(Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone))) => return,
            Ok(Some(Ok(Event::Init | Event::InitApply(_)))) => {}
            // The next item begins the watch anew.
            Ok(Some(Err(error))) => {
                let pause = back_off.after_failure();
                tracing::warn!(%error, again_in = ?pause, "the watch for orders ended");
                sleep(pause).await;
            }
        }
    }
}
