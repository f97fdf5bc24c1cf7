//! What the two relays say to each other inside the connection that KubeVirt carries.
//!
//! Each connection of a migration carries frames both ways, behind a [greeting](greeting) of each side:
//!
//! ```text
//! source ▶ target   greeting, { raw │ page │ zero │ reference │ shared │ answer │ plain }…, end, answer…
//! target ▶ source   greeting, { raw │ acknowledgement │ nack │ held │ all held }…, end
//! ```
//!
//! A frame is one byte of kind and what the kind says; numbers are big-endian. A *position* counts the bytes of QEMU's
//! own stream, so a reference counts 4096 whatever it takes on the wire; it is what acknowledgements, credit and the
//! end speak of, and a reference is named by where it stands.
//!
//! The end has a frame because virt-handler carries none: it closes both directions when either closes. So nothing of
//! ours closes half of a connection. An answer may follow the end of what it answers for.

pub mod greeting;

use crate::PAGE;
use crate::hash::{Digest, Fingerprint, Tag};
use crate::index::Sum;

/// A frame, or a part of a long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Bytes of the stream as they are; a long frame comes in parts, as it arrives.
    Raw(&'a [u8]),
    /// A page as it is.
    Page(&'a [u8; PAGE]),
    /// A page of zeros.
    Zero,
    /// A page of this VM that the target holds.
    Reference(Tag),
    /// A page that the target holds of some VM that shares its pages with this one.
    Shared(Digest),
    /// The bytes of a page that could not be put back.
    Answer {
        /// Where the reference stands.
        position: u64,
        /// What it stood for.
        page: &'a [u8; PAGE],
    },
    /// Everything before `position` has been handed on, and what was kept for it may go.
    Acknowledgement {
        /// So far the stream is whole.
        position: u64,
        /// So many bytes may follow a reference before it is acknowledged.
        window: u32,
    },
    /// A reference could not be put back: the page is not what it should be, or is not there.
    Nack {
        /// Where the reference stands.
        position: u64,
    },
    /// Pages that the target holds.
    Held(Fingerprints<'a>),
    /// All that is held has been announced, or need not be, because the source has this already.
    AllHeld(Sum),
    /// No reference will follow; the code of the reason is for metrics.
    Plain(u8),
    /// The stream is over, and was so long.
    End {
        /// Its length.
        position: u64,
    },
}

/// Fingerprints as they are in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprints<'a>(&'a [[u8; 8]]);

impl Fingerprints<'_> {
    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Fingerprint> {
        self.0.iter().map(|bytes| Fingerprint(u64::from_be_bytes(*bytes)))
    }
}

const RAW: u8 = 1;
const PAGE_AS_IT_IS: u8 = 2;
const ZERO: u8 = 3;
const REFERENCE: u8 = 4;
const SHARED: u8 = 5;
const ANSWER: u8 = 6;
const ACKNOWLEDGEMENT: u8 = 7;
const NACK: u8 = 8;
const HELD: u8 = 9;
const ALL_HELD: u8 = 10;
const PLAIN: u8 = 11;
const END: u8 = 12;

/// The longest raw frame.
const LONGEST_RAW: usize = 0xffff;

/// How many fingerprints a frame has at most.
pub const MOST_HELD: usize = 500;

/// What follows is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of kind {kind} that is none of this version's, or has a length that none has")]
pub struct BadFrame {
    /// The first byte.
    pub kind: u8,
}

/// Appends raw bytes in as many frames as they need.
pub fn write_raw(mut bytes: &[u8], out: &mut Vec<u8>) {
    while !bytes.is_empty() {
        let (now, rest) = bytes.split_at(bytes.len().min(LONGEST_RAW));
        let length = u16::try_from(now.len()).unwrap_or(u16::MAX);
        out.push(RAW);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(now);
        bytes = rest;
    }
}

/// Appends what the target holds in as many frames as it needs.
pub fn write_held(held: impl IntoIterator<Item = Fingerprint>, out: &mut Vec<u8>) {
    let mut held = held.into_iter().peekable();
    while held.peek().is_some() {
        let begin = out.len();
        out.extend_from_slice(&[HELD, 0, 0]);
        let mut count = 0_u16;
        for Fingerprint(fingerprint) in held.by_ref().take(MOST_HELD) {
            out.extend_from_slice(&fingerprint.to_be_bytes());
            count += 1;
        }
        out[begin + 1..begin + 3].copy_from_slice(&count.to_be_bytes());
    }
}

impl Frame<'_> {
    /// Appends the frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut put = |kind: u8, parts: &[&[u8]]| {
            out.push(kind);
            parts.iter().for_each(|part| out.extend_from_slice(part));
        };
        match *self {
            Self::Raw(bytes) => write_raw(bytes, out),
            Self::Page(page) => put(PAGE_AS_IT_IS, &[page]),
            Self::Zero => put(ZERO, &[]),
            Self::Reference(Tag(tag)) => put(REFERENCE, &[&tag]),
            Self::Shared(Digest(digest)) => put(SHARED, &[&digest]),
            Self::Answer { position, page } => put(ANSWER, &[&position.to_be_bytes(), page]),
            Self::Acknowledgement { position, window } => {
                put(ACKNOWLEDGEMENT, &[&position.to_be_bytes(), &window.to_be_bytes()]);
            }
            Self::Nack { position } => put(NACK, &[&position.to_be_bytes()]),
            Self::Held(held) => write_held(held.iter(), out),
            Self::AllHeld(Sum { count, sum }) => put(ALL_HELD, &[&count.to_be_bytes(), &sum.to_be_bytes()]),
            Self::Plain(reason) => put(PLAIN, &[&[reason]]),
            Self::End { position } => put(END, &[&position.to_be_bytes()]),
        }
    }
}

/// Cuts what arrives into frames.
#[derive(Debug, Default)]
pub struct Frames {
    /// So much of a raw frame is yet to come.
    raw_left: usize,
}

impl Frames {
    /// What must be offered at most for a frame or a part of one.
    pub const MOST: usize = 1 + 8 + PAGE;

    /// The frame at the front of `wire`, which begins behind the last one, and how many bytes it takes. `None` when
    /// more must come before it can be told: with [`Frames::MOST`] bytes it always can.
    ///
    /// # Errors
    /// When it is none. The connection is then beyond repair.
    pub fn next<'a>(&mut self, wire: &'a [u8]) -> Result<Option<(Frame<'a>, usize)>, BadFrame> {
        if self.raw_left > 0 {
            return Ok(self.raw(wire, 0));
        }
        let Some((&kind, rest)) = wire.split_first() else { return Ok(None) };
        Ok(match kind {
            RAW => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                let length = usize::from(u16::from_be_bytes(*length));
                if length == 0 {
                    return Err(BadFrame { kind });
                }
                if rest.is_empty() {
                    return Ok(None);
                }
                self.raw_left = length;
                self.raw(rest, 3)
            }
            PAGE_AS_IT_IS => rest.first_chunk().map(|page| (Frame::Page(page), 1 + PAGE)),
            ZERO => Some((Frame::Zero, 1)),
            REFERENCE => rest.first_chunk().map(|tag| (Frame::Reference(Tag(*tag)), 17)),
            SHARED => rest.first_chunk().map(|digest| (Frame::Shared(Digest(*digest)), 33)),
            ANSWER => rest.split_first_chunk().and_then(|(position, rest)| {
                let page = rest.first_chunk()?;
                Some((Frame::Answer { position: u64::from_be_bytes(*position), page }, 9 + PAGE))
            }),
            ACKNOWLEDGEMENT => rest.split_first_chunk().and_then(|(position, rest)| {
                let window = u32::from_be_bytes(*rest.first_chunk()?);
                Some((Frame::Acknowledgement { position: u64::from_be_bytes(*position), window }, 13))
            }),
            NACK => number(rest).map(|position| (Frame::Nack { position }, 9)),
            HELD => match rest.split_first_chunk() {
                None => None,
                Some((count, rest)) => {
                    let count = usize::from(u16::from_be_bytes(*count));
                    if count == 0 || count > MOST_HELD {
                        return Err(BadFrame { kind });
                    }
                    let held = rest.get(..8 * count);
                    held.map(|held| (Frame::Held(Fingerprints(held.as_chunks().0)), 3 + 8 * count))
                }
            },
            ALL_HELD => rest.split_first_chunk().and_then(|(count, rest)| {
                let sum = u128::from_be_bytes(*rest.first_chunk()?);
                Some((Frame::AllHeld(Sum { count: u64::from_be_bytes(*count), sum }), 25))
            }),
            PLAIN => rest.first().map(|reason| (Frame::Plain(*reason), 2)),
            END => number(rest).map(|position| (Frame::End { position }, 9)),
            _ => return Err(BadFrame { kind }),
        })
    }

    /// What has come of a raw frame.
    fn raw<'a>(&mut self, bytes: &'a [u8], header: usize) -> Option<(Frame<'a>, usize)> {
        let now = &bytes[..bytes.len().min(self.raw_left)];
        self.raw_left -= now.len();
        (!now.is_empty()).then_some((Frame::Raw(now), header + now.len()))
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|number| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests;
