//! Streams of real QEMUs, which `corpus/capture.py` took: what is in them, and what becomes of them when they are cut,
//! flipped and doubled.

use super::read;
use crate::PAGE;
use crate::stream::{Channel, Reader, Reason, Span, Step};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

/// What a stream of the corpus is.
pub(crate) struct Captured {
    pub(crate) name: &'static str,
    channel: Channel,
    /// Why its rest is opaque at the end.
    end: Reason,
}

const fn captured(name: &'static str, channel: Channel, end: Reason) -> Captured {
    Captured { name, channel, end }
}

/// Three generations of QEMU with machine types of their own, and an old machine type on newer ones. Each migration has
/// the settings of KubeVirt: return path, and a pause before the switch. `virtio-mem` is a VM whose memory may grow.
pub(crate) const STREAMS: &[Captured] = &[
    captured("7.2-multifd.0", Channel::Main, Reason::Devices),
    captured("7.2-multifd.1", Channel::Multifd, Reason::Over),
    captured("7.2-multifd.2", Channel::Multifd, Reason::Over),
    captured("7.2-pre-copy.0", Channel::Main, Reason::Devices),
    captured("7.2-preempt.0", Channel::Main, Reason::Over),
    captured("7.2-preempt.1", Channel::Preempt, Reason::Over),
    captured("7.2-recovery.0", Channel::Main, Reason::Over),
    captured("7.2-recovery.1", Channel::Preempt, Reason::Over),
    captured("7.2-recovery.resumed-0", Channel::Main, Reason::Over),
    captured("7.2-recovery.resumed-1", Channel::Preempt, Reason::Over),
    captured("10.0-multifd.0", Channel::Main, Reason::Devices),
    captured("10.0-multifd.1", Channel::Multifd, Reason::Over),
    captured("10.0-multifd.2", Channel::Multifd, Reason::Over),
    captured("10.0-old-machine-multifd.0", Channel::Main, Reason::Devices),
    captured("10.0-old-machine-multifd.1", Channel::Multifd, Reason::Over),
    captured("10.0-old-machine-multifd.2", Channel::Multifd, Reason::Over),
    captured("10.0-pre-copy.0", Channel::Main, Reason::Devices),
    captured("10.0-preempt.0", Channel::Main, Reason::Over),
    captured("10.0-preempt.1", Channel::Preempt, Reason::Over),
    captured("10.0-recovery.0", Channel::Main, Reason::Over),
    captured("10.0-recovery.1", Channel::Preempt, Reason::Over),
    captured("10.0-recovery.resumed-0", Channel::Main, Reason::Over),
    captured("10.0-xbzrle.0", Channel::Main, Reason::Devices),
    captured("11.1-multifd-preempt.0", Channel::Main, Reason::Over),
    captured("11.1-multifd-preempt.1", Channel::Multifd, Reason::Over),
    captured("11.1-multifd-preempt.2", Channel::Multifd, Reason::Over),
    captured("11.1-multifd-preempt.3", Channel::Preempt, Reason::Over),
    captured("11.1-multifd-recovery.0", Channel::Main, Reason::Over),
    captured("11.1-multifd-recovery.1", Channel::Multifd, Reason::Over),
    captured("11.1-multifd-recovery.2", Channel::Multifd, Reason::Over),
    captured("11.1-multifd-recovery.3", Channel::Preempt, Reason::Over),
    captured("11.1-multifd-recovery.resumed-0", Channel::Main, Reason::Over),
    captured("11.1-multifd.0", Channel::Main, Reason::Devices),
    captured("11.1-multifd.1", Channel::Multifd, Reason::Over),
    captured("11.1-multifd.2", Channel::Multifd, Reason::Over),
    captured("11.1-pre-copy.0", Channel::Main, Reason::Devices),
    captured("11.1-preempt.0", Channel::Main, Reason::Over),
    captured("11.1-preempt.1", Channel::Preempt, Reason::Over),
    captured("11.1-recovery.0", Channel::Main, Reason::Over),
    captured("11.1-recovery.1", Channel::Preempt, Reason::Over),
    captured("11.1-recovery.resumed-0", Channel::Main, Reason::Over),
    captured("11.1-xbzrle.0", Channel::Main, Reason::Devices),
    captured("10.0-virtio-mem.0", Channel::Main, Reason::Devices),
    captured("10.0-virtio-mem-preempt.0", Channel::Main, Reason::Over),
    captured("11.1-virtio-mem.0", Channel::Main, Reason::Devices),
];

/// The bytes of a stream of the corpus.
pub(crate) fn stream(name: &str) -> &'static [u8] {
    static READ: OnceLock<Mutex<BTreeMap<String, &'static [u8]>>> = OnceLock::new();
    let mut read = READ.get_or_init(Mutex::default).lock().unwrap();
    read.entry(name.to_owned()).or_insert_with(|| unpack(name).leak())
}

fn unpack(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{name}.gz"));
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The page that the firmware's pattern has at this place, if the pattern covers it (see `corpus/capture.py`).
fn pattern(offset: u64) -> Option<Vec<u8>> {
    let number = offset.checked_sub(2 << 20)? / PAGE as u64;
    let text = format!("page {number:06} of the pattern. ");
    (number < 1200).then(|| text.bytes().cycle().take(PAGE).collect())
}

#[test]
fn every_captured_stream_is_understood_to_its_last_page() {
    for Captured { name, channel, end } in STREAMS {
        let bytes = stream(name);
        let mut reader = Reader::new();
        let steps = read(&mut reader, bytes, &[65536]);
        assert_eq!((reader.channel(), reader.opaque()), (*channel, Some(*end)), "{name}");
        let opaque: usize = steps.iter().filter(|step| step.span == Span::Opaque).map(|step| step.bytes).sum();
        // Devices of a machine that has hardly any; nothing at all behind the ends of the other kinds.
        let most = if *end == Reason::Devices { 200_000 } else { 0 };
        assert!(opaque <= most, "{name}: {opaque} bytes of {} are opaque", bytes.len());
    }
}

/// XBZRLE says what changed in a page and not what it is now. The firmware writes, so there is something to say.
#[test]
fn changes_are_told_from_pages() {
    for name in ["10.0-xbzrle.0", "11.1-xbzrle.0"] {
        let steps = read(&mut Reader::new(), stream(name), &[65536]);
        let changed = steps.iter().filter(|step| matches!(step.span, Span::Changed(_))).count();
        assert!(changed > 100, "{name}: {changed}");
    }
}

/// The pattern is never written, so each of its pages is what it was, wherever it passes; and each passes.
#[test]
fn each_page_of_the_pattern_passes_as_it_is() {
    let mut migrations: BTreeMap<&str, BTreeMap<u64, u32>> = BTreeMap::new();
    for Captured { name, .. } in STREAMS {
        let bytes = stream(name);
        let mut reader = Reader::new();
        let mut at = 0;
        let migration = migrations.entry(name.rsplit_once('.').unwrap().0.trim_end_matches(".resumed")).or_default();
        for Step { span, bytes: length } in read(&mut reader, bytes, &[100_000]) {
            if let Span::Page(place) = span
                && reader.block_name(place.block) == Some(b"pc.ram")
                && let Some(expected) = pattern(place.offset)
            {
                assert!(bytes[at..at + length] == expected, "{name}: another page at {place:?}");
                *migration.entry(place.offset).or_default() += 1;
            }
            at += length;
        }
    }
    for (migration, pages) in migrations {
        // What was on its way when the connection broke is sent again.
        let most = if migration.contains("recovery") { 200 } else { 0 };
        let twice = pages.values().filter(|times| **times > 1).count();
        assert!(pages.len() == 1200 && twice <= most, "{migration}: {} pages, {twice} of them twice", pages.len());
    }
}

#[test]
fn memory_is_what_the_machine_has() {
    let mut reader = Reader::new();
    read(&mut reader, stream("10.0-pre-copy.0"), &[65536]);
    assert!((8 << 20..24 << 20).contains(&reader.memory()), "{}", reader.memory());
}

/// How the input is cut changes nothing, not even in the smallest pieces.
#[test]
fn cuts_change_nothing() {
    for Captured { name, .. } in STREAMS {
        let bytes = stream(name);
        let bytes = &bytes[..bytes.len().min(60_000)];
        let whole = read(&mut Reader::new(), bytes, &[bytes.len()]);
        for pieces in [&[1][..], &[4095], &[4097, 1, 13], &[7, 70_000]] {
            assert!(read(&mut Reader::new(), bytes, pieces) == whole, "{name} in pieces of {pieces:?}");
        }
    }
}

/// Every byte of the front of each stream flipped, left out and doubled: the front has the headers, and one of each
/// kind of record.
#[test]
fn every_byte_flipped_left_out_and_doubled() {
    for name in
        ["7.2-recovery.resumed-1", "10.0-preempt.1", "10.0-pre-copy.0", "11.1-multifd.1", "11.1-recovery.resumed-0"]
    {
        let bytes = stream(name);
        let front = &bytes[..bytes.len().min(6000)];
        for at in 0..front.len() {
            let mut flipped = front.to_vec();
            flipped[at] ^= 1 << (at % 8);
            read(&mut Reader::new(), &flipped, &[6000]);
            read(&mut Reader::new(), &[&front[..at], &front[at + 1..]].concat(), &[6000]);
            read(&mut Reader::new(), &[&front[..at], &front[at..=at], &front[at..]].concat(), &[6000]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn damaged_streams_pass(
        which in 0..STREAMS.len(), at in any::<prop::sample::Index>(), flip in 1..=255_u8, length in 0..9000_usize, how in 0..4,
        pieces in proptest::collection::vec(1..20_000_usize, 1..4),
    ) {
        let whole = stream(STREAMS[which].name);
        let mut bytes = whole[..whole.len().min(100_000)].to_vec();
        let at = at.index(bytes.len());
        let end = (at + length).min(bytes.len());
        match how {
            0 => bytes[at] ^= flip,
            1 => drop(bytes.drain(at..end)),
            2 => bytes.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
            _ => bytes.truncate(at),
        }
        read(&mut Reader::new(), &bytes, &pieces);
    }
}
