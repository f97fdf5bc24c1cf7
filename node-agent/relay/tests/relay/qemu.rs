//! A QEMU with a guest of its own, and as much QMP as it takes.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATTERN_AT: usize = 2 << 20;
const PATTERN_PAGES: usize = 1400;

fn pattern() -> Vec<u8> {
    let page = |number: usize| format!("page {number:06} of the pattern. ").into_bytes().into_iter().cycle().take(4096);
    (0..PATTERN_PAGES).flat_map(page).collect()
}

/// The firmware that increments the first byte of each page from 64 KiB to 576 KiB, over and over; and the pattern.
pub(crate) fn write_guest(folder: &Path) {
    let mut firmware = vec![0; 65536];
    let code = b"\xb8\x00\x10\x8e\xd8\xfe\x06\x00\x00\x05\x00\x01\x3d\x00\x90\x72\xf2\xeb\xed";
    firmware[..code.len()].copy_from_slice(code);
    firmware[0xfff0..0xfff5].copy_from_slice(b"\xea\x00\x00\x00\xf0");
    std::fs::write(folder.join("firmware"), firmware).expect("the firmware");
    std::fs::write(folder.join("pattern"), pattern()).expect("the pattern");
}

pub(crate) struct Qemu {
    process: Child,
    qmp: BufReader<UnixStream>,
}

impl Qemu {
    pub(crate) fn start(program: &str, folder: &Path, name: &str, incoming: bool) -> Self {
        let socket = folder.join(format!("qmp-{name}"));
        let _ = std::fs::remove_file(&socket);
        for socket in ["in", "out"] {
            let _ = std::fs::remove_file(folder.join(format!("{socket}-{name}")));
        }
        let mut command = Command::new(program);
        command.args([
            "-machine",
            "pc,hpet=off",
            "-accel",
            "tcg",
            "-m",
            "8",
            "-nodefaults",
            "-display",
            "none",
            "-bios",
        ]);
        command.arg(folder.join("firmware")).arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
        let loader = format!("loader,file={},addr={PATTERN_AT},force-raw=on", folder.join("pattern").display());
        command.args(["-device", &loader]).stdin(Stdio::null());
        if incoming {
            command.args(["-incoming", "defer"]);
        }
        let process = command.spawn().expect("QEMU");
        let qmp = (0..200).find_map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            UnixStream::connect(&socket).ok()
        });
        let mut qemu = Self { process, qmp: BufReader::new(qmp.expect("QMP")) };
        qemu.qmp.read_line(&mut String::new()).expect("a greeting");
        qemu.say("qmp_capabilities", "");
        qemu
    }

    /// Says a command with its arguments as they stand in JSON, and returns what is answered.
    pub(crate) fn say(&mut self, command: &str, arguments: &str) -> String {
        let line = format!("{{\"execute\": \"{command}\", \"arguments\": {{{arguments}}}}}\n");
        self.qmp.get_mut().write_all(line.as_bytes()).expect("QMP");
        loop {
            let mut answer = String::new();
            assert!(self.qmp.read_line(&mut answer).expect("QMP") > 0, "QEMU ended at {command}");
            assert!(!answer.starts_with("{\"error\""), "{command}: {answer}");
            if answer.starts_with("{\"return\"") {
                return answer;
            }
        }
    }

    /// Major and minor.
    pub(crate) fn version(&mut self) -> (u32, u32) {
        let answer = self.say("query-version", "");
        let number = |name: &str| {
            let digits = answer.split(&format!("\"{name}\": ")).nth(1).unwrap_or_default();
            digits.split(|sign: char| !sign.is_ascii_digit()).next().unwrap_or_default().parse().expect("a number")
        };
        (number("major"), number("minor"))
    }

    pub(crate) fn capabilities(&mut self, names: &[&str]) {
        let all = ["return-path", "multifd", "postcopy-ram", "postcopy-preempt"];
        let state = |name: &&str| format!("{{\"capability\": \"{name}\", \"state\": {}}}", names.contains(name));
        let list: Vec<_> = all.iter().map(state).collect();
        self.say("migrate-set-capabilities", &format!("\"capabilities\": [{}]", list.join(", ")));
    }

    pub(crate) fn until(&mut self, status: &str) {
        let wanted = format!("\"status\": \"{status}\"");
        for _ in 0..6000 {
            let answer = self.say("query-migrate", "");
            if answer.contains(&wanted) {
                return;
            }
            assert!(!answer.contains("\"status\": \"failed\""), "{answer}");
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("never {status}");
    }

    /// The memory that nobody writes is what it was before the first hop.
    pub(crate) fn check_pattern(&mut self, folder: &Path) {
        let file = folder.join("memory");
        let (at, size, name) = (PATTERN_AT, PATTERN_PAGES * 4096, file.display());
        self.say("pmemsave", &format!("\"val\": {at}, \"size\": {size}, \"filename\": \"{name}\""));
        assert!(std::fs::read(&file).expect("the memory") == pattern(), "the guest's memory is another");
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
