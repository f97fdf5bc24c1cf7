//! Real QEMUs, with both ends of the relay between them: a VM goes from A to B and back, where its pages are held, and
//! once more, where some of them have rotted. Then its memory is compared.
//!
//! ```text
//! cargo test -p miyako-relay --test relay -- [QEMU]
//! ```
//!
//! No virt-handler, no Kubernetes, and no guest to speak of: a firmware of a few bytes that writes a page after the
//! other, beside memory that nobody writes.

mod qemu;
mod wire;

use miyako_relay::PAGE;
use miyako_relay::hash::Tag;
use qemu::Qemu;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The pages that passed, by their hashes.
pub(crate) type Image = HashMap<Tag, [u8; PAGE]>;

struct Mode {
    name: &'static str,
    capabilities: &'static [&'static str],
    post_copy: bool,
    /// Older QEMUs refuse it.
    since: (u32, u32),
}

const POST_COPY: &[&str] = &["postcopy-ram", "postcopy-preempt"];
const BOTH: &[&str] = &["multifd", "postcopy-ram", "postcopy-preempt"];
const MODES: [Mode; 4] = [
    Mode { name: "pre-copy", capabilities: &[], post_copy: false, since: (7, 2) },
    Mode { name: "multifd", capabilities: &["multifd"], post_copy: false, since: (7, 2) },
    Mode { name: "post-copy with preempt", capabilities: POST_COPY, post_copy: true, since: (7, 2) },
    Mode { name: "multifd and post-copy", capabilities: BOTH, post_copy: true, since: (10, 1) },
];

fn main() {
    let program = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let program = program.unwrap_or_else(|| "qemu-system-x86_64".to_owned());
    let folder = std::env::temp_dir().join(format!("relay-hops-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    qemu::write_guest(&folder);
    for mode in MODES {
        let mut source = Qemu::start(&program, &folder, "0", false);
        if source.version() < mode.since {
            println!("test {} ... ignored", mode.name);
            continue;
        }
        let mut held = Arc::new(Image::new());
        for hop in 1..=3_u32 {
            let mut target = Qemu::start(&program, &folder, &hop.to_string(), true);
            let passed = migrate(&mut source, &mut target, &folder, hop, &mode, &held);
            let (counts, mut image) = (passed.counts, passed.image.lock().expect("the image").clone());
            println!("{} hop {hop}: {} bytes as {}, {counts:?}", mode.name, passed.bytes, passed.wire);
            assert!(hop == 1 || counts.references > 1000, "{} hop {hop}: hardly any reference", mode.name);
            assert_eq!(counts.nacks > 0, hop == 3, "{} hop {hop}: {counts:?}", mode.name);
            if hop == 2 {
                image.values_mut().step_by(5).for_each(|page| page[77] ^= 1);
            }
            held = Arc::new(image);
            source = target;
        }
        source.check_pattern(&folder);
        println!("test {} ... ok", mode.name);
    }
    let _ = std::fs::remove_dir_all(&folder);
}

fn migrate(
    source: &mut Qemu,
    target: &mut Qemu,
    folder: &Path,
    hop: u32,
    mode: &Mode,
    held: &Arc<Image>,
) -> wire::Passed {
    let path = |name: &str| folder.join(format!("{name}-{hop}"));
    let capabilities = [&["return-path"], mode.capabilities].concat();
    for end in [&mut *source, &mut *target] {
        end.capabilities(&capabilities);
    }
    let limit = if mode.post_copy { 2 << 20 } else { 1 << 30 };
    let names = ["max-bandwidth", "max-postcopy-bandwidth"];
    names.iter().for_each(|name| drop(source.say("migrate-set-parameters", &format!("\"{name}\": {limit}"))));
    target.say("migrate-incoming", &format!("\"uri\": \"unix:{}\"", path("in").display()));
    let relay = wire::Relay::start(&path("out"), &path("in"), Arc::clone(held));
    source.say("migrate", &format!("\"uri\": \"unix:{}\"", path("out").display()));
    if mode.post_copy {
        source.until("active");
        source.say("migrate-start-postcopy", "");
    }
    source.until("completed");
    target.until("completed");
    relay.end()
}
