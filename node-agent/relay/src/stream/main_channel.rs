//! The main channel between its pages: header, configuration, sections and commands.

use super::cursor::{Cursor, Stop};
use super::ram::Record;
use super::{Found, Reader, Reason, Span, State, Step};

const VERSION: u32 = 3;
/// The length of `pc-q35-rhel9.6.0` and the like, with room.
const LONGEST_MACHINE: u32 = 255;
/// QEMU knows some forty capabilities.
const MOST_CAPABILITIES: u32 = 256;

const EOF: u8 = 0x00;
const START: u8 = 0x01;
const PART: u8 = 0x02;
const END: u8 = 0x03;
const FULL: u8 = 0x04;
const SUBSECTION: u8 = 0x05;
const DESCRIPTION: u8 = 0x06;
const CONFIGURATION: u8 = 0x07;
pub(super) const COMMAND: u8 = 0x08;
const FOOTER: u8 = 0x7e;

const RAM: &[u8] = b"ram";
const RAM_VERSION: u32 = 4;

/// Memory that was hotplugged says how it is laid out before anything is sent of it (from QEMU 8.1 on). It is the one
/// device whose state comes before the pages, and KubeVirt's VMs have it when their memory may grow.
const EARLY_VIRTIO_MEM: &[u8] = b"virtio-mem-device-early";
/// Blocks of such a device; QEMU's smallest are of 1 MiB.
const MOST_VIRTIO_MEM_BLOCKS: u64 = 1 << 32;

const PACKAGED: u16 = 7;
/// Open the return path, ping, advise, listen, run, discard; then, behind PACKAGED and the COLO that we don't know,
/// resume, the bitmap, and the start of the switchover.
const KNOWN_COMMANDS: [u16; 9] = [1, 2, 3, 4, 5, 6, 9, 10, 11];

/// Where the main channel is, between its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Main {
    /// Before the magic number.
    Header,
    /// Behind the header, where the configuration may stand.
    Configuration,
    /// Behind the machine's name or a subsection.
    Subsection,
    /// So many capabilities follow.
    Capabilities(u32),
    /// Where a section, a command or the end is expected.
    Section,
    /// In the list of RAM blocks, whose lengths yet to come sum up to this. What a recovered migration says of its
    /// bitmaps passes here too.
    Blocks(u64),
    /// Behind a block of the list, where a page size may stand.
    PageSize(u64),
    /// Before the layout of hotplugged memory.
    VirtioMem,
    /// Behind the records of a section.
    Footer,
    /// Behind the end.
    Eof,
}

impl Reader {
    pub(super) fn main(&mut self, at: Main, input: &[u8]) -> Result<Found, Stop> {
        let mut cursor = Cursor::new(input);
        let next = match at {
            Main::Header => {
                if cursor.take(4)? != b"QEVM" {
                    return Err(Reason::Start.into());
                }
                if cursor.u32()? != VERSION {
                    return Err(Reason::Configuration.into());
                }
                State::Main(Main::Configuration)
            }
            Main::Configuration if cursor.peek()? == CONFIGURATION => {
                cursor.u8()?;
                let length = cursor.u32()?;
                if length > LONGEST_MACHINE {
                    return Err(Reason::Configuration.into());
                }
                State::Pass(length.into(), Box::new(State::Main(Main::Subsection)))
            }
            Main::Subsection if cursor.peek()? == SUBSECTION => subsection(&mut cursor)?,
            Main::Configuration | Main::Subsection => State::Main(Main::Section),
            Main::Capabilities(0) => State::Main(Main::Subsection),
            Main::Capabilities(left) => {
                if cursor.name()? == b"x-ignore-shared" {
                    return Err(Reason::SharedMemory.into());
                }
                State::Main(Main::Capabilities(left - 1))
            }
            Main::Section => return self.section(cursor),
            Main::Blocks(left) => {
                let name = cursor.name()?;
                let length = cursor.u64()?;
                let left = left.checked_sub(length).ok_or(Reason::Blocks)?;
                self.blocks.measure(name, length)?;
                State::Main(Main::PageSize(left))
            }
            Main::PageSize(left) => {
                page_size(&mut cursor, left)?;
                match left {
                    0 => State::Record(Record::Head),
                    left => State::Main(Main::Blocks(left)),
                }
            }
            Main::VirtioMem => {
                let (_address, length, block) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
                let blocks = length.checked_div(block).filter(|blocks| *blocks <= MOST_VIRTIO_MEM_BLOCKS);
                let bitmap = blocks.ok_or(Reason::Section)?.div_ceil(64) * 8;
                // Its NUMA node and how much of it is plugged, then a bit for each block.
                State::Pass(4 + 8 + bitmap, Box::new(State::Main(Main::Footer)))
            }
            Main::Footer if cursor.peek()? == FOOTER => {
                cursor.u8()?;
                cursor.u32()?;
                State::Main(Main::Section)
            }
            Main::Footer => State::Main(Main::Section),
            Main::Eof if cursor.peek()? == DESCRIPTION => {
                cursor.u8()?;
                let length = cursor.u32()?;
                State::Pass(length.into(), Box::new(State::Opaque(Reason::Over)))
            }
            Main::Eof => State::Opaque(Reason::Over),
        };
        Ok(Found::control(&cursor, next))
    }

    fn section(&mut self, mut cursor: Cursor<'_>) -> Result<Found, Stop> {
        let next = match cursor.u8()? {
            EOF => State::Main(Main::Eof),
            kind @ (START | FULL) => {
                let id = cursor.u32()?;
                let name = cursor.name()?;
                let _instance = cursor.u32()?;
                let version = cursor.u32()?;
                match (kind, name) {
                    (START, RAM) if version == RAM_VERSION => self.ram = Some(id),
                    (START, RAM) => return Err(Reason::Section.into()),
                    (START, _) => return Err(Reason::LiveSection.into()),
                    (_, name) if name.ends_with(EARLY_VIRTIO_MEM) && version == 1 => {
                        return Ok(Found::control(&cursor, State::Main(Main::VirtioMem)));
                    }
                    _ => return Err(Reason::Devices.into()),
                }
                State::Record(Record::Head)
            }
            PART | END => {
                let id = cursor.u32()?;
                // A resumed migration has no START that told the number. Nothing but memory is live in it, as a rule;
                // where the rule does not hold, the first record makes no sense.
                if self.resumed && self.ram.is_none() {
                    self.ram = Some(id);
                }
                if self.ram != Some(id) {
                    return Err(Reason::LiveSection.into());
                }
                State::Record(Record::Head)
            }
            COMMAND => {
                let command = cursor.u16()?;
                let length = cursor.u16()?;
                let next = Box::new(State::Main(Main::Section));
                if command == PACKAGED && length == 4 {
                    State::Pass(cursor.u32()?.into(), next)
                } else if KNOWN_COMMANDS.contains(&command) {
                    State::Pass(length.into(), next)
                } else {
                    return Err(Reason::Command.into());
                }
            }
            _ => return Err(Reason::Section.into()),
        };
        Ok(Found::control(&cursor, next))
    }
}

fn subsection(cursor: &mut Cursor<'_>) -> Result<State, Stop> {
    cursor.u8()?;
    let name = cursor.name()?;
    let _version = cursor.u32()?;
    match name {
        b"configuration/capabilities" => match cursor.u32()? {
            count if count <= MOST_CAPABILITIES => Ok(State::Main(Main::Capabilities(count))),
            _ => Err(Reason::Configuration.into()),
        },
        b"configuration/target-page-bits" => match cursor.u32()? {
            12 => Ok(State::Main(Main::Subsection)),
            _ => Err(Reason::PageSize.into()),
        },
        b"configuration/uuid" => Ok(State::Pass(16, Box::new(State::Main(Main::Subsection)))),
        _ => Err(Reason::Configuration.into()),
    }
}

/// Passes a block's page size, which stands there when post-copy is possible and blocks differ in it. What else may
/// stand there never looks like it: a name has a length, and a record has flags.
fn page_size(cursor: &mut Cursor<'_>, left: u64) -> Result<(), Stop> {
    if left > 0 && cursor.peek()? != 0 {
        return Ok(());
    }
    let mut ahead = *cursor;
    let size = ahead.u64()?;
    if size.is_power_of_two() && size >= 4096 {
        *cursor = ahead;
        return Ok(());
    }
    if left > 0 { Err(Reason::Blocks.into()) } else { Ok(()) }
}

impl Found {
    /// A turn that takes no byte.
    pub(super) fn nothing(next: State) -> Self {
        Self { step: Step { span: Span::Control, bytes: 0 }, next }
    }
}
