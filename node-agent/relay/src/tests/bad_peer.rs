//! What an end does when the other one is no relay of ours, or one that has lost its mind.

use super::link::{Target, hash};
use crate::PAGE;
use crate::decoder::Decoder;
use crate::encoder::Encoder;
use crate::frame::{Frame, Frames};
use crate::hash::Tag;
use crate::index::Held;
use crate::peer::BadPeer;

fn wire(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut wire = Vec::new();
    frames.iter().for_each(|frame| frame.write(&mut wire));
    wire
}

fn decode(frames: &[Frame<'_>]) -> (Result<usize, BadPeer>, usize) {
    let mut out = Vec::new();
    let result = Decoder::new(hash(), None, 8192).decode(&wire(frames), &mut Target::empty(), &mut out);
    (result, out.len())
}

/// Random bytes, some of them behind the first byte of a frame.
pub(super) fn feed(bytes: &[u8], kinds: &[u8]) {
    let mut wire = Vec::new();
    for (at, piece) in bytes.chunks(bytes.len() / kinds.len() + 1).enumerate() {
        wire.push(kinds[at % kinds.len()]);
        wire.extend_from_slice(piece);
    }
    let mut out = Vec::new();
    let mut decoder = Decoder::new(hash(), None, 8192);
    if let Ok(taken) = decoder.decode(&wire, &mut Target::empty(), &mut out) {
        assert!(wire.len() - taken < Frames::MOST);
    }
    assert!(out.len() <= wire.len() * PAGE && decoder.behind() <= 8192 + Frames::MOST as u64);
    let mut encoder = Encoder::new(hash(), None);
    if let Ok(taken) = encoder.receive(&wire, &mut Held::of_at_most(1 << 20), &mut out) {
        assert!(wire.len() - taken < Frames::MOST);
    }
}

#[test]
fn what_only_a_target_says_is_refused_by_one() {
    let others = [
        Frame::Acknowledgement { position: 0, window: 0 },
        Frame::Nack { position: 0 },
        Frame::AllHeld(crate::index::Sum::default()),
    ];
    for frame in others {
        assert_eq!(decode(&[Frame::Raw(b"a"), frame]), (Err(BadPeer::Unexpected), 1));
    }
    for frame in [Frame::Zero, Frame::Reference(Tag([0; 16])), Frame::Plain(1), Frame::Page(&[0; PAGE])] {
        let result =
            Encoder::new(hash(), None).receive(&wire(&[frame]), &mut Held::of_at_most(1 << 20), &mut Vec::new());
        assert_eq!(result, Err(BadPeer::Unexpected));
    }
}

#[test]
fn an_end_that_is_none() {
    assert_eq!(decode(&[Frame::Zero, Frame::End { position: 5 }]).0, Err(BadPeer::Length { said: 5, seen: 4096 }));
    assert_eq!(decode(&[Frame::End { position: 0 }, Frame::Raw(b"a")]).0, Err(BadPeer::AfterEnd));
    assert_eq!(decode(&[Frame::End { position: 0 }, Frame::End { position: 0 }]).0, Err(BadPeer::AfterEnd));
}

/// An answer that is not the page that was asked for is never handed on.
#[test]
fn a_wrong_answer_is_not_believed() {
    let (page, other) = ([1; PAGE], [2; PAGE]);
    let reference = Frame::Reference(hash().tag(&page));
    let answer = |position, page| Frame::Answer { position, page };
    assert_eq!(decode(&[Frame::Raw(b"a"), reference, answer(1, &page), Frame::Raw(b"b")]).1, 1 + PAGE + 1);
    let wrong = (Err(BadPeer::Answer { position: 1 }), 1);
    assert_eq!(decode(&[Frame::Raw(b"a"), reference, answer(1, &other)]), wrong);
    assert_eq!(decode(&[Frame::Raw(b"a"), answer(1, &page)]), wrong);
    let twice = decode(&[Frame::Raw(b"a"), reference, answer(1, &page), answer(1, &page)]);
    assert_eq!(twice, (Err(BadPeer::Answer { position: 1 }), 1 + PAGE));
}

/// A source that sends on and on behind a question does not fill the target's memory.
#[test]
fn more_than_a_window_behind_a_question_is_refused() {
    let reference = Frame::Reference(Tag([9; 16]));
    assert_eq!(decode(&[reference, Frame::Zero]), (Ok(18), 0));
    assert_eq!(decode(&[reference, reference, Frame::Raw(b"a")]), (Err(BadPeer::Overrun), 0));
}

#[test]
fn a_target_that_asks_for_what_it_never_got() {
    let receive = |frames: &[Frame<'_>]| {
        let mut encoder = Encoder::new(hash(), None);
        let (page, mut held) = ([1; PAGE], Held::of_at_most(1 << 20));
        held.insert(hash().tag(&page).fingerprint());
        encoder
            .receive(&wire(&[Frame::Acknowledgement { position: 0, window: 8192 }]), &mut held, &mut Vec::new())
            .unwrap();
        // A preempt channel would not refer; a main channel with one page does.
        let mut stream = b"QEVM\0\0\0\x03\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04".to_vec();
        stream.extend_from_slice(b"\0\0\0\0\0\0\0\x08\x01a");
        let position = stream.len() as u64;
        stream.extend_from_slice(&page);
        assert_eq!(encoder.encode(&stream, &mut held, &mut Vec::new()), stream.len());
        assert_eq!((encoder.counts().references, position), (1, 35));
        encoder.receive(&wire(frames), &mut held, &mut Vec::new()).map(drop)
    };
    let (nack, sent) = (|position| Frame::Nack { position }, 35 + PAGE as u64);
    let acknowledge = |position| Frame::Acknowledgement { position, window: 8192 };
    assert_eq!(receive(&[nack(35), acknowledge(sent)]), Ok(()));
    assert_eq!(receive(&[nack(35), nack(35)]), Err(BadPeer::Nack { position: 35 }));
    assert_eq!(receive(&[nack(34)]), Err(BadPeer::Nack { position: 34 }));
    assert_eq!(receive(&[acknowledge(sent), nack(35)]), Err(BadPeer::Nack { position: 35 }));
    assert_eq!(receive(&[acknowledge(sent + 1)]), Err(BadPeer::Acknowledgement { position: sent + 1, sent }));
    assert_eq!(receive(&[acknowledge(sent), acknowledge(9)]), Err(BadPeer::Acknowledgement { position: 9, sent }));
    assert_eq!(receive(&[Frame::Raw(b"a"), Frame::End { position: 2 }]), Err(BadPeer::Length { said: 2, seen: 1 }));
}
