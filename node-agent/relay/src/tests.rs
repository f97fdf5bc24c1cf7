//! Both ends of a connection, tied together: what goes in comes out, whatever happens on the way.

mod bad_peer;
mod link;

use crate::PAGE;
use crate::frame::Frame;
use crate::stream::Reason;
use crate::stream::tests::{STREAMS, read, stream};
use link::{Fault, Image, Link, Target};
use proptest::prelude::*;

const WINDOW: u32 = 256 << 10;

/// All streams of the corpus come back: the first time to a target that holds nothing, the second time to one that kept
/// what passed.
#[test]
fn what_has_passed_once_passes_as_references() {
    for captured in STREAMS {
        let bytes = stream(captured.name);
        let mut image = Image::default();
        let first = Link::new(Target::empty()).carry(bytes, &mut image);
        assert!(first.wire <= bytes.len() as u64 * 101 / 100 + 200, "{}: {} bytes", captured.name, first.wire);
        assert_eq!(first.encoder.counts().references, 0);
        let pages = first.encoder.counts().pages;
        let second = Link::new(Target::of(&image)).carry(bytes, &mut Image::default());
        let counts = second.encoder.counts();
        assert_eq!(counts.nacks, 0, "{}", captured.name);
        if captured.name.contains("preempt") && counts.pages == pages {
            // Pages that the guest waits for pass as they are.
            assert_eq!(second.encoder.reader().channel(), crate::stream::Channel::Preempt);
        } else if pages > 100 {
            assert_eq!((counts.pages, counts.references), (0, pages), "{}", captured.name);
            // What XBZRLE says of changes passes as it is.
            let times = if captured.name.contains("xbzrle") { 3 } else { 10 };
            assert!(second.wire * times < first.wire, "{}: {} of {}", captured.name, second.wire, first.wire);
        }
    }
}

/// A reference is by content: it finds a page that has moved, and one that another kind of stream brought.
#[test]
fn pages_are_found_wherever_they_are() {
    let mut image = Image::default();
    Link::new(Target::empty()).carry(stream("10.0-pre-copy.0"), &mut image);
    for name in ["11.1-multifd-preempt.0", "7.2-recovery.resumed-0", "11.1-multifd.2"] {
        let counts = Link::new(Target::of(&image)).carry(stream(name), &mut Image::default()).encoder.counts();
        // The rest are pages that the firmware has written since.
        assert!(counts.references > 400, "{name}: {counts:?}");
    }
}

#[test]
fn a_page_that_rotted_is_asked_for() {
    let bytes = stream("10.0-pre-copy.0");
    let mut image = Image::default();
    Link::new(Target::empty()).carry(bytes, &mut image);
    for (fault, nacks) in
        [(Fault::EveryBitFlips, true), (Fault::AllGone, true), (Fault::Every(7), true), (Fault::None, false)]
    {
        let link = Link::new(Target::of(&image).with(fault, WINDOW)).carry(bytes, &mut Image::default());
        assert_eq!(link.encoder.counts().nacks > 0, nacks, "{fault:?}");
        assert_eq!(link.decoder.counts().hits + link.encoder.counts().nacks, link.encoder.counts().references);
        // What turned out not to be there is not referred to again; the corpus has few pages twice.
        assert!(link.knowledge.len() as u64 + link.encoder.counts().nacks >= image.len() as u64);
    }
}

/// A relay that is turned plain half way stays so, and what it referred to before is still answered.
#[test]
fn plain_is_for_ever_and_owes_what_it_owed() {
    let bytes = stream("10.0-pre-copy.0");
    let mut image = Image::default();
    Link::new(Target::empty()).carry(bytes, &mut image);
    let mut link = Link::new(Target::of(&image).with(Fault::AllGone, WINDOW));
    link.plain_at = Some(2_000_000);
    let link = link.carry(bytes, &mut Image::default());
    let counts = link.encoder.counts();
    assert!(counts.nacks > 0 && counts.nacks < 600, "{counts:?}");
    assert_eq!(
        (link.encoder.reader().opaque(), link.decoder.plain()),
        (Some(Reason::Asked), Some(Reason::Asked as u8))
    );
}

/// What is kept at the source and what waits at the target are within the window, whatever happens.
#[test]
fn memory_is_bounded_by_the_window() {
    let bytes = stream("10.0-pre-copy.0");
    let mut image = Image::default();
    Link::new(Target::empty()).carry(bytes, &mut image);
    for window in [4096, 8192, 100_000, 1 << 20] {
        let mut link = Link::new(Target::of(&image).with(Fault::Every(2), window));
        link.patience = 50;
        let link = link.carry(bytes, &mut Image::default());
        assert!(link.most_behind <= u64::from(window), "{} behind a window of {window}", link.most_behind);
        assert!(link.most_kept <= window as usize + 2 * PAGE + link.answers(), "{} for {window}", link.most_kept);
        assert!(link.encoder.counts().references > 1000);
    }
}

/// A target that opens no window gets no references.
#[test]
fn without_a_window_there_are_no_references() {
    let bytes = stream("10.0-pre-copy.0");
    let mut image = Image::default();
    Link::new(Target::empty()).carry(bytes, &mut image);
    for window in [0, 4095] {
        let link = Link::new(Target::of(&image).with(Fault::None, window)).carry(bytes, &mut Image::default());
        assert_eq!(link.encoder.counts().references, 0);
    }
}

/// The return path passes while the stream is blocked by an open question.
#[test]
fn the_return_path_never_waits() {
    let mut image = Image::default();
    let bytes = stream("10.0-pre-copy.0");
    Link::new(Target::empty()).carry(bytes, &mut image);
    let mut link = Link::new(Target::of(&image).with(Fault::AllGone, WINDOW));
    let mut wire = Vec::new();
    link.open();
    link.encoder.encode(&bytes[..400_000], &mut link.knowledge, &mut wire);
    let mut out = Vec::new();
    let taken = link.decoder.decode(&wire, &mut link.target, &mut out).unwrap();
    assert!(taken > 0 && link.decoder.behind() > 0, "it waits for answers");
    let (mut back, mut to_qemu) = (Vec::new(), Vec::new());
    link.decoder.give_back(b"return path", &mut back);
    link.encoder.receive(&back, &mut link.knowledge, &mut to_qemu).unwrap();
    assert_eq!(to_qemu, b"return path");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Any stream, cut anywhere, over any window, with any of the faults, turned plain at any time.
    #[test]
    fn what_goes_in_comes_out(
        which in 0..STREAMS.len(), skip in 0..3_usize, window in prop_oneof![Just(0), 4096..50_000_u32, Just(1 << 20)],
        fault in prop_oneof![Just(Fault::None), Just(Fault::AllGone), Just(Fault::EveryBitFlips), (2..9_usize).prop_map(Fault::Every)],
        pieces in proptest::collection::vec(1..70_000_usize, 1..5), plain_at in proptest::option::of(0..300_000_usize),
        patience in 0..40_u32, damaged in proptest::option::of((any::<prop::sample::Index>(), 1..=255_u8)),
    ) {
        let whole = stream(STREAMS[which].name);
        let begin = (skip * 50_000).min(whole.len() - 1);
        let end = (begin + 300_000).min(whole.len());
        // From the middle on it is no stream at all.
        let mut bytes = whole[begin..end].to_vec();
        let mut image = Image::default();
        Link::new(Target::empty()).carry(&bytes, &mut image);
        if let Some((at, flip)) = damaged {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let mut link = Link::new(Target::of(&image).with(fault, window));
        (link.pieces, link.plain_at, link.patience) = (pieces, plain_at, patience);
        link.carry(&bytes, &mut Image::default());
    }

    #[test]
    fn neither_end_falls_over_anything(wire in proptest::collection::vec(any::<u8>(), 0..3000), kinds in proptest::collection::vec(1..13_u8, 1..9)) {
        bad_peer::feed(&wire, &kinds);
    }
}

/// A source that has the same pages in mind needs no announcement; it is told so by the sum.
#[test]
fn the_sum_stands_for_the_announcement() {
    let mut image = Image::default();
    Link::new(Target::empty()).carry(stream("10.0-preempt.0"), &mut image);
    let target = Target::of(&image);
    let mut link = Link::new(target);
    link.open();
    assert_eq!(link.knowledge.sum(), link.target.index.sum());
    let mut wire = Vec::new();
    link.decoder.announced(link.target.index.sum(), &mut wire);
    let (frame, _) = crate::frame::Frames::default().next(&wire).unwrap().unwrap();
    assert_eq!(frame, Frame::AllHeld(link.knowledge.sum()));
}

/// The helper reads as the relay does: a stream without its last bytes still ends.
#[test]
fn half_a_page_at_the_end_passes() {
    let bytes = &stream("10.0-pre-copy.0")[..100_123];
    assert!(!read(&mut crate::stream::Reader::new(), bytes, &[5000]).is_empty());
    let link = Link::new(Target::empty()).carry(bytes, &mut Image::default());
    assert_eq!(link.encoder.position(), 100_123);
    assert!(link.encoder.is_settled() && link.decoder.is_over());
}
