//! What a cluster does by itself, for the in-memory world: nodes, DaemonSets, a scheduler, kubelets.
//!
//! On a real control plane the real kube-scheduler and kwok do this; the stand-ins here answer as they do, as far as
//! launchers are concerned. The scheduler asks the same [`miyako_core::fit`] that is compared with the real one's
//! answers in the end-to-end tests.

mod daemons;
mod fate;
mod kubelet;
mod limit_range;
mod machines;
mod nodes;
mod pod_refusals;
mod power;
mod quota;
mod scheduler;

#[cfg(test)]
mod tests;

pub use fate::{AgentFate, BmcTalk, Fate, WakeFate};
pub use limit_range::LimitRangeAdmission;
pub use machines::Machines;
pub use nodes::{NodeSpec, create_node};
pub use pod_refusals::PodRefusals;
pub use power::{fall_asleep, wake_up};
pub use quota::QuotaAdmission;

use super::{
    kubevirt::Now,
    watched::{Index, ObjectKey, Watched},
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, Pod, ResourceQuota},
};
use kube::{Api, Client, ResourceExt};
use std::{
    collections::{BTreeMap, BTreeSet},
    task::Poll,
    time::Duration,
};

/// Clients of the cluster's own accounts.
#[derive(Clone)]
pub struct Clients {
    /// kube-scheduler's.
    pub scheduler: Client,
    /// The kubelets'.
    pub kubelet: Client,
    /// The DaemonSet controller's.
    pub daemon_sets: Client,
}

/// How long the cluster takes.
#[derive(Debug, Clone)]
pub struct Timing {
    /// From a pod's creation until it is bound.
    pub scheduling: Duration,
    /// From a pod's binding until it runs and is ready, at least …
    pub start: Duration,
    /// … and up to so much longer, by the seed.
    pub start_spread: Duration,
    /// Until a broken connection is tried again.
    pub retry: Duration,
    /// The longest that one step may take; an answer that never comes must not stop everything.
    pub patience: Duration,
}

impl Default for Timing {
    /// Together with KubeVirt's pace a new VMIM runs after 0.5 to 0.7 s, as seen live.
    fn default() -> Self {
        Self {
            scheduling: Duration::from_millis(10),
            start: Duration::from_millis(100),
            start_spread: Duration::from_millis(80),
            retry: Duration::from_secs(1),
            patience: Duration::from_secs(30),
        }
    }
}

/// The cluster's own controllers.
pub struct ClusterStandIn {
    clients: Clients,
    now: Now,
    timing: Timing,
    seed: u64,
    pods: Watched<Pod>,
    nodes: Watched<Node>,
    quotas: Watched<ResourceQuota>,
    daemon_sets: Watched<DaemonSet>,
    /// Pods of DaemonSets.
    daemons: BTreeSet<ObjectKey>,
    /// Something changed that DaemonSets depend on.
    daemons_changed: bool,
    picture: scheduler::Picture,
    /// When a bound pod will run.
    starting: BTreeMap<ObjectKey, jiff::Timestamp>,
    /// Pods that wait for a node, and what was last said about each.
    waiting: BTreeMap<ObjectKey, String>,
    /// Namespaces whose quotas are to be counted anew.
    to_count: BTreeSet<String>,
}

impl ClusterStandIn {
    /// Controllers that act through these clients.
    #[must_use]
    pub fn new(clients: Clients, now: Now, timing: Timing, seed: u64) -> Self {
        let client = clients.scheduler.clone();
        let prune = |pod: &mut Pod| pod.metadata.managed_fields = None;
        Self {
            pods: Watched::new(Api::all(client.clone()), None, Index { tags: |_| Vec::new(), prune }),
            nodes: Watched::new(Api::all(client.clone()), None, Index { tags: |_| Vec::new(), prune: |_| {} }),
            quotas: Watched::new(Api::all(client.clone()), None, Index { tags: |_| Vec::new(), prune: |_| {} }),
            daemon_sets: Watched::new(Api::all(client), None, Index { tags: |_| Vec::new(), prune: |_| {} }),
            daemons: BTreeSet::new(),
            daemons_changed: false,
            picture: scheduler::Picture::default(),
            starting: BTreeMap::new(),
            waiting: BTreeMap::new(),
            to_count: BTreeSet::new(),
            clients,
            now,
            timing,
            seed,
        }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        loop {
            let rest = match tokio::time::timeout(self.timing.patience, self.step()).await {
                Ok(Ok(next)) => next,
                // What the step had taken up is in the picture.
                Err(_) => Some(Duration::ZERO),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the cluster's stand-in can't see the cluster");
                    Some(self.timing.retry)
                }
            };
            match rest {
                Some(rest) => {
                    // News may mean work that is due earlier.
                    let _ = tokio::time::timeout(rest, self.news()).await;
                }
                None => self.news().await,
            }
            tokio::time::sleep(self.timing.scheduling).await;
        }
    }

    /// Takes in what happened, binds what can be bound, starts what is due. Says after how long there is more to do
    /// even if nothing happens.
    ///
    /// # Errors
    /// When the cluster can't be seen.
    pub async fn step(&mut self) -> kube::Result<Option<Duration>> {
        self.nodes.refresh().await?;
        self.quotas.refresh().await?;
        self.daemon_sets.refresh().await?;
        self.pods.refresh().await?;
        let now = (self.now)();
        self.look(now);
        self.count_quotas().await;
        self.keep_daemons().await;
        self.schedule(now).await;
        self.start_pods(now).await;
        if self.picture.wants_another_look() || self.daemons_changed {
            return Ok(Some(self.timing.retry));
        }
        let next = self.starting.values().min().map(|due| {
            let millis = due.as_millisecond().saturating_sub((self.now)().as_millisecond());
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        });
        Ok(next)
    }

    /// Waits until one of the watches has something to say.
    pub async fn news(&mut self) {
        std::future::poll_fn(|context| {
            let polls = [
                self.pods.poll_news(context),
                self.nodes.poll_news(context),
                self.quotas.poll_news(context),
                self.daemon_sets.poll_news(context),
            ];
            if polls.iter().any(Poll::is_ready) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Sorts what changed: into the scheduler's picture, to those that wait, to those that start, to those that count.
    fn look(&mut self, now: jiff::Timestamp) {
        let nodes_changed = !self.nodes.take_changed().is_empty();
        self.to_count.extend(self.quotas.take_changed().into_iter().map(|(namespace, _)| namespace));
        let changed = self.pods.take_changed();
        self.note_daemons(nodes_changed, &changed);
        if nodes_changed {
            self.picture.take_nodes(self.nodes.all());
        }
        let mut room_changed = nodes_changed;
        for key in changed {
            self.to_count.insert(key.0.clone());
            let pod = self.pods.get(&key.0, &key.1);
            room_changed |= self.picture.take_pod(&key, pod);
            let Some(pod) = pod.filter(|pod| is_pending(pod)) else {
                self.starting.remove(&key);
                self.waiting.remove(&key);
                continue;
            };
            if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty()) {
                self.waiting.remove(&key);
                let due = now.checked_add(self.start_time(pod)).unwrap_or(now);
                self.starting.entry(key).or_insert(due);
            } else {
                self.waiting.entry(key).or_default();
                self.picture.look_again();
            }
        }
        if room_changed {
            self.picture.look_again();
        }
    }
}

fn is_pending(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, None | Some("" | "Pending")) && pod.metadata.deletion_timestamp.is_none()
}

/// The order of the scheduler's queue: age, then name.
fn queue_key(pod: &Pod) -> (Option<jiff::Timestamp>, String) {
    (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.name_any())
}
