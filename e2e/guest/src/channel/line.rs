//! Messages and commands as text, and back.

use super::{Check, Command, Intensity, Message, Order, Permille, Report, Speed, Spoil, State};
use std::fmt::Write as _;
use std::str::SplitAsciiWhitespace;

/// The longest line that is worth parsing, in bytes; a longer one is noise.
pub const LONGEST_LINE: usize = 512;

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
            Order::Load(load) => format!("load {}", load.thousandths()),
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
                let State { pages, seed, workers, load, intensity, speed, check } = state;
                let Intensity { writes, reads } = intensity;
                let mut body = format!("S {pages} {seed} {workers} {} {writes} {reads}", load.thousandths());
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
mod tests;
