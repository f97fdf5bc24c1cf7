//! What the events of both ends mean for the migration as a whole. Pure: events and their moments come in, a [`Phase`]
//! comes out.
//!
//! ```text
//! Connecting ──▶ PreCopy ──────────────▶ Completed          Lost   the VM runs nowhere
//!     │             │ ╲  switch            ▲               Failed  the source runs on
//!     │             │  ╲                   │            Cancelled  the source runs on, as was wished
//!     │             │   ▶ PostCopy ────────┤
//!     ▼             ▼         │            ▼
//!   Failed      Cancelled     └──────────▶ Lost
//! ```
//!
//! As QEMU 7.2 and 10.0 behave:
//!
//! * Pre-copy, success: source STOP, MIGRATION completed; target MIGRATION completed; the target's may come first.
//! * Post-copy: source MIGRATION postcopy-active, STOP; target postcopy-active; completed on both when all has arrived.
//! * An end that dies or a connection that breaks: before the switch, the source fails and runs on. After it, the other end
//!   says postcopy-paused and the VM stands still, its memory in two halves. QEMU could go on over a new connection, but
//!   KubeVirt never tries: it marks the VM as failed.
//!
//! The target does not run by itself. As libvirt does, it is told to ([`Course::errand`]) once the source can't run on any
//! more: otherwise a connection that breaks at the worst moment would leave two of the VM. And as with libvirt, a source
//! that has sent everything to a target that then dies is told to go on.

use crate::qemu::qmp::{Event, Happening, Progress, Status};
use std::time::Duration;
use tokio::time::Instant;

/// Where a migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Connections are made.
    Connecting,
    /// The source runs and its memory is sent.
    PreCopy(Progress),
    /// The target runs and fetches what it lacks.
    PostCopy(Progress),
    /// It is over.
    Ended(Outcome),
}

/// How a migration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The VM runs on the target, which needs the source no more.
    Completed(Mode),
    /// The VM runs on the source, as was wished.
    Cancelled,
    /// The VM runs on the source, which was not wished.
    Failed(Cause),
    /// The VM runs nowhere any more.
    Lost(Cause),
}

/// How the VM came to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// With all of its memory.
    PreCopy,
    /// Before its memory.
    PostCopy,
    /// With all of its memory, after it was paused because it would not finish otherwise.
    Paused,
}

/// What ended a migration before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The source's QEMU died.
    SourceDied,
    /// The target's QEMU died.
    TargetDied,
    /// Both live, and can't reach each other; or one of them refuses what the other sends.
    Broken,
    /// A cancel reached a target that ran already.
    CancelledTooLate,
}

/// When things happened, by the clock of the machine the lab runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// QEMU was told to migrate.
    pub started: Instant,
    /// Each round over the memory began.
    pub rounds: Vec<Instant>,
    /// QEMU was told to switch to post-copy.
    pub switch_ordered: Option<Instant>,
    /// The guest stood still on the source.
    pub stopped: Option<Instant>,
    /// The guest ran on the target.
    pub resumed: Option<Instant>,
    /// It was over.
    pub ended: Option<Instant>,
}

impl Times {
    /// How long the guest ran nowhere, once it runs on the target. QEMU's own figure is wrong in post-copy.
    #[must_use]
    pub fn downtime(&self) -> Option<Duration> {
        Some(self.resumed?.saturating_duration_since(self.stopped?))
    }
}

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Target,
}

/// What one end has said so far.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    status: Status,
    died: bool,
}

impl View {
    /// It gave up or died.
    fn is_over(&self) -> bool {
        self.died || matches!(self.status, Status::PostcopyPaused | Status::Failed | Status::Cancelled)
    }
}

/// Everything known of one migration.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    pub(crate) times: Times,
    source: View,
    target: View,
    progress: Progress,
    /// The guest ran when the migration began.
    running: bool,
    /// The source has handed the VM over to a target that lacks memory.
    switched: bool,
    paused: bool,
    /// Which ends were told to run.
    told: (Told, Told),
    cancelled: bool,
    /// Since when one end knows of an end, and the other may still say why.
    ending: Option<Instant>,
}

/// Whether an end was told to run.
type Told = bool;

/// How long the second end may take to say what became of it, once the first knows that the migration is over.
const LAST_WORDS: Duration = Duration::from_secs(3);

impl Course {
    /// The migration of a guest that runs, or is paused and stays so.
    pub(crate) fn new(now: Instant, running: bool) -> Self {
        let view = View { status: Status::None, died: false };
        let times =
            Times { started: now, rounds: Vec::new(), switch_ordered: None, stopped: None, resumed: None, ended: None };
        Self {
            times,
            source: view.clone(),
            target: view,
            progress: Progress::default(),
            running,
            switched: false,
            paused: false,
            told: (false, false),
            cancelled: false,
            ending: None,
        }
    }

    /// One end said something.
    pub(crate) fn heard(&mut self, end: End, event: &Event) {
        match (end, &event.happening) {
            (End::Source, Happening::Stop) => self.times.stopped = Some(event.at),
            // A pause that was undone, or a switch that did not come about.
            (End::Source, Happening::Resume) => self.times.stopped = None,
            (End::Target, Happening::Resume) => self.times.resumed = Some(event.at),
            (End::Source, Happening::MigrationPass(_)) => self.times.rounds.push(event.at),
            (_, Happening::Migration(status)) => {
                let view = if end == End::Source { &mut self.source } else { &mut self.target };
                view.status = status.clone();
                self.switched |= *status == Status::PostcopyActive;
            }
            _ => {}
        }
    }

    /// One end is gone.
    pub(crate) fn died(&mut self, end: End) {
        match end {
            End::Source => self.source.died = true,
            End::Target => self.target.died = true,
        }
    }

    pub(crate) fn told_to_switch(&mut self, now: Instant) {
        self.times.switch_ordered.get_or_insert(now);
    }

    pub(crate) fn told_to_cancel(&mut self) {
        self.cancelled = true;
    }

    pub(crate) fn told_to_pause(&mut self) {
        self.paused = true;
    }

    /// The end that has to be told to run, now and only once.
    pub(crate) fn errand(&mut self) -> Option<End> {
        let sent = self.source.status == Status::Completed;
        let Self { told: (source_told, target_told), .. } = self;
        if !self.running {
            None
        } else if !*target_told
            && !self.target.died
            && (self.switched || sent && self.target.status == Status::Completed)
        {
            *target_told = true;
            Some(End::Target)
        } else if !*source_told && !self.switched && sent && self.target.is_over() && !self.source.died {
            *source_told = true;
            Some(End::Source)
        } else {
            None
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    pub(crate) fn progressed(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// Where it stands now. Once ended it stays so.
    pub(crate) fn phase(&mut self, now: Instant) -> Phase {
        let outcome = self.outcome(now);
        if let Some(outcome) = outcome {
            self.times.ended.get_or_insert(now);
            return Phase::Ended(outcome);
        }
        match self.source.status {
            _ if self.switched => Phase::PostCopy(self.progress),
            Status::None | Status::Setup => Phase::Connecting,
            _ => Phase::PreCopy(self.progress),
        }
    }

    fn outcome(&mut self, now: Instant) -> Option<Outcome> {
        let mode = match (self.switched, self.paused) {
            (true, _) => Mode::PostCopy,
            (false, true) => Mode::Paused,
            (false, false) => Mode::PreCopy,
        };
        let sent = self.source.status == Status::Completed;
        // Nothing that the source does matters any more.
        let runs = (self.times.resumed.is_some() || !self.running) && !self.target.died;
        if runs && self.target.status == Status::Completed && (sent || self.source.died) {
            return Some(Outcome::Completed(mode));
        }
        let cause = match (self.source.died, self.target.died) {
            (true, _) => Cause::SourceDied,
            (false, true) => Cause::TargetDied,
            (false, false) if self.switched && self.cancelled => Cause::CancelledTooLate,
            (false, false) => Cause::Broken,
        };
        if self.source.died && self.target.died {
            return Some(Outcome::Lost(cause));
        }
        if self.source.died {
            // The target may have everything and be about to say so.
            return self.settle(now, Outcome::Lost(cause), self.target.is_over());
        }
        // The switch did not come about, or the target could not be told to run.
        let back = self.times.stopped.is_none() && self.times.resumed.is_none();
        match self.source.status {
            Status::Cancelled if !self.switched => Some(Outcome::Cancelled),
            Status::Failed if self.cancelled && !self.switched => Some(Outcome::Cancelled),
            Status::Failed if !self.switched || back => self.settle(now, Outcome::Failed(cause), self.target.died),
            Status::Completed if !self.switched && self.told.0 && back => Some(Outcome::Failed(cause)),
            _ if self.switched && (self.source.is_over() || self.target.is_over()) => {
                self.settle(now, Outcome::Lost(cause), self.target.died)
            }
            Status::Completed if self.target.is_over() => self.settle(now, Outcome::Lost(cause), false),
            _ => None,
        }
    }

    /// The outcome, once no more is to be heard of its cause.
    fn settle(&mut self, now: Instant, outcome: Outcome, certain: bool) -> Option<Outcome> {
        let since = *self.ending.get_or_insert(now);
        (certain || now.saturating_duration_since(since) >= LAST_WORDS).then_some(outcome)
    }
}

#[cfg(test)]
mod tests;
