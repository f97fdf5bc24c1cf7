//! What a QEMU of the lab is made of.

use super::process::mortal;
use crate::guest::Image;
use miyako_guest::boot::Boot;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The longest path of a unix socket that Linux takes, without the closing zero.
const LONGEST_SOCKET_PATH: usize = 107;

/// The machine type. Source and target need the same, whatever their versions; `pc` because `q35` wakes at once from its
/// second suspend to RAM.
const MACHINE: &str = "pc-i440fx-7.2";

/// One QEMU. Both ends of a migration need the same `memory_mib`, `vcpus`, `image` and `boot`.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The VM's name, which also appears in the list of processes.
    pub name: String,
    /// The guest's memory in MiB. The kernel and its buffers need some 100 of them.
    pub memory_mib: u32,
    /// Virtual CPUs, each emulated by a thread.
    pub vcpus: u32,
    /// Where its sockets and logs are. Made if missing; never shared by two.
    pub folder: PathBuf,
    /// Kernel and initramfs.
    pub image: Image,
    /// How the benchmark begins.
    pub boot: Boot,
    /// Whether it waits for a migration instead of booting.
    pub incoming: bool,
    /// What is run in front of QEMU, with its arguments, to enter namespaces and cgroups (`ip netns exec …`). It must end
    /// in executing what follows, or be its parent.
    pub prefix: Vec<OsString>,
    /// Environment variables. Nothing of our own environment is passed on but `PATH`.
    pub environment: Vec<(OsString, OsString)>,
}

/// A spec that QEMU could not be started from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSpec {
    /// Linux would refuse the socket with words that do not say which.
    #[error("the path of the socket {} is longer than {LONGEST_SOCKET_PATH} bytes: choose a shorter folder", path.display())]
    LongSocketPath {
        /// Which.
        path: PathBuf,
    },
    /// The kernel would kill the benchmark while it fills its memory.
    #[error(
        "a working set of {pages} pages does not fit into {memory_mib} MiB beside the {needed} that the kernel needs"
    )]
    LittleMemory {
        /// The guest's memory.
        memory_mib: u32,
        /// The working set.
        pages: u32,
        /// What Linux takes for itself, in MiB.
        needed: u32,
    },
}

impl Spec {
    /// A VM of one virtual CPU that boots a benchmark, with room for its working set and the kernel.
    pub fn new(name: impl Into<String>, folder: impl Into<PathBuf>, image: Image, boot: Boot) -> Self {
        Self {
            name: name.into(),
            memory_mib: boot.pages.div_ceil(256) + KERNEL_MIB,
            vcpus: 1,
            folder: folder.into(),
            image,
            boot,
            incoming: false,
            prefix: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// The same VM as the target of a migration, with a folder of its own.
    #[must_use]
    pub fn target(&self, folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), incoming: true, ..self.clone() }
    }

    /// QMP, for the lab's own use.
    #[must_use]
    pub fn qmp_socket(&self) -> PathBuf {
        self.folder.join("qmp.sock")
    }

    /// The guest's channel.
    #[must_use]
    pub fn guest_socket(&self) -> PathBuf {
        self.folder.join("guest.sock")
    }

    /// What the guest's kernel prints.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// What QEMU itself prints.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("qemu.log")
    }

    /// The command that starts it. It dies with the thread that does so.
    ///
    /// # Errors
    /// When QEMU or the guest could not work with this.
    pub fn command(&self) -> Result<Command, BadSpec> {
        for path in [self.qmp_socket(), self.guest_socket()] {
            check_socket(&path)?;
        }
        let (pages, memory_mib) = (self.boot.pages, self.memory_mib);
        if u64::from(pages) / 256 + u64::from(KERNEL_MIB) > u64::from(memory_mib) + 1 {
            return Err(BadSpec::LittleMemory { memory_mib, pages, needed: KERNEL_MIB });
        }
        let mut command = mortal(&self.prefix, "qemu-system-x86_64");
        command.args(["-name", &self.name]);
        // KVM is rarely usable inside another machine. A translation buffer of 64 MiB holds this guest's code many times.
        command.args(["-machine", MACHINE, "-accel", "tcg,thread=multi,tb-size=64"]);
        command.args(["-m", &memory_mib.to_string(), "-smp", &self.vcpus.to_string()]);
        command.args(["-nodefaults", "-nographic", "-no-user-config"]);
        // A guest that breaks reboots (panic=-1), which ends QEMU.
        command.arg("-no-reboot");
        command.arg("-chardev").arg(file("console", &self.console()));
        command.arg("-chardev").arg(socket("guest", &self.guest_socket()));
        command.arg("-chardev").arg(socket("qmp", &self.qmp_socket()));
        // The kernel's console is the first serial port, the guest's channel the second.
        command.args(["-serial", "chardev:console", "-serial", "chardev:guest", "-mon", "chardev=qmp,mode=control"]);
        command.arg("-kernel").arg(&self.image.kernel).arg("-initrd").arg(&self.image.initramfs);
        command.args(["-append", &format!("{KERNEL_ARGUMENTS} {}", self.boot.line())]);
        if self.incoming {
            // It runs when it is told to: by then the source can't run on any more.
            command.args(["-incoming", "defer", "-S"]);
        }
        command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        Ok(command)
    }
}

/// What Linux needs beside the working set: itself, page tables, buffers, and the initramfs while it is unpacked.
const KERNEL_MIB: u32 = 112;

/// `panic=-1`: a broken guest ends at once. `nokaslr` and `mitigations=off` make boots alike and quick.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off";

/// Refuses a path that a unix socket can't have.
pub(crate) fn check_socket(path: &Path) -> Result<(), BadSpec> {
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        return Err(BadSpec::LongSocketPath { path: path.to_owned() });
    }
    Ok(())
}

fn file(id: &str, path: &Path) -> OsString {
    option(&format!("file,id={id},path="), path, "")
}

fn socket(id: &str, path: &Path) -> OsString {
    option(&format!("socket,id={id},path="), path, ",server=on,wait=off")
}

/// An option that holds a path. A comma would end it, so QEMU wants it doubled.
fn option(before: &str, path: &Path, after: &str) -> OsString {
    let mut option = OsString::from(before);
    option.push(path.to_string_lossy().replace(',', ",,"));
    option.push(after);
    option
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(folder: &str, pages: u32) -> Spec {
        let image = Image { kernel: "/boot/kernel".into(), initramfs: "/boot/initramfs".into() };
        Spec::new("vm0", folder, image, Boot { pages, ..Boot::default() })
    }

    fn arguments(spec: &Spec) -> Vec<String> {
        let command = spec.command().unwrap();
        command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_target_waits_and_is_otherwise_the_same() {
        let source = spec("/lab/vm0", 65536);
        let target = source.target("/lab/vm0");
        let mut expected = arguments(&source);
        expected.extend(["-incoming", "defer", "-S"].map(str::to_owned));
        assert_eq!(arguments(&target), expected);
    }

    #[test]
    fn the_program_dies_with_us_before_and_behind_a_prefix() {
        let plain = arguments(&spec("/lab/vm0", 1));
        assert_eq!(plain[..4], ["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
        let mut inside = spec("/lab/vm0", 1);
        inside.prefix = ["ip", "netns", "exec", "node-a"].map(OsString::from).to_vec();
        let expected = "--pdeathsig KILL -- ip netns exec node-a setpriv --pdeathsig KILL -- qemu-system-x86_64";
        assert!(arguments(&inside).join(" ").starts_with(expected));
    }

    #[test]
    fn what_can_not_work_is_refused_with_the_reason() {
        let long = spec(&format!("/{}", "x".repeat(120)), 1).command().unwrap_err().to_string();
        assert!(long.ends_with("choose a shorter folder"), "{long}");
        let mut little = spec("/lab/vm0", 65536);
        little.memory_mib = 256;
        assert!(matches!(little.command(), Err(BadSpec::LittleMemory { .. })));
    }

    #[test]
    fn a_comma_in_a_path_stays_in_the_path() {
        let arguments = arguments(&spec("/lab/a,b", 1));
        assert!(
            arguments.contains(&"socket,id=qmp,path=/lab/a,,b/qmp.sock,server=on,wait=off".to_owned()),
            "{arguments:?}"
        );
    }
}
