//! Which driver to ask what, and when to give up: a pure state machine. It is handed each answer and says the next step.
//!
//! ```text
//!            ┌──────────────── back-off, tries left ◀─────────────────┐
//!            ▼                                                        │
//!  Start ─▶ Read ── on ─▶ Done      ┌── refused ─▶ next driver ─▶ …   │
//!            │ asleep, off, unclear │                                 │
//!            └────▶ Wake / PowerOn ─┴── taken ─▶ Read … until on ─────┤ still asleep
//!                                                   ├─▶ Done          ▼
//!                                                   └─ no proof ─▶ next driver ─▶ … ─▶ none left: WakeFailure
//! ```
//!
//! A request that was taken and that no reading proves is followed by the next driver's, which does no harm; if none
//! proves anything, the sequence ends well but unverified, and the node itself has to show that it woke.
//! A driver that can't read (Wake-on-LAN) is verified by any other of the node that can.

use super::{DriverError, PowerState, Reading, Retry, protocol_name};
use miyako_api::node_power_class::WakeProtocol;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::{fmt, time::Duration};

/// How patient a sequence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How often one driver is tried.
    pub tries: u32,
    /// The bound of the first wait between two tries; each further one is twice as long.
    pub first_wait: Duration,
    /// The bound of all waits.
    pub longest_wait: Duration,
    /// Between two looks whether the machine is on.
    pub poll: Duration,
    /// How long after a request was taken the machine may read as not on.
    pub verify_for: Duration,
}

impl Default for Patience {
    /// Five tries 1, 2, 4 and 8 s apart and a look every 2 s, as working AMT clients do; an AMT that dozes misses the
    /// first packets. Resume takes seconds, a BIOS up to 10 s to carry a request out.
    fn default() -> Self {
        Self {
            tries: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(8),
            poll: Duration::from_secs(2),
            verify_for: Duration::from_secs(20),
        }
    }
}

/// A driver as the sequence sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its protocol.
    pub protocol: WakeProtocol,
    /// Where it speaks to.
    pub address: String,
    /// Whether it can tell how the machine is.
    pub can_read: bool,
}

/// What is known of the machine before anybody asks its BMC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// It suspended and its lease lapsed: an "on" of a BMC that doesn't see S3 is no proof of the contrary.
    Asleep,
    /// Nothing: an "on" is believed.
    Nothing,
}

/// What to do next. Numbers index the candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask how the machine is.
    Read(usize),
    /// Wake it.
    Wake(usize),
    /// Turn it on.
    PowerOn(usize),
    /// Wait.
    Wait(Duration),
    /// The end.
    Done(Result<Woken, WakeFailure>),
}

/// What came of the step before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// There was none.
    Start,
    /// Of a [`Step::Read`].
    Read(Result<Reading, DriverError>),
    /// Of a [`Step::Wake`] or [`Step::PowerOn`].
    Ordered(Result<(), DriverError>),
    /// Of a [`Step::Wait`].
    Waited,
}

/// How a machine came to be on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Woken {
    /// By which driver; none if it was on already.
    pub by: Option<WakeProtocol>,
    /// Whether a BMC shows that it is on. If not, a request was taken or sent and only the node itself can prove it.
    pub verified: bool,
    /// What was last read.
    pub evidence: String,
    /// How many requests it took.
    pub requests: u32,
}

/// What one driver said at last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The protocol.
    pub protocol: WakeProtocol,
    /// Where.
    pub address: String,
    /// How often.
    pub tries: u32,
    /// The last error.
    pub error: DriverError,
}

/// No driver could wake the machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct WakeFailure {
    /// What each driver said, in the class's order.
    pub tried: Vec<Tried>,
}

impl fmt::Display for WakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tried.is_empty() {
            return f.write_str("the node's class names no wake driver: add one under spec.wake");
        }
        for (index, Tried { protocol, address, tries, error }) in self.tried.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let (protocol, plural) = (protocol_name(*protocol), if *tries == 1 { "try" } else { "tries" });
            write!(f, "{separator}{protocol} {address} ({tries} {plural}): {error} – {}", error.check())?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Reading before the first order of a try.
    Looking,
    /// The order is on its way.
    Ordering,
    /// Between an order and its proof; `reader` is who proves it.
    Polling { reader: usize, until: Duration },
    /// Waiting for the next look.
    PollPause { reader: usize, until: Duration },
    /// Waiting for the next try.
    BackingOff,
}

/// One attempt to wake one machine.
#[derive(Debug)]
pub struct Sequence {
    candidates: Vec<Candidate>,
    belief: Belief,
    patience: Patience,
    random: ChaCha8Rng,
    phase: Phase,
    current: usize,
    tries: u32,
    requests: u32,
    /// Readers that won't answer any more.
    mute: Vec<bool>,
    /// Whether a reading of this attempt showed the machine not on, so that an "on" later is a change and a proof.
    seen_not_on: bool,
    last_reading: Option<Reading>,
    /// A request that was taken and that nobody could prove to have worked.
    unproved: Option<Woken>,
    tried: Vec<Tried>,
}

impl Sequence {
    /// An attempt with these drivers in this order. The seed decides the jitter alone.
    #[must_use]
    pub fn new(candidates: Vec<Candidate>, belief: Belief, patience: Patience, seed: u64) -> Self {
        Self {
            mute: vec![false; candidates.len()],
            candidates,
            belief,
            patience,
            random: ChaCha8Rng::seed_from_u64(seed),
            phase: Phase::Looking,
            current: 0,
            tries: 0,
            requests: 0,
            seen_not_on: false,
            last_reading: None,
            unproved: None,
            tried: Vec::new(),
        }
    }

    /// The next step, given what came of the one before, `now` after the start.
    pub fn next(&mut self, answer: Answer, now: Duration) -> Step {
        match (self.phase, answer) {
            (_, Answer::Start) => self.begin(),
            (Phase::Looking, Answer::Read(Ok(reading))) => self.looked(reading, now),
            (Phase::Looking, Answer::Read(Err(error))) | (Phase::Ordering, Answer::Ordered(Err(error))) => {
                self.failed(error)
            }
            (Phase::Ordering, Answer::Ordered(Ok(()))) => self.ordered(now),
            (Phase::Polling { reader, until }, Answer::Read(read)) => self.polled(reader, until, read, now),
            (Phase::PollPause { reader, until }, _) => {
                self.phase = Phase::Polling { reader, until };
                Step::Read(reader)
            }
            (Phase::BackingOff, _) => self.try_current(),
            // An answer that doesn't belong to the step: begin the try again, which is always safe.
            (_, Answer::Waited | Answer::Read(_) | Answer::Ordered(_)) => self.try_current(),
        }
    }

    fn begin(&mut self) -> Step {
        (self.current, self.tries) = (0, 0);
        if self.candidates.is_empty() { self.give_up() } else { self.try_current() }
    }

    fn try_current(&mut self) -> Step {
        if self.candidates[self.current].can_read {
            self.phase = Phase::Looking;
            Step::Read(self.current)
        } else {
            self.order(PowerState::Unknown)
        }
    }

    fn looked(&mut self, reading: Reading, now: Duration) -> Step {
        let state = reading.state;
        let believed = reading.excludes_sleep || self.belief == Belief::Nothing || self.seen_not_on;
        self.note(reading);
        match state {
            PowerState::On if believed => Step::Done(Ok(self.woken(self.requests > 0, true))),
            PowerState::Starting => self.poll(self.current, now),
            _ => self.order(state),
        }
    }

    fn order(&mut self, state: PowerState) -> Step {
        self.phase = Phase::Ordering;
        if state == PowerState::Off { Step::PowerOn(self.current) } else { Step::Wake(self.current) }
    }

    fn ordered(&mut self, now: Duration) -> Step {
        self.requests += 1;
        match self.reader() {
            Some(reader) => self.poll(reader, now),
            None => self.go_on_unproved(),
        }
    }

    fn poll(&mut self, reader: usize, now: Duration) -> Step {
        let until = now + self.patience.verify_for;
        self.phase = Phase::PollPause { reader, until };
        Step::Wait(self.patience.poll)
    }

    fn polled(&mut self, reader: usize, until: Duration, read: Result<Reading, DriverError>, now: Duration) -> Step {
        let unproven = match read {
            Ok(reading) if reading.state == PowerState::On => {
                let proof = reading.excludes_sleep || self.belief == Belief::Nothing || self.seen_not_on;
                self.note(reading);
                return if proof { Step::Done(Ok(self.woken(true, true))) } else { self.go_on_unproved() };
            }
            Ok(reading) => {
                let text = reading.to_string();
                self.note(reading);
                DriverError::Busy(format!("the request was taken, but the machine still reads as {text}"))
            }
            Err(error) if error.retry() == Retry::No => {
                self.mute[reader] = true;
                return match self.reader() {
                    Some(other) => {
                        self.phase = Phase::Polling { reader: other, until };
                        Step::Read(other)
                    }
                    None => self.go_on_unproved(),
                };
            }
            // The link drops for some seconds at every change of power.
            Err(error) => error,
        };
        if now >= until {
            return self.failed(unproven);
        }
        self.phase = Phase::PollPause { reader, until };
        Step::Wait(self.patience.poll)
    }

    /// Who can prove that the current driver's order worked: itself if it can, else the first that does.
    fn reader(&self) -> Option<usize> {
        let able = |index: &usize| self.candidates[*index].can_read && !self.mute[*index];
        Some(self.current).filter(able).or_else(|| (0..self.candidates.len()).find(able))
    }

    fn failed(&mut self, error: DriverError) -> Step {
        self.tries += 1;
        if error.retry() == Retry::Soon && self.tries < self.patience.tries {
            let doubled = self.patience.first_wait.saturating_mul(1 << (self.tries - 1).min(16));
            let bound = doubled.min(self.patience.longest_wait);
            self.phase = Phase::BackingOff;
            // At least half of it: full jitter could wait too little for a machine that is just changing its power.
            return Step::Wait(bound.mul_f64(0.5 + 0.5 * self.random.random::<f64>()));
        }
        let Candidate { protocol, address, .. } = self.candidates[self.current].clone();
        self.mute[self.current] |= error.retry() == Retry::No;
        self.tried.push(Tried { protocol, address, tries: self.tries, error });
        self.next_driver()
    }

    /// A request was taken and nothing shows that it worked: the next driver's does no harm, and may be the one.
    fn go_on_unproved(&mut self) -> Step {
        self.unproved = Some(self.woken(true, false));
        self.next_driver()
    }

    fn next_driver(&mut self) -> Step {
        if self.current + 1 < self.candidates.len() {
            (self.current, self.tries) = (self.current + 1, 0);
            self.try_current()
        } else {
            self.give_up()
        }
    }

    fn note(&mut self, reading: Reading) {
        self.seen_not_on |= matches!(
            reading.state,
            PowerState::Sleeping | PowerState::Standby | PowerState::Off | PowerState::Starting
        );
        self.last_reading = Some(reading);
    }

    fn woken(&self, by_us: bool, verified: bool) -> Woken {
        let by = by_us.then(|| self.candidates[self.current].protocol);
        let evidence = self.last_reading.as_ref().map_or_else(|| "nothing was read".to_owned(), Reading::to_string);
        Woken { by, verified, evidence, requests: self.requests }
    }

    fn give_up(&mut self) -> Step {
        let failure = WakeFailure { tried: std::mem::take(&mut self.tried) };
        Step::Done(self.unproved.take().ok_or(failure))
    }
}
