//! One operator replica in a simulated world: the real loop, its election, and the samples it is fed.

use crate::act::Actor;
use crate::clock::Clock;
use crate::controller::{Candidate, Leadership, LeaseTimes, Metrics, Onlookers, Operator, Options, View};
use crate::observe::load::SharedLoadStore;
use crate::observe::{Observer, Settings};
use crate::sim::workload::Feeder;
use kube::Client;
use miyako_core::model::Timestamp;
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
        let leadership = Leadership::new(LeaseTimes::default());
        let lease = miyako_api::names::ours::LEASE;
        let mut candidate = Candidate::new(client.clone(), NAMESPACE, lease, name, leadership.clone(), clock.clone());
        let settings = Settings { namespace: NAMESPACE.to_owned(), seed };
        let observer = Observer::start(client.clone(), clock.clone(), &settings);
        let actor = Actor::new(client, leadership.clone(), clock.clone(), name);
        let options = Options { seed, ..Options::default() };
        let operator = Operator::new(actor, observer, store.clone(), leadership, metrics.clone(), clock, options);
        let (view, onlookers) = (operator.view(), operator.onlookers());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { candidate.run().await });
        tasks.spawn(operator.run());
        Ok(Self { store, feeder, view, onlookers, metrics, _tasks: tasks })
    }

    /// What feeds it.
    pub(super) fn feeder(&mut self) -> &mut Feeder {
        &mut self.feeder
    }

    pub(super) async fn feed(&mut self, now: Timestamp) -> Result<(), kube::Error> {
        self.feeder.feed(&self.store, now).await.map(drop)
    }
}
