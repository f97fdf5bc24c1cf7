//! Throws damaged input at everything that reads what others wrote, for as long as it is told to.
//!
//! `cargo test -p miyako-relay --bench fuzz -- [SECONDS] [SEED]`: a minute and seed 1 unless told otherwise. As a test,
//! not as a benchmark, so that an overflow is a panic; `--test` stops after a few hundred cases. A case is made from
//! the seed and its number alone, so a finding says how to see it again: `-- 0 SEED NUMBER`. Inputs are the captured
//! streams, frames made from them, and noise; damage flips, cuts, doubles, moves and overwrites. A finding is a panic:
//! an index out of bounds, an overflow, an assertion below.

use miyako_relay::PAGE;
use miyako_relay::decoder::{Decoder, Pages};
use miyako_relay::encoder::{Encoder, Knowledge};
use miyako_relay::frame::{Frame, Frames, greeting};
use miyako_relay::hash::{Digest, Fingerprint, PageHash, SharedHash, Tag, VmKey};
use miyako_relay::image::{Header, Tables};
use miyako_relay::stream::{Reader, Span};
use rand::{Rng, RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::io::Read;
use std::time::{Duration, Instant};

const WINDOW: u32 = 64 << 10;

fn hash() -> PageHash {
    PageHash::new(&VmKey::new([1; 32]))
}

/// Knows and holds whatever is asked for, or what it feels like.
struct Whim(ChaCha8Rng, [u8; PAGE]);

impl Knowledge for Whim {
    fn holds(&self, Fingerprint(fingerprint): Fingerprint) -> bool {
        fingerprint & 1 == 0
    }

    fn shares(&self, digest: &Digest) -> bool {
        digest.0[0] & 1 == 0
    }

    fn learn(&mut self, _fingerprint: Fingerprint) {}

    fn forget(&mut self, _fingerprint: Fingerprint) {}
}

impl Pages for Whim {
    fn page(&mut self, _tag: Tag) -> Option<&[u8; PAGE]> {
        self.0.random_bool(0.5).then_some(&self.1)
    }

    fn shared(&mut self, _digest: &Digest) -> Option<&[u8; PAGE]> {
        self.0.random_bool(0.5).then_some(&self.1)
    }
}

fn below(rng: &mut impl Rng, end: usize) -> usize {
    if end == 0 { 0 } else { rng.random_range(0..end) }
}

fn damage(bytes: &mut Vec<u8>, rng: &mut impl Rng) {
    for _ in 0..below(rng, 6) {
        let (at, length) = (below(rng, bytes.len()), below(rng, 6000));
        let end = (at + length).min(bytes.len());
        match below(rng, 7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << below(rng, 8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let twice = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, twice));
            }
            4 => bytes.truncate(at),
            5 => {
                let to = below(rng, bytes.len() - (end - at) + 1);
                let moved: Vec<u8> = bytes.drain(at..end).collect();
                drop(bytes.splice(to..to, moved));
            }
            _ => rng.fill(&mut bytes[at..end]),
        }
    }
}

/// Everything that a reader says adds up to what it was given.
fn read(bytes: &[u8], rng: &mut impl Rng) {
    let (mut reader, mut begin, mut end) = (Reader::new(), 0, 0);
    while end < bytes.len() {
        end = (end + 1 + below(rng, 9000)).min(bytes.len());
        while let Some(step) = reader.step(&bytes[begin..end]) {
            assert!(step.bytes > 0 && begin + step.bytes <= end);
            assert!(!matches!(step.span, Span::Page(_)) || step.bytes == PAGE);
            begin += step.bytes;
        }
        assert!(end - begin < Reader::MOST);
    }
}

/// A stream through both ends, of which the target forgets what it likes.
fn carry(bytes: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let shared = || rng_bool(&mut rng.clone()).then(|| SharedHash::new([3; 32]));
    let (mut encoder, mut decoder) = (Encoder::new(hash(), shared()), Decoder::new(hash(), shared(), WINDOW));
    let (mut whim, mut all) = (Whim(rng.clone(), [7; PAGE]), Vec::new());
    let (mut taken, mut wire, mut arrived, mut back) = (0, Vec::new(), Vec::new(), Vec::new());
    let mut turns = 0;
    while !(encoder.is_settled() && decoder.is_over()) {
        turns += 1;
        assert!(turns < 100_000, "nothing moves");
        decoder.reply(true, &mut back);
        let used = encoder.receive(&back, &mut whim, &mut Vec::new()).expect("a sound target");
        back.drain(..used);
        if below(rng, 200) == 0 {
            encoder.plain();
        }
        taken += encoder.finish(&bytes[taken..], &mut whim, &mut wire);
        all.extend_from_slice(&wire);
        let mut out = Vec::new();
        let used = decoder.decode(&wire, &mut whim, &mut out).expect("a sound source");
        wire.drain(..used);
        decoder.written(out.len());
        arrived.extend_from_slice(&out);
        assert!(decoder.behind() <= u64::from(WINDOW) && encoder.memory() <= 6 * WINDOW as usize + 8 * PAGE);
    }
    assert!(arrived == bytes, "another stream arrived");
    all
}

fn rng_bool(rng: &mut impl Rng) -> bool {
    rng.random_bool(0.5)
}

/// What a source or a target that is none might say.
fn receive(wire: &[u8], rng: &mut ChaCha8Rng) {
    let mut whim = Whim(rng.clone(), [7; PAGE]);
    let (mut decoder, mut begin, mut end) = (Decoder::new(hash(), None, WINDOW), 0, 0);
    let mut encoder = Encoder::new(hash(), None);
    while end < wire.len() {
        end = (end + 1 + below(rng, 9000)).min(wire.len());
        let mut out = Vec::new();
        let Ok(used) = decoder.decode(&wire[begin..end], &mut whim, &mut out) else { break };
        begin += used;
        assert!(end - begin < Frames::MOST && decoder.behind() <= u64::from(WINDOW));
    }
    let _ = encoder.receive(wire, &mut whim, &mut Vec::new());
    assert!(encoder.memory() <= 8 * PAGE);
    let _ = greeting::first(wire, &greeting::Secret::new([1; 32]));
}

fn backward(rng: &mut impl Rng) -> Vec<u8> {
    let mut wire = Vec::new();
    for _ in 0..below(rng, 20) {
        match below(rng, 4) {
            0 => Frame::Acknowledgement { position: rng.random_range(0..9000), window: rng.random() }.write(&mut wire),
            1 => Frame::Nack { position: rng.random_range(0..9000) }.write(&mut wire),
            2 => miyako_relay::frame::write_held((0..below(rng, 900)).map(|at| Fingerprint(at as u64)), &mut wire),
            _ => Frame::End { position: rng.random_range(0..3) }.write(&mut wire),
        }
    }
    wire
}

/// An image's header and a table, damaged or made of noise: what is believed is what was written.
fn image(rng: &mut ChaCha8Rng) {
    let header = Header {
        vm: "v".repeat(1 + below(rng, 64)),
        key: VmKey::new(rng.random()),
        generation: rng.random(),
        begun_at: rng.random(),
        slots: rng.random_range(0..1 << 28),
    };
    let (tables, group) = (Tables::new(&header), rng.random());
    let tags: Vec<_> = (0..below(rng, 300)).map(|_| rng.random_bool(0.7).then(|| Tag(rng.random()))).collect();
    for (is_header, written) in [(true, header.encode().expect("a sound header")), (false, tables.encode(group, &tags))]
    {
        let mut bytes = written.to_vec();
        damage(&mut bytes, rng);
        bytes.resize(PAGE, 0);
        let page = bytes.first_chunk::<PAGE>().expect("a page");
        let believed = if is_header {
            Header::decode(page).is_ok()
        } else {
            tables.decode(group, page).is_ok_and(|table| table.count() > 0)
        };
        assert!(!believed || *page == written);
        assert!(!(is_header && *page == written) || Header::decode(page).as_ref() == Ok(&header));
    }
}

fn corpus() -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("the corpus").map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "gz"));
    paths.sort();
    let unpack = |path: &std::path::PathBuf| {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).expect("a stream of the corpus");
        flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
        bytes
    };
    paths.iter().map(unpack).collect()
}

fn case(seed: u64, number: u64, corpus: &[Vec<u8>]) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    let whole = &corpus[below(&mut rng, corpus.len())];
    let begin = if rng.random_bool(0.7) { 0 } else { below(&mut rng, whole.len()) };
    let end = (begin + 1 + below(&mut rng, 120_000)).min(whole.len());
    let mut bytes = whole[begin..end].to_vec();
    damage(&mut bytes, &mut rng);
    match below(&mut rng, 5) {
        0 | 1 => read(&bytes, &mut rng),
        3 => image(&mut rng),
        2 => {
            let mut wire = carry(&bytes, &mut rng);
            damage(&mut wire, &mut rng);
            receive(&wire, &mut rng);
        }
        _ => {
            let mut wire = backward(&mut rng);
            if rng.random_bool(0.5) {
                damage(&mut wire, &mut rng);
            }
            receive(&wire, &mut rng);
        }
    }
}

#[allow(clippy::disallowed_methods)] // it runs for a while
fn main() {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let seconds = arguments.first().copied().unwrap_or(60);
    let seed = arguments.get(1).copied().unwrap_or(1);
    let corpus = corpus();
    if let Some(number) = arguments.get(2) {
        return case(seed, *number, &corpus);
    }
    let test = std::env::args().any(|argument| argument == "--test");
    let (begin, mut number) = (Instant::now(), 0);
    while if test { number < 300 } else { begin.elapsed() < Duration::from_secs(seconds) } {
        let run = std::panic::AssertUnwindSafe(|| case(seed, number, &corpus));
        if std::panic::catch_unwind(run).is_err() {
            eprintln!(
                "found by case {number} of seed {seed}: cargo test -p miyako-relay --bench fuzz -- 0 {seed} {number}"
            );
            std::process::exit(1);
        }
        number += 1;
    }
    println!("{number} cases of seed {seed} in {} s, and no finding", begin.elapsed().as_secs());
}
