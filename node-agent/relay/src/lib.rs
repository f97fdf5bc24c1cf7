//! The heart of memory reuse: what is said and decided when a VM migrates to a node that still holds its pages.
//!
//! Two *relays* stand in the path of a migration, one beside the source's QEMU and one beside the target's. Stock QEMU
//! does not know of them. The source's relay takes the stream apart, and where the target holds a page already, it
//! sends a reference in its place; the target's relay puts the page back. What reaches the target's QEMU is the
//! source's stream, byte for byte.
//!
//! ```text
//!  source QEMU ──▶ stream ──▶ encoder ═══ frames ═══▶ decoder ──▶ target QEMU
//!                  (spans)    retains                  verifies
//!                             until ◀═ acknowledged ═  (index, image)
//! ```
//!
//! - [`stream`] reads what QEMU writes, and says of each byte whether it belongs to a page.
//! - [`hash`] gives pages their names, and [`index`] knows what is held by these names.
//! - [`image`] is how what is kept lies in a file.
//! - [`frame`] is what the relays say to each other, inside the connection that KubeVirt carries and encrypts.
//! - [`encoder`] and [`decoder`] are the two ends of one connection.
//! - [`aside`] decides when a migration is better off without references, and [`pace`] how fast QEMU may believe its
//!   network to be.
//!
//! Nothing here has a socket, a file, a clock or a random number: all of it is values and state machines over slices,
//! so that any order of events can be tested. Three rules hold everywhere:
//!
//! - **Total.** No input panics, loops for ever, or takes more memory than is written down.
//! - **Only ever simpler.** Whatever is not understood is carried as it is, from there to the end of its connection.
//!   Nothing goes back from *as it is* to being understood.
//! - **A guess is never believed.** What a page holds decides, not where somebody thinks that it is: the one who hands
//!   a page on has hashed it first.

#![forbid(unsafe_code)]

pub mod aside;
pub mod decoder;
pub mod encoder;
pub mod frame;
pub mod hash;
pub mod image;
pub mod index;
pub mod pace;
pub mod peer;
pub mod stream;
#[cfg(test)]
mod tests;

/// The bytes of a page of the guest, as QEMU's x86 and Arm targets have them. Huge pages travel as many of these.
pub const PAGE: usize = 4096;
