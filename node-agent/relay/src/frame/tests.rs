use super::*;
use proptest::prelude::*;

/// A frame that owns what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Raw(Vec<u8>),
    Page(u8),
    Answer(u64, u8),
    Held(Vec<u64>),
    Other(Frame<'static>),
}

fn any_frame() -> impl Strategy<Value = Owned> {
    let other = |frame| Owned::Other(frame);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..200).prop_map(Owned::Raw),
        any::<u8>().prop_map(Owned::Page),
        (any::<u64>(), any::<u8>()).prop_map(|(position, fill)| Owned::Answer(position, fill)),
        proptest::collection::vec(any::<u64>(), 1..40).prop_map(Owned::Held),
        Just(other(Frame::Zero)),
        any::<[u8; 16]>().prop_map(move |tag| other(Frame::Reference(Tag(tag)))),
        any::<[u8; 32]>().prop_map(move |digest| other(Frame::Shared(Digest(digest)))),
        (any::<u64>(), any::<u32>())
            .prop_map(move |(position, window)| other(Frame::Acknowledgement { position, window })),
        any::<u64>().prop_map(move |position| other(Frame::Nack { position })),
        (any::<u64>(), any::<u128>()).prop_map(move |(count, sum)| other(Frame::AllHeld(Sum { count, sum }))),
        any::<u8>().prop_map(move |reason| other(Frame::Plain(reason))),
        any::<u64>().prop_map(move |position| other(Frame::End { position })),
    ]
}

fn write(frame: &Owned, out: &mut Vec<u8>) {
    match frame {
        Owned::Raw(bytes) => write_raw(bytes, out),
        Owned::Page(fill) => Frame::Page(&[*fill; PAGE]).write(out),
        Owned::Answer(position, fill) => Frame::Answer { position: *position, page: &[*fill; PAGE] }.write(out),
        Owned::Held(held) => write_held(held.iter().copied().map(Fingerprint), out),
        Owned::Other(frame) => frame.write(out),
    }
}

fn push(frames: &mut Vec<Owned>, frame: Frame<'_>, part: bool) {
    match frame {
        Frame::Raw(bytes) => match frames.last_mut() {
            Some(Owned::Raw(before)) if part => before.extend_from_slice(bytes),
            _ => frames.push(Owned::Raw(bytes.to_vec())),
        },
        Frame::Page(page) => frames.push(Owned::Page(page[4095])),
        Frame::Answer { position, page } => frames.push(Owned::Answer(position, page[4095])),
        Frame::Held(held) => frames.push(Owned::Held(held.iter().map(|held| held.0).collect())),
        Frame::Zero => frames.push(Owned::Other(Frame::Zero)),
        Frame::Reference(tag) => frames.push(Owned::Other(Frame::Reference(tag))),
        Frame::Shared(digest) => frames.push(Owned::Other(Frame::Shared(digest))),
        Frame::Acknowledgement { position, window } => {
            frames.push(Owned::Other(Frame::Acknowledgement { position, window }));
        }
        Frame::Nack { position } => frames.push(Owned::Other(Frame::Nack { position })),
        Frame::AllHeld(sum) => frames.push(Owned::Other(Frame::AllHeld(sum))),
        Frame::Plain(reason) => frames.push(Owned::Other(Frame::Plain(reason))),
        Frame::End { position } => frames.push(Owned::Other(Frame::End { position })),
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(frames in proptest::collection::vec(any_frame(), 0..12), piece in 1..6000_usize) {
        let mut wire = Vec::new();
        frames.iter().for_each(|frame| write(frame, &mut wire));
        let (mut parser, mut read) = (Frames::default(), Vec::new());
        let (mut begin, mut end) = (0, 0);
        loop {
            loop {
                let part = parser.raw_left > 0;
                let Some((frame, bytes)) = parser.next(&wire[begin..end]).unwrap() else { break };
                prop_assert!((1..=end - begin).contains(&bytes));
                push(&mut read, frame, part);
                begin += bytes;
            }
            prop_assert!(end - begin < Frames::MOST);
            if end == wire.len() {
                break;
            }
            end = (end + piece).min(wire.len());
        }
        prop_assert_eq!(begin, wire.len());
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn any_bytes_are_frames_or_none(wire in proptest::collection::vec(any::<u8>(), 0..9000)) {
        let (mut parser, mut at) = (Frames::default(), 0);
        while let Ok(Some((_, bytes))) = parser.next(&wire[at..]) {
            prop_assert!(bytes > 0 && at + bytes <= wire.len());
            at += bytes;
        }
        prop_assert!(parser.next(&wire[at..]).is_err() || wire.len() - at < Frames::MOST);
    }
}

#[test]
fn long_raw_bytes_take_many_frames() {
    let bytes: Vec<u8> = (0..200_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let mut wire = Vec::new();
    write_raw(&bytes, &mut wire);
    assert_eq!(wire.len(), bytes.len() + 4 * 3);
    let (mut parser, mut at, mut read) = (Frames::default(), 0, Vec::new());
    while let Some((Frame::Raw(part), taken)) = parser.next(&wire[at..]).unwrap() {
        read.extend_from_slice(part);
        at += taken;
    }
    assert_eq!(read, bytes);
}

/// The other end may be of another build: frames stay what they were.
#[test]
fn the_wire_is_what_it_was() {
    let bytes = |frame: Frame<'_>| {
        let mut out = Vec::new();
        frame.write(&mut out);
        out
    };
    assert_eq!(bytes(Frame::Raw(b"ab")), [1, 0, 2, b'a', b'b']);
    assert_eq!(bytes(Frame::Reference(Tag([7; 16]))), [&[4][..], &[7; 16]].concat());
    assert_eq!(bytes(Frame::Acknowledgement { position: 258, window: 3 }), [7, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3]);
    assert_eq!(bytes(Frame::Nack { position: 5 }), [8, 0, 0, 0, 0, 0, 0, 0, 5]);
    assert_eq!(bytes(Frame::End { position: 5 }), [12, 0, 0, 0, 0, 0, 0, 0, 5]);
}
