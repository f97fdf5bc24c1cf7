//! What the program inside a lab guest is made of, apart from being `/init`.
//!
//! * [`channel`]: the lines on the serial port; the lab speaks them too, so both ends are written once.
//! * [`boot`]: what the kernel command line says of the benchmark.
//! * [`benchmark`]: how much work makes which load (Reactive Cloud §4.1.1).
//! * [`memory`]: the working set, every page of which can be checked at any moment.

pub mod benchmark;
pub mod boot;
pub mod channel;
pub mod memory;
