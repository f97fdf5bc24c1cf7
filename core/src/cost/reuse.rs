//! Memory reuse, as Akiyama models it (thesis, section 5.3.4): a host keeps the image of a VM that left, and when the VM
//! comes back only what was written since is sent.

use super::input::{Cost, CostError, Guest, Rate, seconds};
use super::precopy::{Course, PreCopy};
use super::rounds::First;
use crate::model::{Bytes, BytesPerSecond, NodeName, Seconds};

/// What comparing generations takes before anything is sent: 2.5 s (thesis, section 5.3.4). The real one took 2 to 3 s.
pub const PUBLISHED_PREPARATION: f64 = 2.5;

/// A stretch of a VM's life between two entries of its migration history: h_i = (t_i, P_i, D_i) of the thesis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Where the VM ran at its end (P_i).
    pub host: NodeName,
    /// What it wrote in it (D_i).
    pub updated: Bytes,
}

/// What a guest writes in a while: never more than its working set.
#[must_use]
pub fn updated(rate: BytesPerSecond, working_set: Bytes, time: Seconds) -> Bytes {
    (rate * time).min(working_set)
}

/// What of its memory a VM finds at a host: all but what it wrote since it was last there. `history` is in the order of
/// time; its last stretch ends now. None if it was never there.
///
/// The thesis adds up the stretches (D_2 + D_1 of its Fig. 5.3), so a page that was written in two of them counts twice:
/// the estimate is never too good.
#[must_use]
pub fn reusable(memory: Bytes, history: &[Stretch], host: &NodeName) -> Option<Bytes> {
    let last = history.iter().rposition(|stretch| stretch.host == *host)?;
    let since: Bytes = history[last + 1..].iter().map(|stretch| stretch.updated).sum();
    Some(memory.saturating_sub(since))
}

/// A pre-copy of what can't be reused, after a preparation. All of the memory is compared, so the published preparation
/// is paid even if nothing can be reused.
///
/// # Errors
/// Those of [`PreCopy::foretell`].
pub fn foretell_reuse(
    model: &PreCopy,
    guest: &Guest,
    rate: &Rate,
    reused: Bytes,
    preparation: Seconds,
) -> Result<Course, CostError> {
    let volume = guest.memory().saturating_sub(reused).0 as f64;
    let course = model.foretell_from(guest, rate, &[], First { volume, least: 0.0 })?;
    let time = seconds(course.cost.time.value() + preparation.value());
    Ok(Course { cost: Cost { time, ..course.cost }, ..course })
}
