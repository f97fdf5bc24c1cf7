//! What nodes draw, as their BMCs measure it: read by the waker, which alone has the BMCs' accounts, and told to the operator.
//!
//! ```text
//!  classes, nodes, Secrets ──▶ Directory ──▶ Schedule ──▶ BMCs (a few at a time) ──▶ Board ──▶ Teller ──▶ every replica
//!                                               ▲ errands, phases                     ▲ who reads ◀────────┘
//! ```
//!
//! Readings go over the agents' wire and not through the API server: a thousand nodes a minute would be a thousand writes
//! a minute, each of them news to everybody who watches NodePowers. One call every few seconds carries what was read
//! meanwhile; a replica that is new, or was away, gets all that is fresh.
//!
//! Of the two wakers one reads. Whoever is to hear the readings says which: each answer of the operator names the first by
//! name of those that call, so that no lease has to be renewed, and when no operator listens nothing is read.
//!
//! A wake comes first: no BMC is read while an errand of its node goes on, and a reading that is under way then is dropped.

mod board;
mod directory;
mod schedule;
mod tell;

pub use board::Board;
pub use schedule::{LONGEST_WAIT, SETTLES, Schedule};
pub use tell::Teller;

use super::MakeDriver;
use crate::wake::{DriverError, WattsReading, protocol_name};
use directory::{Directory, look_up};
use futures::{
    FutureExt as _, StreamExt as _,
    future::{AbortHandle, Aborted, BoxFuture, abortable},
    stream::FuturesUnordered,
};
use kube::Client;
use miyako_api::node_power::PowerPhase;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// How often is looked at what is due.
const LOOK: Duration = Duration::from_secs(1);

/// How often classes, nodes and Secrets are read anew.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(60);

/// BMCs that are read at once. One answers within one to three seconds: this is enough for a thousand nodes a minute.
const AT_ONCE: usize = 32;

/// What the waker knows of nodes, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scene {
    /// Nodes that an errand is under way for.
    pub busy: BTreeSet<String>,
    /// Where nodes are between awake and asleep.
    pub phases: BTreeMap<String, PowerPhase>,
}

/// Reads BMCs.
pub struct Meters {
    client: Client,
    make: Arc<dyn MakeDriver>,
    scene: watch::Receiver<Scene>,
    seen: Scene,
    board: Board,
    directory: Directory,
    looked_up: Option<Instant>,
    schedule: Schedule,
    /// Whether this waker was the one to read when it last looked.
    reads: bool,
    /// Readings that are under way.
    reading: BTreeMap<String, AbortHandle>,
    under_way: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Nodes whose BMCs don't tell, with the category of the error: said once.
    silent: BTreeMap<String, &'static str>,
}

/// What came to an end.
enum Event {
    /// A look at the API server.
    Directory(Result<Directory, String>),
    /// A reading.
    Read(String, Result<Result<WattsReading, DriverError>, Aborted>),
}

impl Meters {
    /// Reads with drivers that `make` makes, and puts what it reads on `board`.
    #[must_use]
    pub fn new(client: Client, make: Arc<dyn MakeDriver>, scene: watch::Receiver<Scene>, board: Board) -> Self {
        Self {
            client,
            make,
            scene,
            seen: Scene::default(),
            board,
            directory: Directory::default(),
            looked_up: None,
            schedule: Schedule::default(),
            reads: false,
            reading: BTreeMap::new(),
            under_way: FuturesUnordered::new(),
            silent: BTreeMap::new(),
        }
    }

    /// Reads until it is dropped.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.scene.changed() => self.note_scene(),
                Some(event) = self.under_way.next() => self.note(event),
                () = tokio::time::sleep(LOOK) => {}
            }
            self.look(Instant::now());
        }
    }

    /// Leaves BMCs to errands, and looks soon at nodes that fell asleep or woke.
    fn note_scene(&mut self) {
        let scene = self.scene.borrow_and_update().clone();
        for (node, reading) in &self.reading {
            if scene.busy.contains(node) {
                reading.abort();
            }
        }
        let now = Instant::now();
        for (node, phase) in &scene.phases {
            if self.seen.phases.get(node).is_some_and(|before| before != phase) {
                self.schedule.hasten(node, now);
            }
        }
        self.seen = scene;
    }

    fn note(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Directory(Ok(directory)) => {
                for (node, problem) in &directory.problems {
                    if self.directory.problems.get(node) != Some(problem) {
                        tracing::warn!(node, problem, "its meter cannot be read");
                    }
                }
                self.schedule.set_nodes(directory.drivers.keys(), now);
                self.board.set_measured(!directory.drivers.is_empty(), |node| directory.drivers.contains_key(node));
                self.silent.retain(|node, _| directory.drivers.contains_key(node));
                self.directory = directory;
            }
            // What was known stays in force.
            Event::Directory(Err(problem)) => tracing::warn!(problem, "could not see whose meters are to be read"),
            Event::Read(node, outcome) => {
                self.reading.remove(&node);
                let outcome = outcome.map(|read| read.map_err(|error| self.note_silence(&node, &error)));
                match outcome {
                    Ok(Ok(reading)) => {
                        if self.silent.remove(&node).is_some() {
                            tracing::info!(
                                node,
                                watts = reading.watts,
                                from = reading.evidence,
                                "its meter tells again"
                            );
                        }
                        self.board.note(&node, reading.watts, now);
                        self.schedule.done(&node, now);
                    }
                    Ok(Err(retry)) => self.schedule.failed(&node, retry, now),
                    Err(Aborted) => self.schedule.done(&node, now),
                }
            }
        }
    }

    fn note_silence(&mut self, node: &str, error: &DriverError) -> crate::wake::Retry {
        if self.silent.insert(node.to_owned(), error.category()) != Some(error.category()) {
            let driver = self.directory.drivers.get(node);
            let (protocol, address) = driver.map_or(("", ""), |it| (protocol_name(it.protocol()), it.address()));
            let (reason, check) = (error.category(), error.check());
            tracing::warn!(node, protocol, address, %error, reason, check, "its meter does not tell");
        }
        error.retry()
    }

    fn look(&mut self, now: Instant) {
        if self.looked_up.is_none_or(|at| now.duration_since(at) >= LOOK_UP_INTERVAL) {
            self.looked_up = Some(now);
            let looking = look_up(self.client.clone(), Arc::clone(&self.make));
            self.under_way.push(looking.map(Event::Directory).boxed());
        }
        let reads = self.board.is_reader(now);
        if reads && !self.reads {
            tracing::info!(nodes = self.directory.drivers.len(), "reading what nodes draw from their BMCs");
            self.schedule.spread(now);
        }
        self.reads = reads;
        if !reads {
            return;
        }
        let room = AT_ONCE.saturating_sub(self.reading.len());
        for node in self.schedule.take_due(now, &self.seen.busy, room) {
            let Some(driver) = self.directory.drivers.get(&node).cloned() else { continue };
            let (read, handle) = abortable(async move { driver.watts().await });
            self.reading.insert(node.clone(), handle);
            self.under_way.push(read.map(|read| Event::Read(node, read)).boxed());
        }
    }
}
