//! What QEMU writes when it migrates a VM, taken apart as it passes.
//!
//! A [`Reader`] follows one connection and cuts its bytes into [`Span`]s. The spans, one after the other, *are* the
//! stream: each byte is in exactly one. A page of the guest is a span of its own, of exactly [`PAGE`] bytes; everything
//! around it is [`Span::Control`].
//!
//! A migration has up to three kinds of connections, told apart by their first bytes ([`Channel`]):
//!
//! ```text
//! main      "QEVM" 3, configuration, sections            or, when a post-copy migration is resumed, commands at once
//!           START ram: list of blocks                        ┐
//!           PART  ram: pages … EOS                           │ RAM records (`ram`)
//!           END   ram: pages … EOS                           ┘
//!           FULL  a device: no length, hence opaque          pre-copy ends so
//!           COMMAND PACKAGED: length, devices in a blob      post-copy goes on with PARTs behind it
//! multifd   64 bytes once, then packets: 1344 bytes and up to 128 pages (`multifd`)
//! preempt   RAM records alone, those that the guest waits for
//! ```
//!
//! The format has no lengths where it would matter, no checksums, and a dozen options that change it. So the reader
//! knows what QEMU 7.2 to 11.1 send for the settings that KubeVirt uses, and of everything else it knows only that it
//! does not know it: from there on all is [`Span::Opaque`], with a [`Reason`]. That costs the gain, and nothing else.
//! It may even be wrong about what a byte means, as a stream may be made to deceive it: what it calls a page is 4096
//! bytes in one piece, and the other side puts these bytes back, whatever they are.

mod blocks;
mod cursor;
mod main_channel;
mod multifd;
mod ram;
mod reason;
#[cfg(test)]
pub(crate) mod tests;

pub use blocks::{BlockId, Place};
pub use reason::Reason;

use crate::PAGE;
use blocks::Blocks;
use cursor::{Cursor, Stop};
use main_channel::Main;
use multifd::Packet;
use ram::Record;

/// What a piece of the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Everything around the pages: headers, names, device state of known length.
    Control,
    /// What a page of the guest holds: always [`PAGE`] bytes.
    Page(Place),
    /// The bytes by which QEMU says that a page holds nothing but zeros: one byte in a RAM record, the page's eight
    /// bytes of offset in a multifd packet.
    Zero(Place),
    /// What changed in a page since it was sent last. What the page now holds can't be told from the stream.
    Changed(Place),
    /// Not understood, as everything that follows on this connection.
    Opaque,
}

/// A span, and how many bytes of the input it covers: at least one, and no more than were offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What they are.
    pub span: Span,
    /// How many.
    pub bytes: usize,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// It has not said.
    Unknown,
    /// The migration itself; all of it where there are no other connections.
    Main,
    /// One of several that share the pages.
    Multifd,
    /// Pages that the guest waits for, in post-copy.
    Preempt,
}

#[derive(Debug)]
enum State {
    Begin,
    /// Control bytes of known length, and what follows.
    Pass(u64, Box<State>),
    Main(Main),
    Record(Record),
    Packet(Packet),
    Opaque(Reason),
}

/// What was found at the front of the input.
struct Found {
    step: Step,
    next: State,
}

impl Found {
    fn control(cursor: &Cursor<'_>, next: State) -> Self {
        Self { step: Step { span: Span::Control, bytes: cursor.taken() }, next }
    }
}

/// Follows one connection of a migration.
#[derive(Debug)]
pub struct Reader {
    state: State,
    channel: Channel,
    blocks: Blocks,
    /// The section that carries RAM, once its START was seen.
    ram: Option<u32>,
    /// The main channel of a migration that is resumed: it has no START.
    resumed: bool,
    /// That of the last RAM record, which the next one may go on with.
    block: Option<BlockId>,
    /// The offsets of the multifd packet whose pages pass.
    offsets: Vec<u64>,
    packet: Option<u64>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// What must be offered at most for a step: a page. The headers are shorter.
    pub const MOST: usize = PAGE;

    /// A reader at the first byte of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Begin,
            channel: Channel::Unknown,
            blocks: Blocks::default(),
            ram: None,
            resumed: false,
            block: None,
            offsets: Vec::new(),
            packet: None,
        }
    }

    /// The span at the front of `input`, which begins behind the last one. `None` when more must come before it can be
    /// told: with [`Reader::MOST`] bytes it always can.
    pub fn step(&mut self, input: &[u8]) -> Option<Step> {
        if input.is_empty() {
            return None;
        }
        // A length of zero and an end of pages take a turn without a byte; no more than two follow each other.
        loop {
            if let State::Opaque(_) = self.state {
                return Some(Step { span: Span::Opaque, bytes: input.len() });
            }
            match self.find(input) {
                Ok(Found { step, next }) => {
                    self.state = next;
                    if step.bytes > 0 {
                        return Some(step);
                    }
                }
                Err(Stop::More) => return None,
                Err(Stop::Unknown(reason)) => self.give_up(reason),
            }
        }
    }

    /// From here on everything is opaque. The first reason stays.
    pub fn give_up(&mut self, reason: Reason) {
        if !matches!(self.state, State::Opaque(_)) {
            self.state = State::Opaque(reason);
            self.offsets = Vec::new();
        }
    }

    /// Why the rest is opaque, if it is.
    #[must_use]
    pub fn opaque(&self) -> Option<Reason> {
        match self.state {
            State::Opaque(reason) => Some(reason),
            _ => None,
        }
    }

    /// What the connection is for.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// The name of a block that a [`Place`] of this reader names.
    #[must_use]
    pub fn block_name(&self, block: BlockId) -> Option<&[u8]> {
        self.blocks.name(block)
    }

    /// The bytes of all of the guest's blocks, once the main channel has listed them.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.blocks.bytes()
    }

    /// The number of the multifd packet that the last page belongs to. They count through all channels, so a page of a
    /// higher number is the newer one.
    #[must_use]
    pub fn packet(&self) -> Option<u64> {
        self.packet
    }

    fn find(&mut self, input: &[u8]) -> Result<Found, Stop> {
        match &mut self.state {
            State::Begin => self.begin(input),
            State::Pass(left, next) => {
                let bytes = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= bytes as u64;
                let next = match left {
                    0 => std::mem::replace(&mut **next, State::Begin),
                    _ => State::Pass(*left, std::mem::replace(next, Box::new(State::Begin))),
                };
                Ok(Found { step: Step { span: Span::Control, bytes }, next })
            }
            &mut State::Main(at) => self.main(at, input),
            &mut State::Record(record) => self.record(record, input),
            &mut State::Packet(packet) => self.multifd(packet, input),
            &mut State::Opaque(reason) => Err(reason.into()),
        }
    }

    /// What the first bytes say that the connection is for.
    fn begin(&mut self, input: &[u8]) -> Result<Found, Stop> {
        let (channel, next) = match input {
            [b'Q', ..] => (Channel::Main, State::Main(Main::Header)),
            [multifd::FIRST, ..] => (Channel::Multifd, State::Packet(Packet::Init)),
            // A recovered migration goes on where it broke off, without a header.
            [main_channel::COMMAND, ..] => {
                self.resumed = true;
                (Channel::Main, State::Main(Main::Section))
            }
            // The high byte of an address.
            [0, ..] => (Channel::Preempt, State::Record(Record::Head)),
            _ => return Err(Reason::Start.into()),
        };
        self.channel = channel;
        Ok(Found { step: Step { span: Span::Control, bytes: 0 }, next })
    }
}
