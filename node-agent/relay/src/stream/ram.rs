//! RAM records: what the main channel's RAM sections and the preempt channel consist of.
//!
//! A record is a 64-bit word, the page's offset with flags in its low twelve bits, and what the flags say.

use super::cursor::{Cursor, Stop};
use super::main_channel::Main;
use super::{Channel, Found, PAGE, Place, Reader, Reason, Span, State, Step};

const FLAGS: u64 = 0xfff;
const ZERO: u64 = 0x02;
const BLOCKS: u64 = 0x04;
const DATA: u64 = 0x08;
const END: u64 = 0x10;
/// The block is that of the record before.
const CONTINUE: u64 = 0x20;
const XBZRLE: u64 = 0x40;
const MULTIFD_FLUSH: u64 = 0x200;

/// Where the records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// Before a record.
    Head,
    /// Before a page's bytes.
    Page(Place),
    /// Before the byte that fills a page.
    Fill(Place),
    /// Before the lengthy part of a changed page.
    Change(Place),
    /// Before so many bytes of a change.
    Changed(Place, u16),
}

impl Reader {
    pub(super) fn record(&mut self, record: Record, input: &[u8]) -> Result<Found, Stop> {
        let mut cursor = Cursor::new(input);
        let found = |span, bytes| Found { step: Step { span, bytes }, next: State::Record(Record::Head) };
        match record {
            Record::Head => self.head(cursor),
            Record::Page(place) => {
                cursor.take(PAGE)?;
                Ok(found(Span::Page(place), PAGE))
            }
            Record::Fill(place) => {
                let span = if cursor.u8()? == 0 { Span::Zero(place) } else { Span::Changed(place) };
                Ok(found(span, 1))
            }
            Record::Change(place) => {
                let (_encoding, length) = (cursor.u8()?, cursor.u16()?);
                if usize::from(length) > PAGE {
                    return Err(Reason::Record.into());
                }
                Ok(Found::control(&cursor, State::Record(Record::Changed(place, length))))
            }
            Record::Changed(place, length) => {
                cursor.take(length.into())?;
                Ok(found(Span::Changed(place), cursor.taken()))
            }
        }
    }

    fn head(&mut self, mut cursor: Cursor<'_>) -> Result<Found, Stop> {
        let word = cursor.u64()?;
        let (offset, flags) = (word & !FLAGS, word & FLAGS);
        let next = match flags & !CONTINUE {
            ZERO | DATA | XBZRLE => {
                // Of the connection's last record, which may have been in another section.
                let block = match self.block {
                    _ if flags & CONTINUE == 0 => self.blocks.named(cursor.name()?)?,
                    Some(block) => block,
                    None => return Err(Reason::Record.into()),
                };
                let place = self.blocks.place(block, offset)?;
                self.block = Some(block);
                State::Record(match flags & !CONTINUE {
                    ZERO => Record::Fill(place),
                    DATA => Record::Page(place),
                    _ => Record::Change(place),
                })
            }
            _ if flags & CONTINUE != 0 => return Err(Reason::Record.into()),
            END if self.channel == Channel::Preempt => State::Opaque(Reason::Over),
            END => State::Main(Main::Footer),
            MULTIFD_FLUSH => State::Record(Record::Head),
            // The word holds the sum of the blocks' lengths.
            BLOCKS if self.channel == Channel::Main && offset > 0 => State::Main(Main::Blocks(offset)),
            _ => return Err(Reason::Record.into()),
        };
        Ok(Found::control(&cursor, next))
    }
}
