//! What runs inside a virtual machine, seen from outside.
//!
//! [`Guest`] follows one VM through its migrations: each QEMU offers the guest's serial port as a unix socket, and the
//! follower listens to all of them, so that it goes on at the target where it stopped at the source. A guest's clock stands
//! still while the VM is paused; so the guest only counts, and it is the host that says when ([`Ledger`]).

mod image;
mod ledger;
mod script;

pub use image::{Image, NoImage};
pub use ledger::{Ledger, Observation, Second};
pub use miyako_guest::{benchmark::whole, boot::Boot, channel};
pub use script::{BadScript, Script};

use channel::{Check, Command, Intensity, Lines, Message, Order, Permille, Report, Speed, Spoil, State};
use miyako_guest::benchmark::target_millis;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How often a command is repeated until the guest has applied it.
const REPEAT: Duration = Duration::from_millis(500);

/// How often a socket is tried that nobody listens on yet.
const KNOCK: Duration = Duration::from_millis(50);

/// A guest that does not do what it was asked, because it is gone, paused, or starved of CPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the guest of {name} {what} within {} s; its last report: {last:?}", within.as_secs())]
pub struct Silent {
    /// The VM.
    pub name: String,
    /// What it did not do.
    pub what: &'static str,
    /// How long it was waited for.
    pub within: Duration,
    /// What it said last, if ever.
    pub last: Option<Report>,
}

/// The guest of one VM, wherever that runs. Clones follow the same.
#[derive(Debug, Clone)]
pub struct Guest {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    heard: Mutex<Heard>,
    /// Grows with each message.
    news: watch::Sender<u64>,
    /// One command after the other.
    commanding: tokio::sync::Mutex<()>,
    readers: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Heard {
    ledger: Ledger,
    state: Option<State>,
    last: Option<Report>,
    /// The last command number given out here.
    number: u64,
    writers: BTreeMap<usize, OwnedWriteHalf>,
    attached: usize,
    /// The socket that the newest report came through.
    live: Option<usize>,
    /// Which socket each of the last reports came through, to find a guest that runs twice.
    origin: BTreeMap<u64, usize>,
    twice: Option<u64>,
}

impl Guest {
    /// A guest that nothing is heard of yet.
    pub fn new(name: impl Into<String>) -> Self {
        let heard = Heard {
            ledger: Ledger::default(),
            state: None,
            last: None,
            number: 0,
            writers: BTreeMap::new(),
            attached: 0,
            live: None,
            origin: BTreeMap::new(),
            twice: None,
        };
        let inner = Inner {
            name: name.into(),
            heard: Mutex::new(heard),
            news: watch::channel(0).0,
            commanding: tokio::sync::Mutex::default(),
            readers: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Listens to one more QEMU, until that ends: to the source when it is started, to the target before the migration
    /// begins.
    pub fn attach(&self, socket: impl Into<PathBuf>) {
        let socket = socket.into();
        let number = {
            let mut heard = self.heard();
            heard.attached += 1;
            heard.attached
        };
        // The reader must not keep alive what aborts it.
        let inner = Arc::downgrade(&self.inner);
        let reader = tokio::spawn(async move {
            let stream = loop {
                match UnixStream::connect(&socket).await {
                    Ok(stream) => break stream,
                    Err(_) => sleep(KNOCK).await,
                }
            };
            let (mut reader, writer) = stream.into_split();
            if let Some(inner) = inner.upgrade() {
                inner.heard().writers.insert(number, writer);
            }
            let mut lines = Lines::default();
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut bytes).await {
                let Some(inner) = inner.upgrade() else { return };
                let now = Instant::now();
                lines.push(&bytes[..read], |line| match Message::parse(line) {
                    Ok(message) => inner.hear(number, message, now),
                    Err(nonsense) => tracing::debug!(%nonsense, vm = inner.name, "a line of the guest"),
                });
            }
            if let Some(inner) = inner.upgrade() {
                inner.heard().writers.remove(&number);
            }
        });
        self.inner.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
    }

    /// The VM's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The newest counters, once there are some.
    #[must_use]
    pub fn last(&self) -> Option<Report> {
        self.heard().last
    }

    /// The newest state, once there is one.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.heard().state
    }

    /// What was achieved and targeted so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.heard().ledger.clone()
    }

    /// The number of a report that came from two QEMUs: both ran the guest, which no migration may ever do.
    #[must_use]
    pub fn ran_twice(&self) -> Option<u64> {
        self.heard().twice
    }

    /// Waits until the guest has booted and reports.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn booted(&self, within: Duration) -> Result<State, Silent> {
        self.until(within, "did not boot", |heard| heard.last.and(heard.state)).await
    }

    /// Waits until the guest has reported again, from now on: it runs.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn reports(&self, within: Duration) -> Result<Report, Silent> {
        let before = self.last().map_or(0, |report| report.sequence);
        let newer = |heard: &Heard| heard.last.filter(|report| report.sequence > before);
        self.until(within, "did not report", newer).await
    }

    /// Sets the target load of each virtual CPU. The targeted operations count from now, whether or not the guest can
    /// follow: that it can't is what failed operations are about.
    ///
    /// # Errors
    /// When it does not follow in time.
    pub async fn set_load(&self, load: Permille, within: Duration) -> Result<(), Silent> {
        self.heard().want(load, Instant::now());
        self.order(Order::Load(load), within).await.map(drop)
    }

    /// Sets what operations do with memory.
    ///
    /// # Errors
    /// When it does not follow in time.
    pub async fn set_intensity(&self, intensity: Intensity, within: Duration) -> Result<(), Silent> {
        self.order(Order::Intensity(intensity), within).await.map(drop)
    }

    /// Sets what operations are sized by, so that the guests of one scenario count alike.
    ///
    /// # Errors
    /// When it does not follow in time.
    pub async fn set_speed(&self, speed: Speed, within: Duration) -> Result<(), Silent> {
        self.order(Order::Speed(speed), within).await.map(drop)
    }

    /// Checks every page of the working set. This takes what CPU the benchmark leaves over: seconds in a busy guest.
    ///
    /// # Errors
    /// When it is not done in time.
    pub async fn check(&self, within: Duration) -> Result<Check, Silent> {
        let begin = Instant::now();
        let number = self.order(Order::Check, within).await?;
        let check = |heard: &Heard| heard.state.and_then(|state| state.check).filter(|check| check.command >= number);
        self.until(within.saturating_sub(begin.elapsed()), "did not check its memory", check).await
    }

    /// Spoils a page behind the guest's own back.
    ///
    /// # Errors
    /// When it does not follow in time.
    pub async fn spoil(&self, page: u32, how: Spoil, within: Duration) -> Result<(), Silent> {
        self.order(Order::Spoil { page, how }, within).await.map(drop)
    }

    /// Asks the guest to switch itself off; its QEMU ends soon after. Nothing confirms it.
    ///
    /// # Errors
    /// When it never booted.
    pub async fn power_off(&self) -> Result<(), Silent> {
        let number = self.number(Duration::ZERO).await?;
        self.heard().send(Command { number, order: Order::PowerOff });
        Ok(())
    }

    /// Follows a script of loads from a moment on, until its end. A guest that lags behind skips loads.
    pub async fn follow(&self, script: &Script, begin: Instant) {
        let steps = script.steps();
        for (index, (at, load)) in steps.iter().enumerate() {
            tokio::time::sleep_until(begin + *at).await;
            let until_next = steps.get(index + 1).map_or(Duration::MAX, |(next, _)| next.saturating_sub(*at));
            self.heard().want(*load, Instant::now());
            // A load that was not applied before the next is due is replaced by that.
            let within = Duration::from_secs(3600).min(until_next);
            let _ = timeout(until_next.min(within), self.order(Order::Load(*load), within)).await;
        }
    }

    /// Gives an order, and returns its number when the guest has applied it.
    async fn order(&self, order: Order, within: Duration) -> Result<u64, Silent> {
        let _one = self.inner.commanding.lock().await;
        let number = self.number(within).await?;
        let command = Command { number, order };
        let applied = |heard: &Heard| heard.last.filter(|report| report.applied >= number);
        let repeat = async {
            loop {
                self.heard().send(command);
                sleep(REPEAT).await;
            }
        };
        tokio::select! {
            done = self.until(within, "did not do what it was told", applied) => done.map(|_| number),
            () = repeat => unreachable!("it repeats for ever"),
        }
    }

    /// A number greater than any that the guest has seen.
    async fn number(&self, within: Duration) -> Result<u64, Silent> {
        self.booted(within).await?;
        let mut heard = self.heard();
        heard.number = heard.number.max(heard.last.map_or(0, |report| report.applied)) + 1;
        Ok(heard.number)
    }

    async fn until<T>(
        &self,
        within: Duration,
        what: &'static str,
        look: impl Fn(&Heard) -> Option<T>,
    ) -> Result<T, Silent> {
        let mut news = self.inner.news.subscribe();
        let looking = async {
            loop {
                news.mark_unchanged();
                if let Some(found) = look(&self.heard()) {
                    return found;
                }
                // The sender lives as long as we do.
                let _ = news.changed().await;
            }
        };
        let silent = |_| Silent { name: self.inner.name.clone(), what, within, last: self.last() };
        timeout(within, looking).await.map_err(silent)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.inner.heard()
    }
}

impl Inner {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, from: usize, message: Message, now: Instant) {
        self.heard().hear(from, message, now);
        self.news.send_modify(|news| *news += 1);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for reader in self.readers.get_mut().unwrap_or_else(PoisonError::into_inner) {
            reader.abort();
        }
    }
}

impl Heard {
    fn hear(&mut self, from: usize, message: Message, now: Instant) {
        /// Reports of some minutes: no migration keeps one for longer.
        const REMEMBERED: usize = 4096;
        match message {
            Message::State(state) => self.state = Some(state),
            Message::Report(report) => {
                let origin = *self.origin.entry(report.sequence).or_insert(from);
                if origin != from {
                    self.twice.get_or_insert(report.sequence);
                }
                while self.origin.len() > REMEMBERED {
                    self.origin.pop_first();
                }
                // The source's last words may be read after the target's first.
                if self.last.is_none_or(|last| last.sequence < report.sequence) {
                    self.last = Some(report);
                    self.live = Some(from);
                    self.ledger.observe(Observation { at: now, report });
                }
            }
        }
    }

    fn want(&mut self, load: Permille, now: Instant) {
        let workers = self.state.map_or(1, |state| state.workers);
        self.ledger.target(now, target_millis(load, workers));
    }

    /// Sends a command to where the guest was heard last. It may get lost.
    fn send(&self, command: Command) {
        if let Some(writer) = self.live.and_then(|live| self.writers.get(&live)) {
            // An end first, so that what a lost command left behind is a line of its own.
            let line = format!("\n{}", command.line());
            if let Err(error) = writer.try_write(line.as_bytes()) {
                tracing::debug!(%error, "a command to a guest did not leave");
            }
        }
    }
}

#[cfg(test)]
mod tests;
