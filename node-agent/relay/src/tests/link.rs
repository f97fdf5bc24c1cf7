//! A link between an encoder and a decoder that a test can disturb.

use crate::PAGE;
use crate::decoder::{Decoder, Pages};
use crate::encoder::{Encoder, Knowledge, Passed};
use crate::hash::{Fingerprint, PageHash, Tag, VmKey};
use crate::index::{Held, Index, Slot};
use crate::stream::Place;
use std::collections::BTreeMap;

pub(super) fn hash() -> PageHash {
    PageHash::new(&VmKey::new([5; 32]))
}

/// What passed, by its hash.
#[derive(Debug, Clone, Default)]
pub(super) struct Image(BTreeMap<Tag, [u8; PAGE]>);

impl Image {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What becomes of the target's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    EveryBitFlips,
    AllGone,
    /// Each so-and-so-many-th page that is read has a bit flipped.
    Every(usize),
}

/// A target with its image.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) index: Index,
    slots: Vec<[u8; PAGE]>,
    fault: Fault,
    window: u32,
    reads: usize,
    page: [u8; PAGE],
}

impl Target {
    pub(super) fn empty() -> Self {
        let (index, slots) = (Index::default(), Vec::new());
        Self { index, slots, fault: Fault::None, window: 256 << 10, reads: 0, page: [0; PAGE] }
    }

    pub(super) fn with(self, fault: Fault, window: u32) -> Self {
        Self { fault, window, ..self }
    }

    pub(super) fn of(image: &Image) -> Self {
        let mut target = Self::empty();
        for (slot, (tag, page)) in image.0.iter().enumerate() {
            target.index.insert(tag.fingerprint(), Slot(u32::try_from(slot).unwrap()));
            target.slots.push(*page);
        }
        target
    }
}

impl Pages for Target {
    fn page(&mut self, tag: Tag) -> Option<&[u8; PAGE]> {
        let Slot(slot) = self.index.find(tag.fingerprint())?;
        self.reads += 1;
        self.page = self.slots[slot as usize];
        match self.fault {
            Fault::AllGone => return None,
            Fault::EveryBitFlips => self.page.iter_mut().for_each(|byte| *byte ^= 0xff),
            Fault::Every(n) if self.reads.is_multiple_of(n) => self.page[self.reads % PAGE] ^= 4,
            Fault::Every(_) | Fault::None => {}
        }
        Some(&self.page)
    }
}

/// The source's knowledge, and the image that it keeps on the way out.
struct Source<'a> {
    held: &'a mut Held,
    image: &'a mut Image,
}

impl Knowledge for Source<'_> {
    fn holds(&self, fingerprint: Fingerprint) -> bool {
        self.held.contains(fingerprint)
    }

    fn learn(&mut self, fingerprint: Fingerprint) {
        self.held.insert(fingerprint);
    }

    fn forget(&mut self, fingerprint: Fingerprint) {
        self.held.remove(fingerprint);
    }

    fn passes(&mut self, _place: Place, _number: Option<u64>, what: Passed<'_>) {
        if let Passed::Page(page, tag) = what {
            let tag = tag.unwrap_or_else(|| hash().tag(page));
            assert_eq!(tag, hash().tag(page));
            self.image.0.insert(tag, *page);
        }
    }
}

/// A connection with everything on it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) encoder: Encoder,
    pub(super) decoder: Decoder,
    pub(super) knowledge: Held,
    pub(super) target: Target,
    /// How the stream and the wire are cut, over and over.
    pub(super) pieces: Vec<usize>,
    /// Behind how many bytes the source's relay is turned plain.
    pub(super) plain_at: Option<usize>,
    /// How many turns the target waits before it answers anything.
    pub(super) patience: u32,
    pub(super) wire: u64,
    pub(super) most_behind: u64,
    pub(super) most_kept: usize,
}

impl Link {
    pub(super) fn new(target: Target) -> Self {
        Self {
            encoder: Encoder::new(hash(), None),
            decoder: Decoder::new(hash(), None, target.window),
            knowledge: Held::of_at_most(1 << 20),
            target,
            pieces: vec![65536],
            plain_at: None,
            patience: 0,
            wire: 0,
            most_behind: 0,
            most_kept: 0,
        }
    }

    /// What answers may take beside what is kept for them.
    pub(super) fn answers(&self) -> usize {
        4 * (self.target.window as usize + PAGE)
    }

    /// The target says that it is there, and what it holds.
    pub(super) fn open(&mut self) {
        let mut back = Vec::new();
        self.decoder.reply(true, &mut back);
        self.decoder.announce(self.target.index.fingerprints(), &mut back);
        let taken = self.encoder.receive(&back, &mut self.knowledge, &mut Vec::new()).unwrap();
        assert_eq!(taken, back.len());
    }

    /// Carries a stream to its end and compares what arrives, and a return path beside it.
    pub(super) fn carry(mut self, stream: &[u8], image: &mut Image) -> Self {
        self.open();
        let mut knowledge = std::mem::replace(&mut self.knowledge, Held::of_at_most(0));
        let mut source = Source { held: &mut knowledge, image };
        let (mut offered, mut taken) = (0, 0);
        let (mut wire, mut arrived, mut back, mut returned) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut sent_back, mut turn, mut idle) = (Vec::new(), 0_u32, 0);
        while !(self.encoder.is_settled() && self.decoder.is_over() && self.encoder.return_ended()) {
            let piece = self.pieces[turn as usize % self.pieces.len()];
            turn += 1;
            if self.plain_at.is_some_and(|at| taken >= at) {
                self.encoder.plain();
            }
            offered = (offered + piece).min(stream.len()).min(taken + 300_000);
            let before = (taken, wire.len(), arrived.len(), back.len());
            taken += if offered == stream.len() {
                self.encoder.finish(&stream[taken..], &mut source, &mut wire)
            } else {
                self.encoder.encode(&stream[taken..offered], &mut source, &mut wire)
            };
            self.most_kept = self.most_kept.max(self.encoder.memory());
            // A piece of what is on the wire arrives.
            let now = wire.len().min(piece.max(crate::frame::Frames::MOST));
            let mut out = Vec::new();
            let used = self.decoder.decode(&wire[..now], &mut self.target, &mut out).unwrap();
            wire.drain(..used);
            self.wire += used as u64;
            self.most_behind = self.most_behind.max(self.decoder.behind());
            self.decoder.written(out.len());
            arrived.extend_from_slice(&out);
            if turn.is_multiple_of(self.patience + 1) {
                let word = turn.to_be_bytes();
                if self.decoder.is_over() {
                    self.decoder.end_return(&mut back);
                } else if sent_back.len() < 10_000 {
                    self.decoder.give_back(&word, &mut back);
                    sent_back.extend_from_slice(&word);
                }
                self.decoder.reply(true, &mut back);
                let used = self.encoder.receive(&back, &mut source, &mut returned).unwrap();
                back.drain(..used);
            }
            idle = if before == (taken, wire.len(), arrived.len(), back.len()) { idle + 1 } else { 0 };
            assert!(idle < 200, "nothing moves: {taken} of {} taken, {} arrived", stream.len(), arrived.len());
        }
        assert!(arrived == stream, "another stream arrives");
        assert!(returned == sent_back, "another return path arrives");
        self.knowledge = knowledge;
        self
    }
}
