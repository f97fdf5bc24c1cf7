//! What a QEMU of the lab is made of.

use crate::child::Program;
use crate::guest::Image;
use miyako_guest::boot::Boot;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The longest path of a unix socket that Linux takes, without the closing zero.
const LONGEST_SOCKET_PATH: usize = 107;

/// The machine type. Source and target need the same, whatever their versions; `pc` because `q35` wakes at once from its
/// second suspend to RAM, without HPET as in KubeVirt's domains.
const MACHINE: &str = "pc-i440fx-7.2,hpet=off";

/// A CPU whose local timer never stops. The default is an AMD that Linux knows to stop its timer when idle.
const CPU: &str = "kvm64";

/// One QEMU. Both ends of a migration need the same `memory_mib`, `vcpus`, `image` and `boot`.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The VM's name, which also appears in the list of processes.
    pub name: String,
    /// The guest's memory in MiB. The kernel and its buffers need some 100 of them.
    pub memory_mib: u32,
    /// Virtual CPUs, each emulated by a thread.
    pub vcpus: u32,
    /// Where its sockets and logs are, an absolute path, the same inside and outside of its namespaces. Made if missing;
    /// never shared by two.
    pub folder: PathBuf,
    /// Kernel and initramfs.
    pub image: Image,
    /// How the benchmark begins.
    pub boot: Boot,
    /// Whether it waits for a migration instead of booting.
    pub incoming: bool,
    /// What is run in front of QEMU to enter namespaces and cgroups, such as a launcher's prefix; it must end by executing
    /// what follows.
    pub prefix: Vec<OsString>,
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
    /// QEMU is started in its folder, where a relative path would lead elsewhere.
    #[error("the folder {} of {name} is not an absolute path", folder.display())]
    RelativeFolder {
        /// The VM.
        name: String,
        /// Its folder.
        folder: PathBuf,
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

    /// The program to start.
    ///
    /// # Errors
    /// When QEMU or the guest could not work with this.
    pub fn program(&self) -> Result<Program, BadSpec> {
        if !self.folder.is_absolute() {
            return Err(BadSpec::RelativeFolder { name: self.name.clone(), folder: self.folder.clone() });
        }
        for path in [self.qmp_socket(), self.guest_socket()] {
            check_socket(&path)?;
        }
        let (pages, memory_mib) = (self.boot.pages, self.memory_mib);
        if u64::from(pages) / 256 + u64::from(KERNEL_MIB) > u64::from(memory_mib) + 1 {
            return Err(BadSpec::LittleMemory { memory_mib, pages, needed: KERNEL_MIB });
        }
        let kernel_arguments = format!("{KERNEL_ARGUMENTS} {}", self.boot.line());
        let arguments: &[&OsStr] = &[
            "-name".as_ref(),
            self.name.as_ref(),
            "-machine".as_ref(),
            MACHINE.as_ref(),
            "-cpu".as_ref(),
            CPU.as_ref(),
            // KVM is rarely usable inside another machine. A translation buffer of 64 MiB holds this guest's code many
            // times.
            "-accel".as_ref(),
            "tcg,thread=multi,tb-size=64".as_ref(),
            "-m".as_ref(),
            &OsString::from(memory_mib.to_string()),
            "-smp".as_ref(),
            &OsString::from(self.vcpus.to_string()),
            "-nodefaults".as_ref(),
            "-nographic".as_ref(),
            "-no-user-config".as_ref(),
            // A guest that breaks reboots (panic=-1), which ends QEMU.
            "-no-reboot".as_ref(),
            // The kernel's console is the first serial port, the guest's channel the second.
            "-chardev".as_ref(),
            &file("console", &self.console()),
            "-serial".as_ref(),
            "chardev:console".as_ref(),
            "-chardev".as_ref(),
            &socket("guest", &self.guest_socket()),
            "-serial".as_ref(),
            "chardev:guest".as_ref(),
            "-chardev".as_ref(),
            &socket("qmp", &self.qmp_socket()),
            "-mon".as_ref(),
            "chardev=qmp,mode=control".as_ref(),
            "-kernel".as_ref(),
            self.image.kernel.as_ref(),
            "-initrd".as_ref(),
            self.image.initramfs.as_ref(),
            "-append".as_ref(),
            kernel_arguments.as_ref(),
        ];
        // A target runs when it is told to: by then the source can't run on any more.
        let incoming: &[&str] = if self.incoming { &["-incoming", "defer", "-S"] } else { &[] };
        let program = arguments.iter().fold(Program::new("qemu", "qemu-system-x86_64"), Program::arg);
        Ok(incoming.iter().fold(program, Program::arg).behind(self.prefix.iter().cloned()))
    }
}

/// What Linux needs beside the working set: itself, page tables, buffers, and the initramfs while it is unpacked.
const KERNEL_MIB: u32 = 112;

/// `panic=-1`: a broken guest ends at once. `nokaslr` and `mitigations=off` make boots alike and quick. `tsc=unstable`: the
/// clock is the ACPI timer, which QEMU counts exactly; the TSC's rate would be measured at boot, beside other work, and was
/// seen wrong by a factor of seven. `no_timer_check`: on a crowded host the check fails for want of CPU, and the kernel
/// panics.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=unstable no_timer_check";

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

    #[test]
    fn a_target_waits_and_is_otherwise_the_same() {
        let source = spec("/lab/vm0", 65536);
        let expected = ["-incoming", "defer", "-S"].iter().fold(source.program().unwrap(), Program::arg);
        assert_eq!(source.target("/lab/vm0").program().unwrap(), expected);
    }

    #[test]
    fn what_can_not_work_is_refused_with_the_reason() {
        let long = spec(&format!("/{}", "x".repeat(120)), 1).program().unwrap_err().to_string();
        assert!(long.ends_with("choose a shorter folder"), "{long}");
        let relative = spec("lab/vm0", 1).program().unwrap_err().to_string();
        assert_eq!(relative, "the folder lab/vm0 of vm0 is not an absolute path");
        let mut little = spec("/lab/vm0", 65536);
        little.memory_mib = 256;
        assert!(matches!(little.program(), Err(BadSpec::LittleMemory { .. })));
    }

    #[test]
    fn a_comma_in_a_path_stays_in_the_path() {
        let option = socket("qmp", Path::new("/lab/a,b/qmp.sock"));
        assert_eq!(option, "socket,id=qmp,path=/lab/a,,b/qmp.sock,server=on,wait=off");
    }
}
