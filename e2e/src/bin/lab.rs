//! Runs scenarios in the QEMU lab.
fn main() {}
