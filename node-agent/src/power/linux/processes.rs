//! VMs, as the processes that they are.

use super::files::Files;
use crate::power::{host::HostError, preflight::Process};

/// The processes of QEMU among all of the host. A pod sees them only with the host's process namespace.
pub(super) fn of_qemu(files: &Files) -> Result<Vec<Process>, HostError> {
    let folder = files.path("proc");
    let entries = std::fs::read_dir(&folder).map_err(|source| HostError::Read { path: folder, source })?;
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ends meanwhile is none.
        let Ok(command) = std::fs::read(entry.path().join("cmdline")) else { continue };
        if let Some(program) = qemu_of(&command) {
            found.push(Process { pid, program });
        }
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

/// The name of the program when it runs a VM. Not `qemu-ga`, `qemu-img` and `qemu-nbd`; a kernel thread, such as
/// `kvm-nx-lpage-recovery`, has no command line.
fn qemu_of(command: &[u8]) -> Option<String> {
    let program = command.split(|byte| *byte == 0).next().filter(|program| !program.is_empty())?;
    let program = String::from_utf8_lossy(program);
    let name = program.rsplit('/').next().unwrap_or(&program);
    (name.starts_with("qemu-system") || name == "qemu-kvm" || name == "kvm").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::qemu_of;
    use proptest::prelude::*;

    #[test]
    fn only_programs_that_run_a_vm_count() {
        let name = |command: &str| qemu_of(command.as_bytes());
        assert_eq!(name("/usr/libexec/qemu-kvm\0-name\0guest=a\0").as_deref(), Some("qemu-kvm"));
        assert_eq!(name("qemu-system-x86_64\0-m\x00512\0").as_deref(), Some("qemu-system-x86_64"));
        assert_eq!(name("/usr/bin/kvm\0").as_deref(), Some("kvm"));
        for other in ["", "/usr/bin/qemu-ga\0", "qemu-nbd\0", "/bin/sh\0/usr/libexec/qemu-kvm\0", "virt-launcher\0"] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_command_line_is_read(command: Vec<u8>) {
            qemu_of(&command);
        }
    }
}
