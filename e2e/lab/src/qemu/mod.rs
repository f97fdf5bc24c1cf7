//! Stock QEMU processes and QMP.
