//! Files of single tasks (man 5 proc).

/// `/proc/<pid>/schedstat`: nanoseconds that the task ran, and that it was ready and waited for a core
/// (kernel documentation, `scheduler/sched-stats.rst`). All zeros: the kernel does not keep them.
pub(in crate::load) fn schedstat(text: &str) -> Option<(u64, u64)> {
    let mut figures = text.split_ascii_whitespace();
    let (ran, waited) = (figures.next()?.parse().ok()?, figures.next()?.parse().ok()?);
    let slices: u64 = figures.next()?.parse().ok()?;
    ((ran, waited, slices) != (0, 0, 0)).then_some((ran, waited))
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
    fn vcpus_are_known_by_their_threads_names() {
        assert!(is_vcpu("CPU 0/KVM\n") && is_vcpu("CPU 12/TCG") && is_vcpu("ALL CPUs/TCG\n"));
        assert!(!is_vcpu("qemu-kvm\n") && !is_vcpu("IO mon_iothread") && !is_vcpu("CPU/KVM") && !is_vcpu("vnc_worker"));
        assert!(is_qemu("qemu-kvm\n") && is_qemu("qemu-system-x86\n") && !is_qemu("virtqemud\n"));
    }
}
