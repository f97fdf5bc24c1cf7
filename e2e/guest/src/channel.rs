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

use std::fmt::Write as _;
use std::str::SplitAsciiWhitespace;

/// The longest line that is worth parsing, in bytes; a longer one is noise.
pub const LONGEST_LINE: usize = 512;

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

/// Why a line says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// Torn, or mixed with something else.
    #[error("the line's checksum is missing or wrong")]
    Checksum,
    /// A whole line that this version does not know.
    #[error("the line is whole, but is neither a command nor a message")]
    Unknown,
}

impl Command {
    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> String {
        let order = match self.order {
            Order::Load(load) => format!("load {}", load.0),
            Order::Intensity(Intensity { writes, reads }) => format!("intensity {writes} {reads}"),
            Order::Speed(Speed { loops, reads, writes }) => format!("speed {loops} {reads} {writes}"),
            Order::Check => "check".to_owned(),
            Order::Spoil { page, how: Spoil::Damage } => format!("damage {page}"),
            Order::Spoil { page, how: Spoil::Outdate } => format!("outdate {page}"),
            Order::PowerOff => "power-off".to_owned(),
        };
        seal(&format!("C {} {order}", self.number))
    }

    /// Reads a line.
    ///
    /// # Errors
    /// When it is no command.
    pub fn parse(line: &[u8]) -> Result<Self, Nonsense> {
        let mut words = Words(open(line)?.split_ascii_whitespace());
        words.word("C")?;
        let number = words.number()?;
        let order = match words.0.next() {
            Some("load") => Order::Load(Permille::new(words.number()?).ok_or(Nonsense::Unknown)?),
            Some("intensity") => Order::Intensity(words.intensity()?),
            Some("speed") => Order::Speed(words.speed()?),
            Some("check") => Order::Check,
            Some("damage") => Order::Spoil { page: words.small()?, how: Spoil::Damage },
            Some("outdate") => Order::Spoil { page: words.small()?, how: Spoil::Outdate },
            Some("power-off") => Order::PowerOff,
            _ => return Err(Nonsense::Unknown),
        };
        words.end(Self { number, order })
    }
}

impl Message {
    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Report(report) => seal(&format!(
                "R {} {} {} {} {} {}",
                report.sequence,
                report.uptime_ms,
                report.operations,
                report.target_millis,
                report.writes,
                report.applied
            )),
            Self::State(state) => {
                let State { pages, seed, workers, load: Permille(load), intensity, speed, check } = state;
                let Intensity { writes, reads } = intensity;
                let mut body = format!("S {pages} {seed} {workers} {load} {writes} {reads}");
                let _ = write!(body, " {} {} {}", speed.loops, speed.reads, speed.writes);
                if let Some(check) = check {
                    let Check { command, pages, outdated, damaged, first_bad } = check;
                    let _ = write!(body, " {command} {pages} {outdated} {damaged}");
                    if let Some(page) = first_bad {
                        let _ = write!(body, " {page}");
                    }
                }
                seal(&body)
            }
        }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// When it is no message.
    pub fn parse(line: &[u8]) -> Result<Self, Nonsense> {
        let mut words = Words(open(line)?.split_ascii_whitespace());
        match words.0.next() {
            Some("R") => {
                let report = Report {
                    sequence: words.number()?,
                    uptime_ms: words.number()?,
                    operations: words.number()?,
                    target_millis: words.number()?,
                    writes: words.number()?,
                    applied: words.number()?,
                };
                words.end(Self::Report(report))
            }
            Some("S") => {
                let state = State {
                    pages: words.small()?,
                    seed: words.number()?,
                    workers: words.small()?,
                    load: Permille::new(words.number()?).ok_or(Nonsense::Unknown)?,
                    intensity: words.intensity()?,
                    speed: words.speed()?,
                    check: words.check()?,
                };
                words.end(Self::State(state))
            }
            _ => Err(Nonsense::Unknown),
        }
    }
}

/// The words of a line that are still to be read.
struct Words<'line>(SplitAsciiWhitespace<'line>);

impl Words<'_> {
    fn word(&mut self, wanted: &str) -> Result<(), Nonsense> {
        (self.0.next() == Some(wanted)).then_some(()).ok_or(Nonsense::Unknown)
    }

    fn number(&mut self) -> Result<u64, Nonsense> {
        self.0.next().and_then(|word| word.parse().ok()).ok_or(Nonsense::Unknown)
    }

    fn small(&mut self) -> Result<u32, Nonsense> {
        self.0.next().and_then(|word| word.parse().ok()).ok_or(Nonsense::Unknown)
    }

    fn intensity(&mut self) -> Result<Intensity, Nonsense> {
        let intensity = Intensity { writes: self.small()?, reads: self.small()? };
        let allowed = intensity.writes <= Intensity::MOST && intensity.reads <= Intensity::MOST;
        allowed.then_some(intensity).ok_or(Nonsense::Unknown)
    }

    fn speed(&mut self) -> Result<Speed, Nonsense> {
        let speed = Speed { loops: self.number()?, reads: self.number()?, writes: self.number()? };
        // Operations are sized by dividing by them.
        let allowed = speed.loops > 0 && speed.reads > 0 && speed.writes > 0;
        allowed.then_some(speed).ok_or(Nonsense::Unknown)
    }

    fn check(&mut self) -> Result<Option<Check>, Nonsense> {
        let Some(first) = self.0.next() else { return Ok(None) };
        Ok(Some(Check {
            command: first.parse().map_err(|_| Nonsense::Unknown)?,
            pages: self.small()?,
            outdated: self.small()?,
            damaged: self.small()?,
            first_bad: self.0.next().map(str::parse).transpose().map_err(|_| Nonsense::Unknown)?,
        }))
    }

    fn end<T>(mut self, value: T) -> Result<T, Nonsense> {
        self.0.next().is_none().then_some(value).ok_or(Nonsense::Unknown)
    }
}

fn seal(body: &str) -> String {
    format!("{body} {:08x}\n", checksum(body.as_bytes()))
}

/// The line without its checksum, when that is right.
fn open(line: &[u8]) -> Result<&str, Nonsense> {
    let line = line.trim_ascii_end();
    let (body, sum) = line.len().checked_sub(9).and_then(|at| line.split_at_checked(at)).ok_or(Nonsense::Checksum)?;
    let sum = sum.strip_prefix(b" ").and_then(|sum| str::from_utf8(sum).ok()).ok_or(Nonsense::Checksum)?;
    let right = u32::from_str_radix(sum, 16) == Ok(checksum(body));
    right.then_some(body).and_then(|body| str::from_utf8(body).ok()).ok_or(Nonsense::Checksum)
}

/// FNV-1a in 32 bits: torn lines are to be seen, not forged ones.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Cuts what arrives into lines, and drops what is too long to be one.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Hands every line that these bytes complete to `found`, without its end.
    pub fn push(&mut self, bytes: &[u8], mut found: impl FnMut(&[u8])) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    if self.line.len() <= LONGEST_LINE {
                        found(&self.line);
                    }
                    self.line.clear();
                }
                // One byte more than the longest says that the line is too long, however long it becomes.
                _ if self.line.len() <= LONGEST_LINE => self.line.push(*byte),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn orders() -> impl Strategy<Value = Order> {
        prop_oneof![
            (0..=1000u64).prop_map(|load| Order::Load(Permille::new(load).unwrap())),
            intensities().prop_map(Order::Intensity),
            speeds().prop_map(Order::Speed),
            Just(Order::Check),
            any::<u32>().prop_map(|page| Order::Spoil { page, how: Spoil::Damage }),
            any::<u32>().prop_map(|page| Order::Spoil { page, how: Spoil::Outdate }),
            Just(Order::PowerOff),
        ]
    }

    fn intensities() -> impl Strategy<Value = Intensity> {
        (0..=Intensity::MOST, 0..=Intensity::MOST).prop_map(|(writes, reads)| Intensity { writes, reads })
    }

    fn speeds() -> impl Strategy<Value = Speed> {
        (1..u64::MAX, 1..u64::MAX, 1..u64::MAX).prop_map(|(loops, reads, writes)| Speed { loops, reads, writes })
    }

    fn checks() -> impl Strategy<Value = Check> {
        (any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<Option<u32>>()).prop_map(
            |(command, pages, outdated, damaged, first_bad)| Check { command, pages, outdated, damaged, first_bad },
        )
    }

    fn messages() -> impl Strategy<Value = Message> {
        let report = any::<[u64; 6]>().prop_map(|[sequence, uptime_ms, operations, target_millis, writes, applied]| {
            Message::Report(Report { sequence, uptime_ms, operations, target_millis, writes, applied })
        });
        let settings = (0..=1000u64, intensities(), speeds(), prop::option::of(checks()));
        let state = (any::<u32>(), any::<u64>(), any::<u32>(), settings).prop_map(
            |(pages, seed, workers, (load, intensity, speed, check))| {
                let load = Permille::new(load).unwrap();
                Message::State(State { pages, seed, workers, load, intensity, speed, check })
            },
        );
        prop_oneof![report, state]
    }

    proptest! {
        #[test]
        fn a_command_survives_its_line(number: u64, order in orders()) {
            let command = Command { number, order };
            prop_assert!(command.line().len() <= LONGEST_LINE);
            prop_assert_eq!(Command::parse(command.line().as_bytes()), Ok(command));
        }

        #[test]
        fn a_message_survives_its_line(message in messages()) {
            prop_assert!(message.line().len() <= LONGEST_LINE);
            prop_assert_eq!(Message::parse(message.line().as_bytes()), Ok(message));
        }

        #[test]
        fn the_pieces_of_a_torn_line_say_nothing(message in messages(), at: prop::sample::Index) {
            let line = message.line();
            let at = 1 + at.index(line.len() - 2);
            prop_assert_eq!(Message::parse(&line.as_bytes()[..at]), Err(Nonsense::Checksum));
            prop_assert_eq!(Message::parse(&line.as_bytes()[at..]), Err(Nonsense::Checksum));
        }

        #[test]
        fn noise_neither_parses_nor_panics(noise: Vec<u8>) {
            prop_assert!(Message::parse(&noise).is_err());
            prop_assert!(Command::parse(&noise).is_err());
        }

        #[test]
        fn any_words_under_a_right_checksum_do_not_panic(words in "[RSC]( ([0-9]{1,25}|[a-z-]{0,9})){0,20}") {
            let line = seal(&words);
            let _ = Message::parse(line.as_bytes());
            let _ = Command::parse(line.as_bytes());
        }

        #[test]
        fn lines_come_out_whole_however_they_arrive(messages in prop::collection::vec(messages(), 0..5), piece in 1..40usize) {
            let text: String = messages.iter().map(Message::line).collect();
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in text.as_bytes().chunks(piece) {
                lines.push(piece, |line| found.push(Message::parse(line).unwrap()));
            }
            prop_assert_eq!(found, messages);
        }
    }

    #[test]
    fn a_line_without_end_takes_no_memory_and_hides_nothing() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; 1 << 20], |_| panic!("no line has ended"));
        assert!(lines.line.capacity() < 1 << 12);
        let report = Message::Report(Report::default());
        let mut found = Vec::new();
        lines.push(b"\n", |line| found.push(Message::parse(line)));
        lines.push(report.line().as_bytes(), |line| found.push(Message::parse(line)));
        assert_eq!(found, [Ok(report)]);
    }

    #[test]
    fn what_would_be_divided_by_is_never_zero() {
        assert_eq!(Command::parse(seal("C 1 speed 1 0 1").as_bytes()), Err(Nonsense::Unknown));
        assert_eq!(Command::parse(seal("C 1 load 1001").as_bytes()), Err(Nonsense::Unknown));
    }
}
