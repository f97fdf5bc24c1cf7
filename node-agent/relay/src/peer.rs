//! What the other relay must never say.

use crate::frame::BadFrame;

/// The other relay has said something that makes no sense. It is of another build, or somebody else speaks: the
/// connection can't go on, because what QEMU has sent so far can't be known to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPeer {
    /// No frame.
    #[error(transparent)]
    Frame(#[from] BadFrame),
    /// A frame that only the other side may send.
    #[error("a frame that goes the other way")]
    Unexpected,
    /// The stream goes on behind its end.
    #[error("a stream that goes on behind its end")]
    AfterEnd,
    /// The stream's length is another than the end says.
    #[error("the stream is over after {said} bytes, of which {seen} were seen")]
    Length {
        /// By the end.
        said: u64,
        /// By counting.
        seen: u64,
    },
    /// What was never sent can't be acknowledged, nor the same twice.
    #[error("{position} is acknowledged where {sent} were sent")]
    Acknowledgement {
        /// Up to where.
        position: u64,
        /// How much there is.
        sent: u64,
    },
    /// Nothing is kept for this position, or it was asked for before.
    #[error("the reference at {position} can't be followed, and there is none")]
    Nack {
        /// Where.
        position: u64,
    },
    /// Nobody asked, or the page is not what its reference said.
    #[error("an answer for {position} that is not what was asked for")]
    Answer {
        /// Where.
        position: u64,
    },
    /// More came behind a reference that can't be followed yet than the window allows.
    #[error("more than a window behind an open reference")]
    Overrun,
}
