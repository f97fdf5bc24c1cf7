//! The relays and the connection between them, as simple as it can be: a few threads for each connection.

use crate::Image;
use miyako_relay::PAGE;
use miyako_relay::decoder::{Decoder, Pages};
use miyako_relay::encoder::{Counts, Encoder, Knowledge, Passed as What};
use miyako_relay::hash::{Fingerprint, PageHash, Tag, VmKey};
use miyako_relay::index::Held;
use miyako_relay::stream::Place;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

const WINDOW: u32 = 1 << 20;
const READ: usize = 64 << 10;

fn hash() -> PageHash {
    PageHash::new(&VmKey::new([1; 32]))
}

/// What has passed in a migration.
#[derive(Default)]
pub(crate) struct Passed {
    pub(crate) bytes: u64,
    pub(crate) wire: u64,
    pub(crate) counts: Counts,
    pub(crate) image: Arc<Mutex<Image>>,
    /// Connections whose QEMU has not closed.
    open: u32,
}

struct Source {
    held: Held,
    image: Arc<Mutex<Image>>,
    /// What left for the target, in bytes.
    sent: u64,
}

impl Knowledge for Source {
    fn holds(&self, fingerprint: Fingerprint) -> bool {
        self.held.contains(fingerprint)
    }

    fn learn(&mut self, fingerprint: Fingerprint) {
        self.held.insert(fingerprint);
    }

    fn forget(&mut self, fingerprint: Fingerprint) {
        self.held.remove(fingerprint);
    }

    fn passes(&mut self, _place: Place, _number: Option<u64>, what: What<'_>) {
        if let What::Page(page, Some(tag)) = what {
            self.image.lock().expect("the image").insert(tag, *page);
        }
    }
}

struct Target(Arc<Image>);

impl Pages for Target {
    fn page(&mut self, tag: Tag) -> Option<&[u8; PAGE]> {
        self.0.get(&tag)
    }
}

pub(crate) struct Relay {
    passed: Arc<Mutex<Passed>>,
    listener: UnixListener,
}

impl Relay {
    /// Listens where the source's QEMU connects, and dials the target's for each connection.
    pub(crate) fn start(listen: &Path, target: &Path, held: Arc<Image>) -> Self {
        let listener = UnixListener::bind(listen).expect("a socket");
        let (accepting, passed) = (listener.try_clone().expect("a socket"), Arc::new(Mutex::new(Passed::default())));
        let (target, all) = (target.to_owned(), Arc::clone(&passed));
        thread::spawn(move || {
            while let Ok((qemu, _)) = accepting.accept() {
                connection(&qemu, &target, &held, &all);
                // QEMU 10.0 takes the first connection for the main one.
                thread::sleep(Duration::from_millis(50));
            }
        });
        Self { passed, listener }
    }

    pub(crate) fn end(self) -> Passed {
        // The target is complete; the source is about to close.
        let open = || self.passed.lock().expect("the sums").open > 0;
        (0..3000).take_while(|_| open()).for_each(|_| thread::sleep(Duration::from_millis(10)));
        assert!(!open(), "the source does not close");
        drop(self.listener);
        std::mem::take(&mut self.passed.lock().expect("the sums"))
    }
}

fn connection(qemu: &UnixStream, target: &PathBuf, held: &Arc<Image>, passed: &Arc<Mutex<Passed>>) {
    let dial = || UnixStream::connect(target).inspect_err(|_| thread::sleep(Duration::from_millis(10))).ok();
    let to_qemu = (0..500).find_map(|_| dial()).expect("the target's QEMU");
    let (near, far) = UnixStream::pair().expect("a pair");
    let clone = |socket: &UnixStream| socket.try_clone().expect("a socket");
    let image = {
        let mut passed = passed.lock().expect("the sums");
        passed.open += 1;
        Arc::clone(&passed.image)
    };
    let source = Arc::new((
        Mutex::new((Encoder::new(hash(), None), Source { held: Held::of_at_most(1 << 20), image, sent: 0 })),
        Condvar::new(),
    ));
    let decoder = Arc::new(Mutex::new(Decoder::new(hash(), None, WINDOW)));
    let (forward, all) = (Arc::clone(&source), Arc::clone(passed));
    let (from, to) = (clone(qemu), clone(&near));
    thread::spawn(move || send(from, to, &forward, &all));
    let (from, to) = (clone(&near), clone(qemu));
    thread::spawn(move || receive(near, from, to, &source));
    let (held, answering) = (Arc::clone(held), Arc::clone(&decoder));
    let (from, to, back) = (clone(&far), clone(&to_qemu), clone(&far));
    thread::spawn(move || deliver(from, to, back, Target(held), &answering));
    thread::spawn(move || give_back(to_qemu, far, &decoder));
}

type Shared = (Mutex<(Encoder, Source)>, Condvar);

/// QEMU's stream into frames.
fn send(mut qemu: UnixStream, mut wire: UnixStream, shared: &Shared, passed: &Mutex<Passed>) {
    let (mut input, mut open) = (Vec::new(), true);
    let mut chunk = vec![0; READ];
    loop {
        if open {
            let read = qemu.read(&mut chunk).unwrap_or(0);
            open = read > 0;
            input.extend_from_slice(&chunk[..read]);
        }
        loop {
            let mut out = Vec::new();
            let mut state = shared.0.lock().expect("the encoder");
            let (encoder, source) = &mut *state;
            let taken =
                if open { encoder.encode(&input, source, &mut out) } else { encoder.finish(&input, source, &mut out) };
            input.drain(..taken);
            source.sent += out.len() as u64;
            // Written under the lock, so that an answer of `receive` comes behind it.
            let written = wire.write_all(&out);
            if input.len() < miyako_relay::stream::Reader::MOST && (open || input.is_empty()) {
                break;
            }
            if written.is_err() || (taken == 0 && out.is_empty() && shared_wait(shared, state)) {
                return;
            }
        }
        if !open {
            let state = shared.0.lock().expect("the encoder");
            let mut passed = passed.lock().expect("the sums");
            let counts = state.0.counts();
            passed.open -= 1;
            passed.bytes += state.0.position();
            passed.wire += state.1.sent;
            passed.counts.pages += counts.pages;
            passed.counts.zeros += counts.zeros;
            passed.counts.references += counts.references;
            passed.counts.nacks += counts.nacks;
            return;
        }
    }
}

/// Waits for an acknowledgement; true if none came for too long.
fn shared_wait(shared: &Shared, state: std::sync::MutexGuard<'_, (Encoder, Source)>) -> bool {
    shared.1.wait_timeout(state, Duration::from_secs(10)).expect("the encoder").1.timed_out()
}

/// What comes back: QEMU's return path, and what the other relay says.
fn receive(mut near: UnixStream, mut from: UnixStream, mut qemu: UnixStream, shared: &Shared) {
    let (mut wire, mut chunk) = (Vec::new(), vec![0; READ]);
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        wire.extend_from_slice(&chunk[..read]);
        let (mut to_qemu, mut out) = (Vec::new(), Vec::new());
        let mut state = shared.0.lock().expect("the encoder");
        let (encoder, source) = &mut *state;
        let used = encoder.receive(&wire, source, &mut to_qemu).expect("a sound target");
        wire.drain(..used);
        if encoder.owes() {
            encoder.encode(&[], source, &mut out);
            source.sent += out.len() as u64;
        }
        let _ = near.write_all(&out);
        drop(state);
        shared.1.notify_all();
        let _ = qemu.write_all(&to_qemu);
    }
}

/// Frames into QEMU's stream.
fn deliver(
    mut from: UnixStream,
    mut qemu: UnixStream,
    mut back: UnixStream,
    mut pages: Target,
    shared: &Mutex<Decoder>,
) {
    let (mut wire, mut chunk) = (Vec::new(), vec![0; READ]);
    let mut hello = Vec::new();
    {
        let mut decoder = shared.lock().expect("the decoder");
        decoder.reply(true, &mut hello);
        decoder.announce(pages.0.keys().map(|tag| tag.fingerprint()), &mut hello);
        let _ = back.write_all(&hello);
    }
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        wire.extend_from_slice(&chunk[..read]);
        let mut out = Vec::new();
        let used = shared.lock().expect("the decoder").decode(&wire, &mut pages, &mut out).expect("a sound source");
        wire.drain(..used);
        let _ = qemu.write_all(&out);
        let mut reply = Vec::new();
        let mut decoder = shared.lock().expect("the decoder");
        decoder.written(out.len());
        decoder.reply(true, &mut reply);
        let _ = back.write_all(&reply);
        if decoder.is_over() {
            let _ = qemu.shutdown(Shutdown::Write);
        }
    }
}

/// QEMU's return path into frames.
fn give_back(mut qemu: UnixStream, mut back: UnixStream, shared: &Mutex<Decoder>) {
    let mut chunk = vec![0; READ];
    while let Ok(read @ 1..) = qemu.read(&mut chunk) {
        let mut out = Vec::new();
        let decoder = &mut *shared.lock().expect("the decoder");
        decoder.give_back(&chunk[..read], &mut out);
        let _ = back.write_all(&out);
    }
}
