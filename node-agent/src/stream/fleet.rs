//! A session to every replica of the operator, as replicas come and go.

use super::{BackOff, Dial, Newest, SessionEnd, WallClock, run_session};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::lookup_host,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep},
};

/// How often the replicas' names are looked up again. A new replica gets samples within this time.
pub const LOOK_UP_INTERVAL: Duration = Duration::from_secs(5);

/// The most replicas that are dialled: more answers to a name are a mistake.
const MOST_REPLICAS: usize = 16;

/// A session that lasted this long was a good one: the next try comes at once.
const GOOD_SESSION: Duration = Duration::from_secs(10);

/// Where the replicas are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    /// `host:port` each: a headless Service's name, which stands for every replica behind it, or single addresses.
    pub targets: Vec<String>,
}

impl Replicas {
    /// Looks every target up.
    ///
    /// # Errors
    /// When any look-up fails: an incomplete answer would end sessions that are well.
    pub async fn look_up(&self) -> io::Result<BTreeSet<SocketAddr>> {
        let mut found = BTreeSet::new();
        for target in &self.targets {
            found.extend(lookup_host(target).await?);
        }
        Ok(found)
    }
}

/// The sessions to all replicas.
pub struct Fleet<D: Dial> {
    dial: Arc<D>,
    newest: Newest,
    clock: WallClock,
    seed: u64,
    sessions: JoinSet<()>,
    running: BTreeMap<D::Address, AbortHandle>,
    begun: u64,
}

impl<D: Dial> Fleet<D> {
    /// A fleet without sessions. `seed` makes its back-offs differ from other agents'.
    #[must_use]
    pub fn new(dial: D, newest: Newest, clock: WallClock, seed: u64) -> Self {
        Self { dial: Arc::new(dial), newest, clock, seed, sessions: JoinSet::new(), running: BTreeMap::new(), begun: 0 }
    }

    /// Begins sessions to replicas that are new and ends those to replicas that are gone.
    pub fn set_replicas(&mut self, replicas: &BTreeSet<D::Address>) {
        if replicas.len() > MOST_REPLICAS {
            tracing::warn!(found = replicas.len(), dialled = MOST_REPLICAS, "too many replicas answer to the name");
        }
        let wanted: BTreeSet<_> = replicas.iter().take(MOST_REPLICAS).collect();
        self.running.retain(|replica, session| {
            let stays = wanted.contains(replica);
            if !stays {
                tracing::info!(%replica, "replica is gone");
                session.abort();
            }
            stays
        });
        for replica in wanted {
            if !self.running.contains_key(replica) {
                tracing::info!(%replica, "new replica");
                self.begun += 1;
                let (dial, newest) = (Arc::clone(&self.dial), self.newest.clone());
                let (clock, seed) = (Arc::clone(&self.clock), self.seed.wrapping_add(self.begun));
                let session = self.sessions.spawn(keep_session(dial, replica.clone(), newest, clock, seed));
                self.running.insert(replica.clone(), session);
            }
        }
        while self.sessions.try_join_next().is_some() {}
    }
}

impl Fleet<super::TlsDialer> {
    /// Keeps sessions to whatever `replicas` resolves to, for ever.
    pub async fn follow(mut self, replicas: Replicas) {
        let mut last_error = None;
        loop {
            match replicas.look_up().await {
                Ok(found) => {
                    last_error = None;
                    self.set_replicas(&found);
                }
                // What runs goes on; said once, not every five seconds.
                Err(error) if last_error.as_ref() == Some(&error.to_string()) => {}
                Err(error) => {
                    tracing::warn!(targets = ?replicas.targets, %error, "could not look up the operator's replicas");
                    last_error = Some(error.to_string());
                }
            }
            sleep(LOOK_UP_INTERVAL).await;
        }
    }
}

/// Dials one replica again and again, until it is aborted or sampling ends.
async fn keep_session<D: Dial>(dial: Arc<D>, replica: D::Address, newest: Newest, clock: WallClock, seed: u64) {
    let mut back_off = BackOff::new(seed);
    loop {
        let begun = Instant::now();
        let why = match dial.dial(&replica).await {
            Ok(connection) => {
                tracing::info!(%replica, "connected");
                // Only what is sampled from now on, and with it once what was before.
                let mut samples = newest.reader();
                let mut refused = Vec::new();
                let end = run_session(connection, &mut samples, &clock, |ack| {
                    // The target of a migration is refused every second until its VM runs here: said once.
                    if ack.refusals != refused {
                        refused.clone_from(&ack.refusals);
                        if refused.is_empty() {
                            tracing::info!(%replica, sequence = ack.sequence, "everything is taken again");
                        } else {
                            tracing::warn!(%replica, sequence = ack.sequence, ?refused, "refused");
                        }
                    }
                })
                .await;
                if matches!(end, SessionEnd::NoMoreSamples) {
                    return;
                }
                end.to_string()
            }
            Err(error) => error.to_string(),
        };
        if begun.elapsed() >= GOOD_SESSION {
            back_off.reset();
        }
        let wait = back_off.after_failure();
        tracing::warn!(%replica, %why, again_in = ?wait, "no stream to the operator");
        sleep(wait).await;
    }
}
