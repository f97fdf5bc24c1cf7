//! The lines on the guest's second serial port.
//!
//! A migration may tear a line in two, lose it, or deliver it late, so nothing here depends on a single line:
//!
//! * The guest repeats cumulative counters ([`Report`], ten a second) and all of its state ([`State`], once a second and
//!   after each change). Whoever missed some lines knows everything again after the next.
//! * The host repeats a command until a report says that it was applied. A command's number only grows; the guest
//!   ignores numbers that it has seen.
//! * Every line ends in a checksum, so the two halves of a torn line are no lines at all.
//!
//! A line is words of printable ASCII with single spaces between, the last of them the checksum:
//! `R 17 1700 154 90000 0 2 5d3a01f2`.

mod line;

pub use line::{LONGEST_LINE, Lines, Nonsense};

/// A share of one virtual CPU in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Permille(u16);

impl Permille {
    /// All of it.
    pub const FULL: Self = Self(1000);

    /// At most 1000, or nothing.
    #[must_use]
    pub fn new(thousandths: u64) -> Option<Self> {
        u16::try_from(thousandths).ok().filter(|thousandths| *thousandths <= 1000).map(Self)
    }

    /// In thousandths.
    #[must_use]
    pub fn thousandths(self) -> u16 {
        self.0
    }

    /// From 0 to 1.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

/// What an operation does with memory, per thousand of its busy loops (α in Reactive Cloud §4.1.1, times 1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Intensity {
    /// Pages written.
    pub writes: u32,
    /// Pages read.
    pub reads: u32,
}

impl Intensity {
    /// Computes and leaves memory alone: α = 0.
    pub const BUSY_LOOP: Self = Self { writes: 0, reads: 0 };
    /// Reads a page per loop and writes one in fifty.
    pub const READ_MOSTLY: Self = Self { writes: 20, reads: 1000 };
    /// Writes a page per loop: α = 1.
    pub const WRITE_HEAVY: Self = Self { writes: 1000, reads: 0 };
    /// Something of everything: α = 0.1.
    pub const MIXED: Self = Self { writes: 100, reads: 300 };
    /// The most that is accepted of either.
    pub const MOST: u32 = 100_000;
}

/// How much a virtual CPU gets done in a second, working on one thing only (S_cpu and S_mem in Reactive Cloud §4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Speed {
    /// Busy loops.
    pub loops: u64,
    /// Pages read.
    pub reads: u64,
    /// Pages written.
    pub writes: u64,
}

/// What the host wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The target load of each virtual CPU.
    Load(Permille),
    /// What operations do with memory.
    Intensity(Intensity),
    /// Size operations as if the machine were this fast, so that the guests of one scenario count alike.
    Speed(Speed),
    /// Check every page; the outcome appears in [`State::check`].
    Check,
    /// Change a page behind the guest's own back, to prove that [`Order::Check`] sees it.
    Spoil {
        /// Which page.
        page: u32,
        /// How.
        how: Spoil,
    },
    /// Switch the machine off. Nothing confirms it but QEMU's end.
    PowerOff,
}

/// How a page goes bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoil {
    /// One bit flips.
    Damage,
    /// The page falls back to what it was before its last write, as if that write had not been sent on.
    Outdate,
}

/// A numbered [`Order`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// Greater than that of every command before it.
    pub number: u64,
    /// What is wanted.
    pub order: Order,
}

/// Counters since boot, ten times a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Grows by one with each report. The same number from two machines means that two of them run the guest.
    pub sequence: u64,
    /// The guest's monotonic clock in milliseconds. It stands still while the guest is paused.
    pub uptime_ms: u64,
    /// Operations achieved.
    pub operations: u64,
    /// Operations targeted in a second at present, in thousandths.
    pub target_millis: u64,
    /// Pages written.
    pub writes: u64,
    /// The number of the last command that was applied.
    pub applied: u64,
}

/// What the guest is and does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The working set, in pages of 4 KiB.
    pub pages: u32,
    /// What its content grows from.
    pub seed: u64,
    /// Workers, one for each virtual CPU.
    pub workers: u32,
    /// The target load.
    pub load: Permille,
    /// What operations do with memory.
    pub intensity: Intensity,
    /// What operations are sized by: measured at boot, or told.
    pub speed: Speed,
    /// The last finished check, once there is one.
    pub check: Option<Check>,
}

/// The outcome of [`Order::Check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// The number of the command that asked for it.
    pub command: u64,
    /// Pages looked at.
    pub pages: u32,
    /// Pages whose content is older or newer than their last write.
    pub outdated: u32,
    /// Pages whose content is wrong altogether.
    pub damaged: u32,
    /// The first bad page, if any.
    pub first_bad: Option<u32>,
}

impl Check {
    /// Whether every page was what it should be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.outdated == 0 && self.damaged == 0
    }
}

/// What a guest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Counters.
    Report(Report),
    /// Everything else.
    State(State),
}
