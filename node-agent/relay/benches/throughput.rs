//! What the relay's hot paths cost, from slice to slice on one core, and how they compare to hashing alone.
//!
//! `cargo bench -p miyako-relay --bench throughput`; with `--test` a little of everything runs, once.
//!
//! Every figure is the best of several rounds, in decimal GB of the *guest's* memory a second. A ratio, the median of
//! the rounds', is to the raw hash in the same run, so it means the same on another machine. What is measured is the
//! thread's own time on a CPU, and each round of a path stands between two rounds of the hash, because a neighbour on
//! the machine slows all of them alike.
//!
//! The hash is twice as fast where the compiler may use AVX2 throughout: `RUSTFLAGS="-C target-cpu=x86-64-v3"`.

use miyako_relay::PAGE;
use miyako_relay::decoder::{Decoder, Pages};
use miyako_relay::encoder::Encoder;
use miyako_relay::hash::{PageHash, SharedHash, Tag, VmKey};
use miyako_relay::index::{Held, Index, Slot};
use miyako_relay::stream::Reader;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const WINDOW: u32 = 4 << 20;
/// The kernel's account is brought up to date every few milliseconds only.
const LEAST: Duration = Duration::from_millis(40);
/// As a host would read from a socket.
const READ: usize = 256 << 10;

fn hash() -> PageHash {
    PageHash::new(&VmKey::new([1; 32]))
}

/// Memory of which no two pages are the same.
fn memory(pages: usize) -> Vec<[u8; PAGE]> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let page = |_| {
        let mut page = [0; PAGE];
        page.as_chunks_mut().0.iter_mut().for_each(|bytes| *bytes = word());
        page
    };
    (0..pages).map(page).collect()
}

/// A main channel that carries these pages.
fn stream(memory: &[[u8; PAGE]]) -> Vec<u8> {
    let mut stream = b"QEVM\0\0\0\x03\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04".to_vec();
    for (at, page) in memory.iter().enumerate() {
        let offset = (at * PAGE) as u64;
        let (flags, name): (u64, &[u8]) = if at == 0 { (0x08, b"\x06pc.ram") } else { (0x28, b"") };
        stream.extend_from_slice(&(offset | flags).to_be_bytes());
        stream.extend_from_slice(name);
        stream.extend_from_slice(page);
    }
    stream
}

struct Image {
    index: Index,
    slots: Vec<[u8; PAGE]>,
}

impl Pages for Image {
    fn page(&mut self, tag: Tag) -> Option<&[u8; PAGE]> {
        let Slot(slot) = self.index.find(tag.fingerprint())?;
        self.slots.get(slot as usize)
    }
}

/// The time that this thread has spent on a CPU, where the kernel tells; else the wall clock's.
#[allow(clippy::disallowed_methods)] // a benchmark reads the clock
fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let on_cpu = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = on_cpu.as_deref().and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// The mean of enough runs for the kernel's account to be exact.
fn time(mut run: impl FnMut()) -> Duration {
    let (begin, mut runs) = (now(), 0);
    loop {
        run();
        runs += 1;
        let spent = now().saturating_sub(begin);
        if spent >= LEAST {
            return spent / runs;
        }
    }
}

/// Encodes a whole stream as a host would, with a target that acknowledges everything at once.
fn encode(stream: &[u8], held: &mut Held, wire: &mut Vec<u8>) {
    let mut encoder = Encoder::new(hash(), None);
    let (mut taken, mut offered) = (0, 0);
    wire.clear();
    while taken < stream.len() {
        let mut back = Vec::new();
        let frame = miyako_relay::frame::Frame::Acknowledgement { position: encoder.position(), window: WINDOW };
        frame.write(&mut back);
        encoder.receive(&back, held, &mut Vec::new()).expect("a sound peer");
        offered = (offered + READ).min(stream.len());
        taken += if offered == stream.len() {
            encoder.finish(&stream[taken..], held, wire)
        } else {
            encoder.encode(&stream[taken..offered], held, wire)
        };
    }
}

fn decode(wire: &[u8], image: &mut Image, out: &mut Vec<u8>) -> usize {
    let mut decoder = Decoder::new(hash(), None, WINDOW);
    let (mut taken, mut offered, mut expanded) = (0, 0, 0);
    let mut reply = Vec::new();
    while taken < wire.len() {
        offered = (offered + READ / 16).min(wire.len());
        out.clear();
        taken += decoder.decode(&wire[taken..offered], image, out).expect("a sound peer");
        decoder.written(out.len());
        reply.clear();
        decoder.reply(true, &mut reply);
        expanded += out.len();
    }
    expanded
}

struct Bench {
    bytes: f64,
    rounds: usize,
    raw: Box<dyn FnMut()>,
}

impl Bench {
    fn measure(&mut self, name: &str, mut run: impl FnMut()) {
        let (mut best, mut ratios) = (Duration::MAX, Vec::new());
        for _ in 0..self.rounds {
            let before = time(&mut self.raw);
            let took = time(&mut run);
            let after = time(&mut self.raw);
            best = best.min(took);
            ratios.push((before + after).as_secs_f64() / 2.0 / took.as_secs_f64());
        }
        ratios.sort_by(f64::total_cmp);
        let ratio = ratios[ratios.len() / 2];
        println!("{name:44} {:6.2} GB/s  {ratio:5.2} of the hash", self.bytes / best.as_secs_f64() / 1e9);
    }
}

fn main() {
    let test = std::env::args().any(|argument| argument == "--test");
    let (pages, rounds) = if test { (256, 1) } else { (16384, 7) };
    let memory = memory(pages);
    let stream = stream(&memory);
    let raw = {
        let (memory, hash) = (memory.clone(), hash());
        Box::new(move || memory.iter().for_each(|page| _ = black_box(hash.tag(page))))
    };
    let mut bench = Bench { bytes: (pages * PAGE) as f64, rounds, raw };
    println!("{pages} pages of {PAGE} bytes, {rounds} rounds");
    let tagger = hash();
    bench.measure("hash: Poly1305, within a VM", || memory.iter().for_each(|page| _ = black_box(tagger.tag(page))));
    let shared = SharedHash::new([2; 32]);
    bench.measure("hash: BLAKE3, across VMs", || memory.iter().for_each(|page| _ = black_box(shared.digest(page))));
    let mut copied = vec![0; stream.len()];
    bench.measure("a copy", || black_box(&mut copied).copy_from_slice(black_box(&stream)));
    bench.measure("reader", || {
        let (mut reader, mut at) = (Reader::new(), 0);
        while let Some(step) = reader.step(&stream[at..]) {
            at += step.bytes;
        }
    });
    let mut index = Index::with_capacity(pages);
    for (slot, page) in memory.iter().enumerate() {
        index.insert(tagger.tag(page).fingerprint(), Slot(u32::try_from(slot).expect("few pages")));
    }
    println!("index: {:.1} MiB per GiB of guest", index.memory() as f64 / pages as f64 * 262_144.0 / 1_048_576.0);
    let mut image = Image { index, slots: memory.clone() };
    for percent in [0, 50, 90, 100] {
        let mut held = Held::of_at_most(pages);
        for (at, page) in memory.iter().enumerate() {
            if at * 7919 % 100 < percent {
                held.insert(tagger.tag(page).fingerprint());
            }
        }
        let (mut wire, mut out) = (Vec::with_capacity(stream.len() * 2), Vec::with_capacity(8 << 20));
        bench.measure(&format!("encode, {percent} % references"), || encode(&stream, &mut held, &mut wire));
        let share = wire.len() as f64 / stream.len() as f64 * 100.0;
        bench.measure(&format!("decode, {percent} % references ({share:.1} % of the bytes)"), || {
            assert_eq!(decode(&wire, &mut image, &mut out), stream.len());
        });
    }
}
