//! multifd: connections beside the main channel that carry most pages, in packets.
//!
//! A packet is 1344 bytes, however few pages it has: a header of 320 bytes, and room for 128 offsets, first those of
//! the pages that follow, then (since QEMU 9.0) those of pages that are zero. Then the pages themselves.
//!
//! The header has a field for the size of what follows. It is not to be trusted: QEMU 7.2 leaves the last packet's
//! there when nothing follows. The number of pages is.

use super::cursor::{Cursor, Stop};
use super::{Found, PAGE, Reader, Reason, Span, State, Step};

const MAGIC: u32 = 0x1122_3344;
/// By which a channel is recognised.
pub(super) const FIRST: u8 = 0x11;
const VERSION: u32 = 1;
/// The magic number, the version, the VM's uuid, the channel's number, and reserved bytes.
const INIT: usize = 64;
const HEADER: usize = 320;
const NAME: usize = 256;
const MOST_PAGES: usize = 128;

/// The only flag that we know: the packet says that a round is over. The others stand for kinds of compression, and for
/// the state of devices.
const SYNC: u32 = 1;

/// Where a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet {
    /// Before its first packet, which only says whose it is.
    Init,
    /// Before a packet.
    Head,
    /// In the offsets of pages that are zero.
    Zeros(Progress),
    /// Before the pages.
    Pages(Progress),
}

/// How far a packet has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    block: super::BlockId,
    /// The next of the reader's `offsets`.
    next: u8,
    /// How many pages follow the packet; the offsets behind them are those of zero pages.
    pages: u8,
}

impl Reader {
    pub(super) fn multifd(&mut self, packet: Packet, input: &[u8]) -> Result<Found, Stop> {
        let mut cursor = Cursor::new(input);
        match packet {
            Packet::Init => {
                magic(&mut cursor, Reason::Start)?;
                cursor.take(INIT - 8)?;
                Ok(Found::control(&cursor, State::Packet(Packet::Head)))
            }
            Packet::Head => self.packet_head(cursor),
            Packet::Zeros(progress) => {
                let Some(&offset) = self.offsets.get(usize::from(progress.next)) else {
                    let rest = (MOST_PAGES - self.offsets.len()) * 8;
                    let pages = State::Packet(Packet::Pages(Progress { next: 0, ..progress }));
                    return Ok(Found::nothing(State::pass(rest, pages)));
                };
                cursor.take(8)?;
                let span = Span::Zero(self.blocks.place(progress.block, offset)?);
                let next = State::Packet(Packet::Zeros(Progress { next: progress.next + 1, ..progress }));
                Ok(Found { step: Step { span, bytes: 8 }, next })
            }
            Packet::Pages(progress) if progress.next >= progress.pages => {
                Ok(Found::nothing(State::Packet(Packet::Head)))
            }
            Packet::Pages(progress) => {
                cursor.take(PAGE)?;
                let offset = self.offsets.get(usize::from(progress.next)).copied().ok_or(Reason::Packet)?;
                let place = self.blocks.place(progress.block, offset)?;
                let next = State::Packet(Packet::Pages(Progress { next: progress.next + 1, ..progress }));
                Ok(Found { step: Step { span: Span::Page(place), bytes: PAGE }, next })
            }
        }
    }

    /// Reads a whole packet ahead and passes as much of it as is certain to be no zero page.
    fn packet_head(&mut self, mut cursor: Cursor<'_>) -> Result<Found, Stop> {
        magic(&mut cursor, Reason::Packet)?;
        let flags = cursor.u32()?;
        if flags & !SYNC != 0 {
            return Err(Reason::PacketFlags.into());
        }
        let _room = cursor.u32()?;
        let pages = cursor.u32()?;
        let _size = cursor.u32()?;
        let number = cursor.u64()?;
        let zeros = cursor.u32()?;
        cursor.take(HEADER - NAME - cursor.taken())?;
        let name = cursor.take(NAME)?;
        let (Ok(pages), Ok(zeros)) = (u8::try_from(pages), u8::try_from(zeros)) else {
            return Err(Reason::Packet.into());
        };
        let count = usize::from(pages) + usize::from(zeros);
        if count > MOST_PAGES {
            return Err(Reason::Packet.into());
        }
        let mut ahead = cursor;
        let offsets = ahead.take(MOST_PAGES * 8)?;
        self.packet = Some(number);
        if count == 0 {
            return Ok(Found::control(&ahead, State::Packet(Packet::Head)));
        }
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let block = self.blocks.named(name)?;
        self.offsets.clear();
        for offset in offsets.as_chunks().0.iter().take(count) {
            let offset = u64::from_be_bytes(*offset);
            // All or nothing: the pages' bytes can't be told from anything else once one is in doubt.
            self.blocks.place(block, offset)?;
            self.offsets.push(offset);
        }
        cursor.take(usize::from(pages) * 8)?;
        Ok(Found::control(&cursor, State::Packet(Packet::Zeros(Progress { block, next: pages, pages }))))
    }
}

impl State {
    /// So many bytes, then the other state.
    fn pass(bytes: usize, then: Self) -> Self {
        if bytes == 0 { then } else { Self::Pass(bytes as u64, Box::new(then)) }
    }
}

fn magic(cursor: &mut Cursor<'_>, reason: Reason) -> Result<(), Stop> {
    if cursor.u32()? != MAGIC || cursor.u32()? != VERSION {
        return Err(reason.into());
    }
    Ok(())
}
