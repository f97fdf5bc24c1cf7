//! The loop of one replica.

use super::{
    CLAIM_LAPSES, Judgement, MakeDriver, OPERATOR_ANSWERS, errand::Errand, judge, meters::Scene, request_to_wake,
};
use crate::stream::WallClock;
use futures::StreamExt as _;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use miyako_api::{NodePower, node_power::WakerStatus};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet, time::Instant};

/// How often claims are looked at that may have lapsed.
const LOOK: Duration = Duration::from_secs(1);

/// Nodes that one replica wakes at once; the rest wait for the next look. The operator staggers its orders; this is for
/// the day when everything is to wake.
const AT_ONCE: usize = 64;

/// One replica of the waker.
pub struct Waker {
    client: Client,
    me: String,
    clock: WallClock,
    make: Arc<dyn MakeDriver>,
    seed: u64,
    /// What the API server shows.
    powers: BTreeMap<String, NodePower>,
    /// What it shows after a new list, until that is complete.
    listed: BTreeMap<String, NodePower>,
    /// Requests to wake, by node, with when they were first seen here.
    asked: BTreeMap<String, (String, Instant)>,
    /// Claims that no outcome has ended, by node, with when they were first seen so here. Another machine's clock stamped
    /// them, so only their changing shows that somebody renews them.
    claims: BTreeMap<String, (WakerStatus, Instant)>,
    errands: JoinSet<String>,
    /// The nodes of the errands.
    busy: BTreeSet<String>,
    /// What those who read meters are to know.
    scene: watch::Sender<Scene>,
}

impl Waker {
    /// A replica that is called `me`, which must differ from the others' names.
    #[must_use]
    pub fn new(client: Client, me: String, clock: WallClock, make: Arc<dyn MakeDriver>, seed: u64) -> Self {
        Self {
            client,
            me,
            clock,
            make,
            seed,
            powers: BTreeMap::new(),
            listed: BTreeMap::new(),
            asked: BTreeMap::new(),
            claims: BTreeMap::new(),
            errands: JoinSet::new(),
            busy: BTreeSet::new(),
            scene: watch::Sender::default(),
        }
    }

    /// What errands are under way, and where nodes are between awake and asleep, for those who read meters.
    #[must_use]
    pub fn scene(&self) -> watch::Receiver<Scene> {
        self.scene.subscribe()
    }

    /// Carries orders out until it is dropped.
    pub async fn run(mut self) {
        let powers: Api<NodePower> = Api::all(self.client.clone());
        let changes = watcher(powers, watcher::Config::default()).default_backoff();
        let mut changes = std::pin::pin!(changes);
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.errands.join_next() => self.note_end(ended),
                change = changes.next() => match change {
                    Some(Ok(change)) => self.note(change),
                    Some(Err(error)) => tracing::warn!(%error, "the watch of NodePowers broke; it begins again"),
                    None => return,
                },
                () = tokio::time::sleep(LOOK) => {}
            }
            self.look();
            self.tell_scene();
        }
    }

    fn tell_scene(&self) {
        let phase = |(node, power): (&String, &NodePower)| Some((node.clone(), power.status.as_ref()?.phase?));
        let scene = Scene { busy: self.busy.clone(), phases: self.powers.iter().filter_map(phase).collect() };
        self.scene.send_if_modified(|told| {
            let differs = *told != scene;
            *told = scene;
            differs
        });
    }

    fn note(&mut self, change: watcher::Event<NodePower>) {
        match change {
            watcher::Event::Apply(power) => drop(self.powers.insert(power.name_any(), power)),
            watcher::Event::Delete(power) => drop(self.powers.remove(&power.name_any())),
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(power) => drop(self.listed.insert(power.name_any(), power)),
            watcher::Event::InitDone => self.powers = std::mem::take(&mut self.listed),
        }
    }

    fn note_end(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(node) => drop(self.busy.remove(&node)),
            // Which node it was is lost with it: all are looked at again, and the claims tell what goes on.
            Err(error) => {
                tracing::error!(%error, "an errand broke off");
                if self.errands.is_empty() {
                    self.busy.clear();
                }
            }
        }
    }

    /// Remembers since when each request to wake is there.
    fn note_requests(&mut self) {
        let powers = &self.powers;
        let stands = |node: &String, request: &String| {
            powers.get(node).and_then(request_to_wake).is_some_and(|standing| standing == request)
        };
        self.asked.retain(|node, (request, _)| stands(node, request));
        for (node, power) in powers {
            if let Some(request) = request_to_wake(power) {
                self.asked.entry(node.clone()).or_insert_with(|| (request.to_owned(), Instant::now()));
            }
        }
    }

    /// Remembers since when each claim is as it is.
    fn note_claims(&mut self) {
        let claim_of = |power: &NodePower| power.status.as_ref()?.waker.clone().filter(|claim| claim.outcome.is_none());
        let mut before = std::mem::take(&mut self.claims);
        for (node, power) in &self.powers {
            let Some(claim) = claim_of(power) else { continue };
            let since = before.remove(node).filter(|(seen, _)| *seen == claim).map(|(_, since)| since);
            self.claims.insert(node.clone(), (claim, since.unwrap_or_else(Instant::now)));
        }
    }

    /// Begins an errand for every order that is ours to carry out.
    fn look(&mut self) {
        self.note_requests();
        self.note_claims();
        for (node, power) in &self.powers {
            if self.errands.len() >= AT_ONCE {
                return;
            }
            let ignored = self.asked.get(node).filter(|(_, since)| since.elapsed() >= OPERATOR_ANSWERS);
            let ignored = ignored.map(|(request, _)| request.clone());
            let lapsed = self.claims.get(node).filter(|(_, since)| since.elapsed() >= CLAIM_LAPSES);
            let lapsed = lapsed.map(|(claim, _)| claim.clone());
            let judgement = judge(power, ignored.as_deref(), &self.me, lapsed.as_ref());
            let Judgement::TakeUp(task) = judgement else { continue };
            if !self.busy.insert(node.clone()) {
                continue;
            }
            let errand = Errand {
                client: self.client.clone(),
                me: self.me.clone(),
                clock: self.clock.clone(),
                make: self.make.clone(),
                seed: self.seed.wrapping_add(task.generation.unsigned_abs()),
                node: node.clone(),
                ignored,
                lapsed,
            };
            let node = node.clone();
            self.errands.spawn(async move {
                errand.run().await;
                node
            });
        }
    }
}
