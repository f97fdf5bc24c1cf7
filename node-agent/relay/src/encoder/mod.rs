//! The source's side of one connection: QEMU's stream in, frames out.
//!
//! ```text
//!            reads pages      a reference not acknowledged        no room: nothing is taken
//!  begin ──▶ refers ────────▶ refers, at most a window further ──▶ until an acknowledgement comes
//!               │
//!               └─ plain, for ever: asked to, or the stream is not understood any more
//! ```
//!
//! **What is referred to is kept.** QEMU can't be asked for a page again. Until the target says that it has put a page
//! back, its bytes stay here ([`retained`]); if it says that it can't, they are sent.
//!
//! **A window bounds what is kept**, what waits at the target, and how far QEMU is deceived: 17 bytes on the wire are
//! 4096 of QEMU's, so the buffers between the relays would take a second's worth of pages before anybody noticed that
//! the target is slow. From a reference on, no more than a window of QEMU's bytes leaves before it is acknowledged.
//! Where nothing was referred to, nothing expands, and the connection itself holds QEMU back.
//!
//! **Pages that the guest waits for** come on a connection of their own (preempt), which passes as it is.

mod knowledge;
mod retained;

pub use knowledge::{Knowledge, Passed};

use crate::PAGE;
use crate::frame::{Frame, Frames, write_raw};
use crate::hash::{PageHash, SharedHash, Tag};
use crate::peer::BadPeer;
use crate::stream::{BlockId, Channel, Place, Reader, Reason, Span, Step};
use retained::Retained;

/// No target may have more kept for it than this, whatever it asks for.
pub const LARGEST_WINDOW: u32 = 64 << 20;

/// What has passed, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Pages sent as they are.
    pub pages: u64,
    /// Full pages that were zero.
    pub zeros: u64,
    /// Pages that became references.
    pub references: u64,
    /// References among these to pages of other VMs.
    pub shared: u64,
    /// References that the target could not follow.
    pub nacks: u64,
}

/// One connection at the source.
#[derive(Debug)]
pub struct Encoder {
    reader: Reader,
    hash: PageHash,
    shared: Option<SharedHash>,
    /// Told by the reader, of bytes that have not left yet.
    step: Option<Step>,
    /// Of QEMU's bytes, how many have left.
    position: u64,
    acknowledged: u64,
    window: u32,
    retained: Retained,
    /// What the target is owed.
    answers: Vec<u8>,
    told_plain: bool,
    ended: bool,
    backward: Frames,
    returned: u64,
    return_ended: bool,
    counts: Counts,
}

impl Encoder {
    /// A connection whose greetings were exchanged. References begin when the target has opened a window.
    #[must_use]
    pub fn new(hash: PageHash, shared: Option<SharedHash>) -> Self {
        Self {
            reader: Reader::new(),
            hash,
            shared,
            step: None,
            position: 0,
            acknowledged: 0,
            window: 0,
            retained: Retained::default(),
            answers: Vec::new(),
            told_plain: false,
            ended: false,
            backward: Frames::default(),
            returned: 0,
            return_ended: false,
            counts: Counts::default(),
        }
    }

    /// Appends frames for as much of QEMU's stream as may leave, and says how much that was. The rest is to be offered
    /// again, with what follows it: when more has come, or after an acknowledgement. Offer at least [`Reader::MOST`]
    /// bytes where there are so many.
    pub fn encode(&mut self, input: &[u8], knowledge: &mut impl Knowledge, out: &mut Vec<u8>) -> usize {
        out.append(&mut self.answers);
        if self.ended {
            return 0;
        }
        // Bytes up to `at` are dealt with; those from `raw` on are not in a frame yet.
        let (mut raw, mut at) = (0, 0);
        while at < input.len() {
            let Some(step) = self.step.take().or_else(|| self.reader.step(&input[at..])) else { break };
            if self.tell_plain(&input[raw..at], out) {
                raw = at;
            }
            let page = match step.span {
                Span::Page(place) => input[at..].first_chunk::<PAGE>().map(|page| (place, page)),
                Span::Zero(place) => {
                    knowledge.passes(place, self.reader.packet(), Passed::Zero);
                    None
                }
                Span::Changed(place) => {
                    knowledge.passes(place, self.reader.packet(), Passed::Changed);
                    None
                }
                Span::Control | Span::Opaque => None,
            };
            let room = self.room();
            if let Some((place, page)) = page {
                if room < PAGE as u64 {
                    self.step = Some(step);
                    break;
                }
                write_raw(&input[raw..at], out);
                self.page(place, page, knowledge, out);
                at += PAGE;
                raw = at;
            } else {
                let now = step.bytes.min(usize::try_from(room).unwrap_or(usize::MAX)).min(input.len() - at);
                at += now;
                self.position += now as u64;
                if now < step.bytes {
                    // What it was has been told.
                    self.step = Some(Step { span: Span::Control, bytes: step.bytes - now });
                }
                if now == 0 {
                    break;
                }
            }
        }
        write_raw(&input[raw..at], out);
        at
    }

    /// How many bytes may leave.
    fn room(&self) -> u64 {
        match self.retained.first() {
            None => u64::MAX,
            Some(first) => u64::from(self.window).saturating_sub(self.position - first),
        }
    }

    fn page(&mut self, place: Place, page: &[u8; PAGE], knowledge: &mut impl Knowledge, out: &mut Vec<u8>) {
        let number = self.reader.packet();
        let urgent = self.reader.channel() == Channel::Preempt;
        if !urgent && *page == [0; PAGE] {
            knowledge.passes(place, number, Passed::Zero);
            self.counts.zeros += 1;
            Frame::Zero.write(out);
        } else if urgent {
            knowledge.passes(place, number, Passed::Page(page, None));
            self.counts.pages += 1;
            Frame::Page(page).write(out);
        } else {
            let tag = self.hash.tag(page);
            knowledge.passes(place, number, Passed::Page(page, Some(tag)));
            if let Some(frame) = self.reference(tag, page, knowledge) {
                self.counts.references += 1;
                self.retained.keep(self.position, page);
                frame.write(out);
            } else {
                self.counts.pages += 1;
                Frame::Page(page).write(out);
            }
        }
        self.position += PAGE as u64;
    }

    fn reference(&mut self, tag: Tag, page: &[u8; PAGE], knowledge: &impl Knowledge) -> Option<Frame<'static>> {
        // A window of less than a page would let nothing follow.
        if u64::from(self.window) < PAGE as u64 {
            return None;
        }
        if knowledge.holds(tag.fingerprint()) {
            return Some(Frame::Reference(tag));
        }
        let digest = self.shared.as_ref()?.digest(page);
        knowledge.shares(&digest).then(|| {
            self.counts.shared += 1;
            Frame::Shared(digest)
        })
    }

    /// Once the stream is not understood any more, says so. True if it was said just now, behind the bytes given.
    fn tell_plain(&mut self, before: &[u8], out: &mut Vec<u8>) -> bool {
        match self.reader.opaque() {
            Some(reason) if !self.told_plain => {
                self.told_plain = true;
                write_raw(before, out);
                Frame::Plain(reason as u8).write(out);
                true
            }
            _ => false,
        }
    }

    /// From now on, and for ever, everything leaves as it is. What was referred to is still answered for.
    pub fn plain(&mut self) {
        self.reader.give_up(Reason::Asked);
        if let Some(step) = &mut self.step {
            step.span = Span::Control;
        }
    }

    /// QEMU has closed: takes what it left, as [`Encoder::encode`] does. When that is all, the end is said, once.
    pub fn finish(&mut self, rest: &[u8], knowledge: &mut impl Knowledge, out: &mut Vec<u8>) -> usize {
        let mut taken = self.encode(rest, knowledge, out);
        if taken < rest.len() && self.step.is_none() {
            // Half of something, which will never be whole.
            self.reader.give_up(Reason::Over);
            taken += self.encode(&rest[taken..], knowledge, out);
        }
        if taken == rest.len() && !self.ended {
            self.ended = true;
            Frame::End { position: self.position }.write(out);
        }
        taken
    }

    /// Takes what comes back from the target: appends what belongs to QEMU's return path, and says how much of `wire`
    /// was understood. The rest is to be offered again with what follows it.
    ///
    /// # Errors
    /// When it is nothing that a target says. The connection is then beyond repair.
    pub fn receive(
        &mut self,
        wire: &[u8],
        knowledge: &mut impl Knowledge,
        to_qemu: &mut Vec<u8>,
    ) -> Result<usize, BadPeer> {
        let mut at = 0;
        while let Some((frame, bytes)) = self.backward.next(&wire[at..])? {
            if self.return_ended && matches!(frame, Frame::Raw(_) | Frame::End { .. }) {
                return Err(BadPeer::AfterEnd);
            }
            match frame {
                Frame::Raw(bytes) => {
                    self.returned += bytes.len() as u64;
                    to_qemu.extend_from_slice(bytes);
                }
                Frame::Acknowledgement { position, window } => {
                    if position < self.acknowledged || position > self.position {
                        return Err(BadPeer::Acknowledgement { position, sent: self.position });
                    }
                    self.acknowledged = position;
                    self.window = window.min(LARGEST_WINDOW);
                    self.retained.release(position);
                }
                Frame::Nack { position } => {
                    let page = self.retained.answer(position).ok_or(BadPeer::Nack { position })?;
                    self.counts.nacks += 1;
                    Frame::Answer { position, page }.write(&mut self.answers);
                    knowledge.forget(self.hash.tag(page).fingerprint());
                }
                Frame::Held(held) => held.iter().for_each(|fingerprint| knowledge.learn(fingerprint)),
                Frame::AllHeld(sum) => knowledge.learnt(sum),
                Frame::End { position } if position == self.returned => self.return_ended = true,
                Frame::End { position } => return Err(BadPeer::Length { said: position, seen: self.returned }),
                _ => return Err(BadPeer::Unexpected),
            }
            at += bytes;
        }
        Ok(at)
    }

    /// Whether something waits to leave that is not QEMU's: call [`Encoder::encode`], with or without input.
    #[must_use]
    pub fn owes(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Whether QEMU's stream has left to its end and all of it has arrived, so that this relay may go.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.ended && self.answers.is_empty() && self.acknowledged == self.position
    }

    /// Whether the return path is over.
    #[must_use]
    pub fn return_ended(&self) -> bool {
        self.return_ended
    }

    /// Whether no reference is on its way, so that this relay could be left out without loss.
    #[must_use]
    pub fn owns_nothing(&self) -> bool {
        self.retained.first().is_none()
    }

    /// What has passed.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many of QEMU's bytes have left.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How the stream is understood: its channel, and why it is not, if so.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The name of the block of a place that passed.
    #[must_use]
    pub fn block_name(&self, block: BlockId) -> Option<&[u8]> {
        self.reader.block_name(block)
    }

    /// The bytes that are kept for the target, in memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.retained.memory() + self.answers.capacity()
    }
}
