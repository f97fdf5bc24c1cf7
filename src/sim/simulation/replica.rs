//! One operator replica in a simulated world: the real loop, its election, and the samples it is fed.

use crate::act::Actor;
use crate::clock::{Clock, simulated_uptime};
use crate::controller::{Candidate, Leadership, LeaseTimes, Metrics, Onlookers, Operator, Options, View};
use crate::observe::load::SharedLoadStore;
use crate::observe::{Observer, Settings};
use crate::sim::workload::Feeder;
use kube::Client;
use miyako_core::model::Timestamp;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The namespace that operators are installed in.
pub(super) const NAMESPACE: &str = "default";

/// A running replica. Dropping it ends it at once, wherever it is.
pub struct Replica {
    store: SharedLoadStore,
    feeder: Feeder,
    /// What its last pass saw and thought.
    pub view: watch::Receiver<Arc<View>>,
    /// Who looks at the pictures in its views.
    pub onlookers: Onlookers,
    /// Its metrics.
    pub metrics: Metrics,
    frozen: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Replica {
    pub(super) fn start(
        name: &str,
        client: Client,
        feeder: Feeder,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Self, prometheus::Error> {
        let store = SharedLoadStore::default();
        let metrics = Metrics::new()?;
        let leadership = Leadership::new(LeaseTimes::default(), simulated_uptime());
        let lease = miyako_api::names::ours::LEASE;
        let mut candidate = Candidate::new(client.clone(), NAMESPACE, lease, name, leadership.clone(), clock.clone());
        let settings = Settings { namespace: NAMESPACE.to_owned(), seed };
        let observer = Observer::start(client.clone(), clock.clone(), &settings);
        let actor = Actor::new(client, leadership.clone(), clock.clone(), name);
        let options = Options { seed, ..Options::default() };
        let operator = Operator::new(actor, observer, store.clone(), leadership, metrics.clone(), clock, options);
        let (view, onlookers) = (operator.view(), operator.onlookers());
        let mut tasks = JoinSet::new();
        let frozen = watch::Sender::new(false);
        tasks.spawn(freezable(async move { candidate.run().await }, frozen.subscribe()));
        tasks.spawn(freezable(operator.run(), frozen.subscribe()));
        Ok(Self { store, feeder, view, onlookers, metrics, frozen, _tasks: tasks })
    }

    /// Freezes it, as SIGSTOP or a paused machine would, or thaws it: time goes on for all others.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Freezes and thaws it from elsewhere.
    #[must_use]
    pub fn freezer(&self) -> watch::Sender<bool> {
        self.frozen.clone()
    }

    /// What feeds it.
    pub(super) fn feeder(&mut self) -> &mut Feeder {
        &mut self.feeder
    }

    pub(super) async fn feed(&mut self, now: Timestamp) -> Result<(), kube::Error> {
        self.feeder.feed(&self.store, now).await.map(drop)
    }
}

/// The work, which does not go on while it is frozen.
async fn freezable(work: impl Future<Output = ()>, mut frozen: watch::Receiver<bool>) {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            told = frozen.wait_for(|frozen| *frozen) => if told.is_err() { return },
            () = &mut work => return,
        }
        if frozen.wait_for(|frozen| !*frozen).await.is_err() {
            return;
        }
    }
}
