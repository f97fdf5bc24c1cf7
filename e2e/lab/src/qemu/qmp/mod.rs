//! A client of QMP, QEMU's control protocol.
//!
//! Small on purpose: the crates for it are either generated from one QEMU's schema, whose events fail to parse on
//! another's, or not maintained. The lab needs a dozen commands, every event with the moment of its arrival, and an
//! error at once when QEMU is gone.

mod message;

pub use message::{Happening, Incoming, NotQmp, Progress, Status, Version};

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// How long an answer may take. QEMU answers at once, but its node may be slowed down or frozen for a while.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QmpError {
    /// QEMU said no.
    #[error("QEMU refused {command}: {reason}")]
    Refused {
        /// Which command.
        command: String,
        /// What QEMU says.
        reason: String,
    },
    /// QEMU ended, or closed the connection.
    #[error("QEMU is gone")]
    Gone,
    /// QEMU stands still, or its node does.
    #[error("QEMU did not answer {command} within {} s", within.as_secs())]
    Silent {
        /// Which command.
        command: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// Whatever listens there is not QEMU.
    #[error(transparent)]
    NotQmp(#[from] NotQmp),
}

/// An event and when it arrived here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// By this machine's monotonic clock.
    pub at: Instant,
    /// What it says.
    pub happening: Happening,
}

/// A connection to one QEMU. Clones share it.
#[derive(Debug, Clone)]
pub struct Qmp {
    connection: Arc<Connection>,
}

#[derive(Debug)]
struct Connection {
    version: Version,
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    shared: Arc<Shared>,
    reader: JoinHandle<()>,
}

/// What the reading task hands over.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// How many events there were, and whether the connection is open; changes wake whoever follows them.
    news: watch::Sender<(usize, Open)>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Result<Value, String>>>,
    /// All of them, so that nobody who looks later misses one: a QEMU of the lab lives for a few thousand at most.
    events: Vec<Event>,
    closed: bool,
}

type Open = bool;

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Qmp {
    /// Connects to QEMU's socket and agrees on the protocol.
    ///
    /// # Errors
    /// When nobody listens there (an I/O error), or not QEMU.
    pub async fn connect(socket: &Path) -> io::Result<Result<Self, QmpError>> {
        let (reader, writer) = UnixStream::connect(socket).await?.into_split();
        Ok(Self::agree(BufReader::new(reader), writer).await)
    }

    async fn agree(mut reader: BufReader<OwnedReadHalf>, writer: OwnedWriteHalf) -> Result<Self, QmpError> {
        let mut line = Vec::new();
        let greeting = timeout(ANSWER_WITHIN, reader.read_until(b'\n', &mut line)).await;
        let silent = |_| QmpError::Silent { command: "the greeting".to_owned(), within: ANSWER_WITHIN };
        if greeting.map_err(silent)?.map_err(|_| QmpError::Gone)? == 0 {
            return Err(QmpError::Gone);
        }
        let Incoming::Greeting(version) = Incoming::parse(&line)? else { return Err(QmpError::Gone) };
        let shared = Arc::new(Shared { state: Mutex::default(), news: watch::channel((0, true)).0 });
        let task = tokio::spawn(read(reader, Arc::clone(&shared)));
        let connection = Connection { version, writer: tokio::sync::Mutex::new(writer), shared, reader: task };
        let qmp = Self { connection: Arc::new(connection) };
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// QEMU's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.connection.version
    }

    /// Carries out a command and returns its answer.
    ///
    /// # Errors
    /// When QEMU refuses it, is gone, or stands still.
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let work = async {
            let (id, answer) = self.enqueue().ok_or(QmpError::Gone)?;
            let mut line = json!({"execute": command, "arguments": arguments, "id": id}).to_string();
            line.push('\n');
            self.connection.writer.lock().await.write_all(line.as_bytes()).await.map_err(|_| QmpError::Gone)?;
            // The sender is dropped without an answer when the connection closes.
            let answer = answer.await.map_err(|_| QmpError::Gone)?;
            answer.map_err(|reason| QmpError::Refused { command: command.to_owned(), reason })
        };
        let silent = |_| QmpError::Silent { command: command.to_owned(), within: ANSWER_WITHIN };
        timeout(ANSWER_WITHIN, work).await.map_err(silent)?
    }

    fn enqueue(&self) -> Option<(u64, oneshot::Receiver<Result<Value, String>>)> {
        let mut state = self.connection.shared.state();
        if state.closed {
            return None;
        }
        let (sender, answer) = oneshot::channel();
        state.last_id += 1;
        let id = state.last_id;
        state.waiting.insert(id, sender);
        Some((id, answer))
    }

    /// Everything that has happened so far and will happen, in order.
    #[must_use]
    pub fn events(&self) -> Events {
        let shared = Arc::clone(&self.connection.shared);
        let news = shared.news.subscribe();
        Events { _connection: Arc::clone(&self.connection), shared, news, next: 0 }
    }

    /// Everything that will happen from now on.
    #[must_use]
    pub fn events_from_now(&self) -> Events {
        let mut events = self.events();
        events.next = events.shared.state().events.len();
        events
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The events of one QEMU, one after the other.
#[derive(Debug)]
pub struct Events {
    /// Keeps the connection open.
    _connection: Arc<Connection>,
    shared: Arc<Shared>,
    news: watch::Receiver<(usize, Open)>,
    next: usize,
}

impl Events {
    /// The next event, or `None` when QEMU is gone and everything it said was handed out. Nothing is lost if the wait is
    /// given up.
    pub async fn next(&mut self) -> Option<Event> {
        let next = self.next;
        let waited = self.news.wait_for(|(events, open)| *events > next || !open).await;
        drop(waited.ok()?);
        let event = self.shared.state().events.get(next).cloned()?;
        self.next += 1;
        Some(event)
    }
}

async fn read(mut reader: BufReader<OwnedReadHalf>, shared: Arc<Shared>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        match Incoming::parse(&line) {
            Ok(Incoming::Event(happening)) => {
                let mut state = shared.state();
                state.events.push(Event { at: Instant::now(), happening });
                let events = state.events.len();
                drop(state);
                shared.news.send_replace((events, true));
            }
            Ok(Incoming::Return { id, value }) => answer(&shared, Some(id), Ok(value)),
            Ok(Incoming::Refusal { id, reason }) => answer(&shared, id, Err(reason)),
            Ok(Incoming::Greeting(_)) => {}
            Err(error) => tracing::warn!(%error, "ignored a line"),
        }
    }
    let mut state = shared.state();
    state.closed = true;
    state.waiting.clear();
    let events = state.events.len();
    drop(state);
    shared.news.send_replace((events, false));
}

fn answer(shared: &Shared, id: Option<u64>, answer: Result<Value, String>) {
    let waiting = id.and_then(|id| shared.state().waiting.remove(&id));
    match waiting {
        // Whoever asked may have given up meanwhile.
        Some(waiting) => drop(waiting.send(answer)),
        None => tracing::debug!(?id, "an answer that nobody waits for"),
    }
}

#[cfg(test)]
mod tests;
