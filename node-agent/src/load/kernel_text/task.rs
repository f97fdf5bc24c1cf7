//! Files of single tasks (man 5 proc).

use super::proc::Traffic;

/// `/proc/<pid>/schedstat`: nanoseconds that the task ran, and that it was ready and waited for a core
/// (kernel documentation, `scheduler/sched-stats.rst`). All zeros: the kernel does not keep them.
pub(in crate::load) fn schedstat(text: &str) -> Option<(u64, u64)> {
    let mut figures = text.split_ascii_whitespace();
    let (ran, waited) = (figures.next()?.parse().ok()?, figures.next()?.parse().ok()?);
    let slices: u64 = figures.next()?.parse().ok()?;
    ((ran, waited, slices) != (0, 0, 0)).then_some((ran, waited))
}

/// `/proc/<pid>/io`: the bytes that a process had read from and written to disks. Only root may read it of others.
pub(in crate::load) fn io(text: &str) -> Option<Traffic> {
    let figure = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some(Traffic { inward: figure("read_bytes:")?, outward: figure("write_bytes:")? })
}

/// Whether a process of this name (`/proc/<pid>/comm`) is a QEMU: `qemu-kvm`, `qemu-system-x86`.
pub(in crate::load) fn is_qemu(comm: &str) -> bool {
    comm.starts_with("qemu")
}

/// Whether a QEMU thread of this name runs a guest's CPU: `CPU 0/KVM`, and of the emulator `CPU 0/TCG` or
/// `ALL CPUs/TCG`. libvirt has QEMU name its threads so (`-name …,debug-threads=on`).
pub(in crate::load) fn is_vcpu(comm: &str) -> bool {
    let (who, what) = comm.trim_end().split_once('/').unwrap_or((comm, ""));
    matches!(what, "KVM" | "TCG" | "HVF") && (who.starts_with("CPU ") || who == "ALL CPUs")
}

/// Whether a QEMU thread of this name carries a migration: `live_migration`, `multifdsend_0`, `postcopy/fault`, and
/// since QEMU 9.1 `mig/src/main`, `mig/dst/recv_0` and their like.
pub(in crate::load) fn is_migrating(comm: &str) -> bool {
    ["live_migration", "multifd", "postcopy/", "mig/", "return path", "bg_snapshot"]
        .iter()
        .any(|name| comm.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_told_apart_from_kernels_without_them() {
        assert_eq!(schedstat("36964088 28185337 150\n"), Some((36_964_088, 28_185_337)));
        assert_eq!(schedstat("0 0 1\n"), Some((0, 0)));
        for text in ["0 0 0\n", "", "1 2", "1 x 3", "-1 0 1"] {
            assert_eq!(schedstat(text), None, "{text:?}");
        }
    }

    #[test]
    fn migrations_are_known_by_their_threads() {
        for comm in ["live_migration\n", "mig/src/main\n", "mig/dst/recv_1", "multifdrecv_0", "postcopy/fault"] {
            assert!(is_migrating(comm), "{comm}");
        }
        assert!(!is_migrating("CPU 0/KVM\n") && !is_migrating("qemu-kvm\n"));
    }

    #[test]
    fn bytes_of_a_process_are_those_that_reached_a_disk() {
        let text =
            "rchar: 9\nwchar: 9\nsyscr: 9\nsyscw: 9\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n";
        assert_eq!(io(text), Some(Traffic { inward: 4096, outward: 8192 }));
        assert_eq!((io("read_bytes: x\nwrite_bytes: 1\n"), io("")), (None, None));
    }

    #[test]
    fn vcpus_are_known_by_their_threads_names() {
        assert!(is_vcpu("CPU 0/KVM\n") && is_vcpu("CPU 12/TCG") && is_vcpu("ALL CPUs/TCG\n"));
        assert!(!is_vcpu("qemu-kvm\n") && !is_vcpu("IO mon_iothread") && !is_vcpu("CPU/KVM") && !is_vcpu("vnc_worker"));
        assert!(is_qemu("qemu-kvm\n") && is_qemu("qemu-system-x86\n") && !is_qemu("virtqemud\n"));
    }
}
