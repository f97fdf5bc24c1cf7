//! Streams that are made up: what no QEMU at hand sends, and what none would.

use super::read;
use crate::PAGE;
use crate::stream::{Channel, Reader, Reason, Span, Step};

/// A stream, put together piece by piece.
#[derive(Default, Clone)]
struct Made(Vec<u8>);

impl Made {
    /// The front of a main channel, up to and with the list of blocks.
    fn main() -> Self {
        Self::default().bytes(b"QEVM\0\0\0\x03").start(2, "ram").blocks(&[("pc.ram", 1 << 20), ("vga", 1 << 16)])
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn word(self, word: u64) -> Self {
        self.bytes(&word.to_be_bytes())
    }

    fn name(self, name: &str) -> Self {
        let length = u8::try_from(name.len()).unwrap();
        self.bytes(&[length]).bytes(name.as_bytes())
    }

    fn start(self, id: u32, name: &str) -> Self {
        self.bytes(&[1]).bytes(&id.to_be_bytes()).name(name).bytes(&[0, 0, 0, 0, 0, 0, 0, 4])
    }

    fn blocks(mut self, blocks: &[(&str, u64)]) -> Self {
        self = self.word(blocks.iter().map(|(_, length)| length).sum::<u64>() | 0x04);
        for (name, length) in blocks {
            self = self.name(name).word(*length);
        }
        self
    }

    fn page(self, offset: u64) -> Self {
        self.word(offset | 0x08).name("pc.ram").bytes(&[7; PAGE])
    }

    fn packet(self, flags: u32, pages: &[u64], zeros: &[u64]) -> Self {
        let count = |list: &[u64]| u32::try_from(list.len()).unwrap().to_be_bytes();
        let begin = self.0.len();
        let mut made =
            self.bytes(&[0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1]).bytes(&flags.to_be_bytes()).bytes(&128_u32.to_be_bytes());
        // The size is a lie, as QEMU 7.2 tells it.
        made = made.bytes(&count(pages)).bytes(&[0, 8, 0, 0]).word(77).bytes(&count(zeros)).bytes(&[0; 28]);
        let mut name = [0; 256];
        name[..6].copy_from_slice(b"pc.ram");
        made = made.bytes(&name);
        for offset in pages.iter().chain(zeros) {
            made = made.word(*offset);
        }
        made.0.resize(begin + 1344, 0);
        pages.iter().fold(made, |made, _| made.bytes(&[9; PAGE]))
    }

    fn multifd() -> Self {
        Self::default().bytes(&[0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1]).bytes(&[0; 56])
    }

    fn read(&self) -> (Reader, Vec<Step>) {
        let mut reader = Reader::new();
        let steps = read(&mut reader, &self.0, &[1000]);
        (reader, steps)
    }

    /// The reason for which the reader gave up before the end.
    fn reason(&self) -> Reason {
        self.read().0.opaque().unwrap()
    }

    fn pages(&self) -> usize {
        self.read().1.iter().filter(|step| matches!(step.span, Span::Page(_))).count()
    }
}

#[test]
fn records_of_all_kinds() {
    let made = Made::main().page(0x3000).word(0x4000 | 0x22).bytes(&[0]).word(0x5000 | 0x22).bytes(&[1]);
    let made = made
        .word(0x6000 | 0x60)
        .bytes(&[1, 0, 3, 1, 2, 3])
        .word(0x200)
        .word(0x7000 | 0x28)
        .bytes(&[8; PAGE])
        .word(0x10);
    let (reader, steps) = made.read();
    let kinds = |step: &Step| match step.span {
        Span::Control => None,
        Span::Page(place) => Some(("page", place.offset, step.bytes)),
        Span::Zero(place) => Some(("zero", place.offset, step.bytes)),
        Span::Changed(place) => Some(("changed", place.offset, step.bytes)),
        Span::Opaque => Some(("opaque", 0, step.bytes)),
    };
    let expected = [
        ("page", 0x3000, PAGE),
        ("zero", 0x4000, 1),
        ("changed", 0x5000, 1),
        ("changed", 0x6000, 3),
        ("page", 0x7000, PAGE),
    ];
    assert_eq!(steps.iter().filter_map(kinds).collect::<Vec<_>>(), expected);
    assert_eq!(reader.memory(), (1 << 20) + (1 << 16));
}

/// A section ends and the next one goes on in the same block.
#[test]
fn a_block_outlives_its_section() {
    let made =
        Made::main().page(0).word(0x10).bytes(&[0x7e, 0, 0, 0, 2, 2, 0, 0, 0, 2]).word(0x1000 | 0x28).bytes(&[1; PAGE]);
    assert_eq!(made.pages(), 2);
}

/// Post-copy with huge pages: blocks of another page size than the largest say so, in the middle of the list and at its
/// end. `Made::main` has none, and its first record is no page size.
#[test]
fn page_sizes_in_the_list_of_blocks() {
    let front = Made::default().bytes(b"QEVM\0\0\0\x03").start(2, "ram");
    let made = front.word((3 << 20) | 0x04).name("pc.ram").word(1 << 20).name("a").word(1 << 20).word(4096);
    let made =
        made.name("b").word(1 << 20).word(4096).word(0x10).bytes(&[0x7e, 0, 0, 0, 2]).bytes(&[2, 0, 0, 0, 2]).page(0);
    assert_eq!((made.pages(), made.reason()), (1, Reason::Over));
}

#[test]
fn what_no_pages_follow_is_opaque_from_there() {
    let main = Made::main;
    let ended = || main().word(0x10).bytes(&[0x7e, 0, 0, 0, 2]);
    let configured = |name: &str, data: &[u8]| {
        let front = Made::default().bytes(b"QEVM\0\0\0\x03").bytes(&[7, 0, 0, 0, 2, b'p', b'c', 5]).name(name);
        front.bytes(&[0, 0, 0, 1]).bytes(data).start(2, "ram").blocks(&[("pc.ram", 1 << 20)]).page(0)
    };
    let cases = [
        ("a text", Made::default().bytes(b"HTTP/1.1 200 OK"), Reason::Start),
        ("another text", Made::default().bytes(b"QUIT and more"), Reason::Start),
        ("another version", Made::default().bytes(b"QEVM\0\0\0\x04").page(0), Reason::Configuration),
        ("an unknown subsection", configured("configuration/new", &[0; 4]), Reason::Configuration),
        ("pages of 16 KiB", configured("configuration/target-page-bits", &[0, 0, 0, 14]), Reason::PageSize),
        (
            "shared memory",
            configured("configuration/capabilities", b"\0\0\0\x01\x0fx-ignore-shared"),
            Reason::SharedMemory,
        ),
        ("a section of a new type", ended().bytes(&[9, 0, 0, 0, 0]), Reason::Section),
        (
            "RAM of another version",
            Made::default().bytes(b"QEVM\0\0\0\x03").bytes(b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x05"),
            Reason::Section,
        ),
        ("a live VFIO device", Made::main().word(0x10).start(9, "vfio"), Reason::LiveSection),
        ("a part of something else", ended().bytes(&[2, 0, 0, 0, 3]).page(0), Reason::LiveSection),
        ("COLO", ended().bytes(&[8, 0, 8, 0, 0]), Reason::Command),
        ("a page compressed", main().word(0x1000 | 0x100).name("pc.ram"), Reason::Record),
        ("an RDMA hook", main().word(0x80), Reason::Record),
        ("no flags", main().page(0).word(0x1000), Reason::Record),
        ("a block to go on with where there is none", main().word(0x1000 | 0x28), Reason::Record),
        ("a delta longer than a page", main().word(0x1000 | 0x40).name("pc.ram").bytes(&[1, 0x10, 1]), Reason::Record),
        ("a page behind its block", main().page(1 << 20), Reason::Place),
        ("a block without a name", main().word(0x1000 | 0x08).name("").bytes(&[0; PAGE]), Reason::Blocks),
        (
            "blocks longer than their sum",
            Made::default().bytes(b"QEVM\0\0\0\x03").start(2, "ram").word(0x1004).name("a").word(0x2000),
            Reason::Blocks,
        ),
        (
            "half a page",
            Made::default().bytes(b"QEVM\0\0\0\x03").start(2, "ram").blocks(&[("a", 2048), ("b", 2048)]),
            Reason::Blocks,
        ),
        ("multifd with zstd", Made::multifd().packet(2 << 1, &[0], &[]), Reason::PacketFlags),
        ("multifd with a device's state", Made::multifd().packet(0x40, &[], &[]), Reason::PacketFlags),
        (
            "multifd of another version",
            Made::default().bytes(&[0x11, 0x22, 0x33, 0x44, 0, 0, 0, 2]).bytes(&[0; 56]),
            Reason::Start,
        ),
        ("multifd out of step", Made::multifd().bytes(&[0; 1344]), Reason::Packet),
        ("multifd at an odd place", Made::multifd().packet(0, &[0x1000, 0x1001], &[]), Reason::Place),
    ];
    for (name, made, reason) in cases {
        assert_eq!(made.clone().reason(), reason, "{name}");
        // And it stays so, whatever comes behind it.
        let pages = made.pages();
        assert_eq!(made.page(0).packet(0, &[0], &[]).page(0).pages(), pages, "{name}");
    }
}

/// Memory that may grow has its layout before the pages. One that makes no sense is a device like any other.
#[test]
fn hotplugged_memory_stands_before_the_pages() {
    let layout = |version: u8, length: u64, block: u64| {
        let made =
            Made::main().word(0x10).bytes(&[0x7e, 0, 0, 0, 2, 4, 0, 0, 0, 9]).name("0000:02/virtio-mem-device-early");
        let made = made.bytes(&[0, 0, 0, 0, 0, 0, 0, version]).word(1 << 32).word(length).word(block).bytes(&[0; 12]);
        made.bytes(&[0xff; 16]).bytes(&[0x7e, 0, 0, 0, 9]).bytes(&[2, 0, 0, 0, 2]).page(0)
    };
    assert_eq!((layout(1, 100 << 20, 1 << 20).pages(), layout(1, 100 << 20, 1 << 20).reason()), (1, Reason::Over));
    assert_eq!(layout(1, 100 << 20, 0).reason(), Reason::Section);
    assert_eq!(layout(1, u64::MAX, 1).reason(), Reason::Section);
    assert_eq!(layout(2, 100 << 20, 1 << 20).reason(), Reason::Devices);
}

#[test]
fn more_blocks_than_any_guest_has_do_not_fill_our_memory() {
    let mut made = Made::default().word(0x08).name("first").bytes(&[0; PAGE]);
    for block in 0..2000 {
        made = made.word(0x02).name(&format!("block {block}")).bytes(&[0]);
    }
    assert_eq!(made.reason(), Reason::Blocks);
}

#[test]
fn packets() {
    let made = Made::multifd()
        .packet(0, &[0x1000, 0x9000], &[0x5000])
        .packet(1, &[], &[])
        .packet(1, &[], &[0x2000])
        .packet(0, &[0], &[]);
    let (reader, steps) = made.read();
    let spans: Vec<_> =
        steps.iter().filter(|step| step.span != Span::Control).map(|step| (step.bytes, step.span)).collect();
    let offset = |span: &Span| match span {
        Span::Page(place) | Span::Zero(place) => place.offset,
        other => panic!("{other:?}"),
    };
    let found: Vec<_> = spans.iter().map(|(bytes, span)| (*bytes, offset(span))).collect();
    assert_eq!(found, [(8, 0x5000), (PAGE, 0x1000), (PAGE, 0x9000), (8, 0x2000), (PAGE, 0)]);
    assert_eq!((reader.channel(), reader.packet()), (Channel::Multifd, Some(77)));
}

#[test]
fn more_pages_than_a_packet_has_room_for() {
    let mut made = Made::multifd().packet(0, &[0; 100], &[0; 28]);
    assert_eq!(made.pages(), 100);
    made.0[64 + 32 + 3] = 29;
    assert_eq!(made.reason(), Reason::Packet);
    made.0[64 + 32] = 1;
    assert_eq!(made.reason(), Reason::Packet);
}
