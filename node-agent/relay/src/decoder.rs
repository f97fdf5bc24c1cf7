//! The target's side of one connection: frames in, QEMU's stream out.
//!
//! A reference is put back from what the target holds, and hashed on the way: what does not fit is not handed on, but
//! asked for. Until the answer comes, what follows is taken in and waits, a window of it at most; the references in it
//! are followed at once, so that all questions are on their way together. The stream goes on where it stopped, in
//! order.
//!
//! Acknowledgements say how far the target's QEMU has taken its stream. They are said a quarter of a window apart, and
//! whenever the relay is about to wait.

use crate::PAGE;
use crate::frame::{Frame, Frames, write_held, write_raw};
use crate::hash::{Digest, Fingerprint, PageHash, SharedHash, Tag};
use crate::index::Sum;
use crate::peer::BadPeer;
use std::collections::VecDeque;

/// What the target holds, shared by all connections of a migration.
pub trait Pages {
    /// A page whose hash may be this one. Who keeps it on a disk that is slow, or can't read it, has none.
    fn page(&mut self, tag: Tag) -> Option<&[u8; PAGE]>;

    /// A page of a VM that shares its pages with this one.
    fn shared(&mut self, _digest: &Digest) -> Option<&[u8; PAGE]> {
        None
    }

    /// The page of this hash was not what the index said: it is to be forgotten.
    fn spoilt(&mut self, _tag: Tag) {}
}

/// A reference that could not be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Own(Tag),
    Shared(Digest),
}

#[derive(Debug)]
enum Waiting {
    Bytes(Vec<u8>),
    Open { position: u64, page: Open },
}

/// What has passed, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// References that were put back at once.
    pub hits: u64,
    /// Those for which nothing was held.
    pub missing: u64,
    /// Those for which something else was held: bits that flipped, or a stale image.
    pub spoilt: u64,
}

/// One connection at the target.
#[derive(Debug)]
pub struct Decoder {
    frames: Frames,
    hash: PageHash,
    shared: Option<SharedHash>,
    window: u32,
    /// Of QEMU's bytes, how many have arrived, whether or not they wait.
    position: u64,
    /// Behind the first open reference, which is the first of them.
    waiting: VecDeque<Waiting>,
    /// How many of QEMU's bytes wait.
    behind: u64,
    /// Questions that have not been asked yet.
    questions: Vec<u64>,
    /// How many bytes QEMU has taken.
    written: u64,
    /// How many of these the source knows of; none until the window is opened.
    acknowledged: Option<u64>,
    returned: u64,
    return_ended: bool,
    end: bool,
    plain: Option<u8>,
    counts: Counts,
}

impl Decoder {
    /// A connection whose greetings were exchanged. `window`, in bytes, is what may follow a reference before it is
    /// acknowledged; so much memory a connection may take while it waits for answers. 0 asks for no references.
    #[must_use]
    pub fn new(hash: PageHash, shared: Option<SharedHash>, window: u32) -> Self {
        Self {
            frames: Frames::default(),
            hash,
            shared,
            window,
            position: 0,
            waiting: VecDeque::new(),
            behind: 0,
            questions: Vec::new(),
            written: 0,
            acknowledged: None,
            returned: 0,
            return_ended: false,
            end: false,
            plain: None,
            counts: Counts::default(),
        }
    }

    /// Takes frames, appends what QEMU is to get, and says how much of `wire` was understood. The rest is to be offered
    /// again with what follows it. A byte on the wire may be 241 of QEMU's, or 4096 where pages are zero: who wants
    /// little memory offers little at a time.
    ///
    /// # Errors
    /// When it is nothing that a source says. The connection is then beyond repair; what was appended before is good.
    pub fn decode(&mut self, wire: &[u8], pages: &mut impl Pages, out: &mut Vec<u8>) -> Result<usize, BadPeer> {
        let mut at = 0;
        while let Some((frame, bytes)) = self.frames.next(&wire[at..])? {
            at += bytes;
            if self.end && !matches!(frame, Frame::Answer { .. }) {
                return Err(BadPeer::AfterEnd);
            }
            match frame {
                Frame::Raw(bytes) => self.give(bytes, out)?,
                Frame::Page(page) => self.give(page, out)?,
                Frame::Zero => self.give(&[0; PAGE], out)?,
                Frame::Reference(tag) => self.reference(Open::Own(tag), pages, out)?,
                Frame::Shared(digest) => self.reference(Open::Shared(digest), pages, out)?,
                Frame::Answer { position, page } => self.answer(position, page, out)?,
                Frame::Plain(reason) => self.plain = Some(reason),
                Frame::End { position } if position == self.position => self.end = true,
                Frame::End { position } => return Err(BadPeer::Length { said: position, seen: self.position }),
                _ => return Err(BadPeer::Unexpected),
            }
        }
        Ok(at)
    }

    /// Appends the next bytes of the stream, or lets them wait for their turn.
    fn give(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BadPeer> {
        self.position += bytes.len() as u64;
        if self.waiting.is_empty() {
            out.extend_from_slice(bytes);
            return Ok(());
        }
        self.wait(bytes.len())?;
        match self.waiting.back_mut() {
            Some(Waiting::Bytes(before)) => before.extend_from_slice(bytes),
            _ => self.waiting.push_back(Waiting::Bytes(bytes.to_vec())),
        }
        Ok(())
    }

    fn wait(&mut self, bytes: usize) -> Result<(), BadPeer> {
        self.behind += bytes as u64;
        if self.behind > u64::from(self.window) { Err(BadPeer::Overrun) } else { Ok(()) }
    }

    fn reference(&mut self, open: Open, pages: &mut impl Pages, out: &mut Vec<u8>) -> Result<(), BadPeer> {
        let found = match open {
            Open::Own(tag) => pages.page(tag),
            Open::Shared(digest) => pages.shared(&digest),
        };
        let held = found.is_some();
        if let Some(page) = found
            && is(open, page, &self.hash, self.shared.as_ref())
        {
            self.counts.hits += 1;
            return self.give(page, out);
        }
        if held {
            self.counts.spoilt += 1;
            if let Open::Own(tag) = open {
                pages.spoilt(tag);
            }
        } else {
            self.counts.missing += 1;
        }
        self.wait(PAGE)?;
        self.questions.push(self.position);
        self.waiting.push_back(Waiting::Open { position: self.position, page: open });
        self.position += PAGE as u64;
        Ok(())
    }

    fn answer(&mut self, position: u64, page: &[u8; PAGE], out: &mut Vec<u8>) -> Result<(), BadPeer> {
        let asked = |waiting: &Waiting| matches!(waiting, Waiting::Open { position: at, .. } if *at == position);
        // Answers come in the order of the questions, so it is the first open one as a rule.
        let at = self.waiting.iter().position(asked).ok_or(BadPeer::Answer { position })?;
        if let Waiting::Open { page: open, .. } = self.waiting[at]
            && !is(open, page, &self.hash, self.shared.as_ref())
        {
            return Err(BadPeer::Answer { position });
        }
        self.waiting[at] = Waiting::Bytes(page.to_vec());
        while let Some(Waiting::Bytes(bytes)) = self.waiting.front() {
            self.behind -= bytes.len() as u64;
            out.extend_from_slice(bytes);
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// QEMU has taken so many more of the bytes.
    pub fn written(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// Appends what the source is to know by now; with `waits`, all that there is to know. Call it before each wait.
    pub fn reply(&mut self, waits: bool, out: &mut Vec<u8>) {
        for position in self.questions.drain(..) {
            Frame::Nack { position }.write(out);
        }
        let due = self.acknowledged.is_none_or(|acknowledged| {
            let new = self.written - acknowledged;
            new >= u64::from(self.window / 4).max(1) || (waits && new > 0)
        });
        if due {
            Frame::Acknowledgement { position: self.written, window: self.window }.write(out);
            self.acknowledged = Some(self.written);
        }
    }

    /// Appends bytes of QEMU's return path, which never waits for anything.
    pub fn give_back(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if !self.return_ended {
            self.returned += bytes.len() as u64;
            write_raw(bytes, out);
        }
    }

    /// QEMU has closed: the return path is over. Said once.
    pub fn end_return(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.return_ended, true) {
            Frame::End { position: self.returned }.write(out);
        }
    }

    /// Appends what the target holds, or a part of it.
    pub fn announce(&self, held: impl IntoIterator<Item = Fingerprint>, out: &mut Vec<u8>) {
        write_held(held, out);
    }

    /// Says that all has been announced, or that the source knows it already, which has the same sum.
    pub fn announced(&self, sum: Sum, out: &mut Vec<u8>) {
        Frame::AllHeld(sum).write(out);
    }

    /// Whether the stream is over and all of it was appended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.end && self.waiting.is_empty()
    }

    /// The code of the reason for which the source sends no references any more, if it said so.
    #[must_use]
    pub fn plain(&self) -> Option<u8> {
        self.plain
    }

    /// What has passed.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many of QEMU's bytes wait for an answer.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.behind
    }
}

fn is(open: Open, page: &[u8; PAGE], hash: &PageHash, shared: Option<&SharedHash>) -> bool {
    match open {
        Open::Own(tag) => hash.tag(page) == tag,
        Open::Shared(digest) => shared.is_some_and(|shared| shared.digest(page) == digest),
    }
}
