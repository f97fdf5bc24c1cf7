//! Pre-copy, round by round: Liu's algorithm 1 with eqs. 9 and 10, and what QEMU does differently.
//!
//! Three things are easily got wrong.
//! * The last round sends everything that was dirtied before it, `T_i·D`, the skipped pages too: nobody writes any more.
//! * Eq. 10 has `T_{i−1}` in `W_i`, algorithm 1 `T_i` in `W_{i+1}`: both are the time in which the pages got dirty.
//! * The published fit turns negative after 7.7 s. Here γ is within 0 and 1, a round no more than the working set, and
//!   the published coefficients are refused where they were not fitted.
//!
//! QEMU skips nothing, stops for a guest whose rest fits into the permitted downtime, and otherwise never.

use super::input::{Cost, CostError, Guest, Rate, positive, seconds};
use super::rounds::{First, Rounds};
use super::skipping::Skipping;
use crate::model::{Bytes, BytesPerSecond, Seconds};

/// How little must be left for the guest to be stopped (V_thd).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// So much data: Xen.
    Volume(Bytes),
    /// What can be sent in so much downtime: QEMU.
    Downtime(Seconds),
}

/// When pre-copy stops the guest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StopRule {
    /// The rest is small enough.
    pub threshold: Threshold,
    /// At the latest after so many rounds with a running guest.
    pub most_rounds: u32,
    /// A round larger than the one before is the last: Liu's algorithm 1, line 8.
    pub growth_ends: bool,
    /// At the latest after so many times the memory was sent: Xen (Liu, section 2).
    pub most_traffic: Option<f64>,
    /// Given up after so long, without a switch: KubeVirt.
    pub time_limit: Option<Seconds>,
}

impl StopRule {
    /// Liu's algorithm 1, which leaves the threshold and the most rounds to the hypervisor.
    #[must_use]
    pub const fn algorithm_1(threshold: Bytes, most_rounds: u32) -> Self {
        let threshold = Threshold::Volume(threshold);
        Self { threshold, most_rounds, growth_ends: true, most_traffic: None, time_limit: None }
    }

    /// Xen's own figures: fewer than 50 pages, 29 rounds, three times the memory.
    #[must_use]
    pub const fn xen() -> Self {
        Self { most_traffic: Some(3.0), ..Self::algorithm_1(Bytes(50 * 4096), 29) }
    }

    /// QEMU with so much permitted downtime, given up after so long.
    #[must_use]
    pub const fn qemu(downtime: Seconds, time_limit: Option<Seconds>) -> Self {
        let threshold = Threshold::Downtime(downtime);
        Self { threshold, most_rounds: 10_000, growth_ends: false, most_traffic: None, time_limit }
    }

    pub(super) fn threshold(&self, rate: f64) -> f64 {
        match self.threshold {
            Threshold::Volume(volume) => volume.0 as f64,
            Threshold::Downtime(time) => rate * time.value(),
        }
    }
}

/// Why the guest was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Ended {
    /// The rest was small enough: it converged.
    Converged,
    /// A round was larger than the one before.
    Growing,
    /// That was the last round.
    LastRound,
    /// Too much had been sent.
    TooMuchTraffic,
    /// It never was: rounds get no smaller, or the time was over. The cost is what was spent in vain until then.
    Never,
}

/// A round of pre-copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// What it sent (V_i).
    pub sent: Bytes,
    /// How long it took (T_i).
    pub took: Seconds,
    /// What was dirtied meanwhile and is not sent in the next round (W_{i+1}).
    pub skipped: Bytes,
}

/// A pre-copy migration, foretold.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// Round by round; the last one is that of the stopped guest, if it is ever stopped.
    pub rounds: Vec<Round>,
    /// Why the guest was stopped.
    pub ended: Ended,
    /// What it costs.
    pub cost: Cost,
}

impl Course {
    /// The guest is stopped because the rest is small enough. Nobody should begin a pre-copy of which this is not so.
    #[must_use]
    pub fn converges(&self) -> bool {
        self.ended == Ended::Converged
    }
}

/// A hypervisor's pre-copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PreCopy {
    /// What it skips.
    pub skipping: Skipping,
    /// When it stops the guest.
    pub stop: StopRule,
    /// What resuming takes at the destination (T_resume).
    pub resume: Seconds,
}

/// T_resume as published: 20 ms (Liu, section 3.1), in seconds.
pub const PUBLISHED_RESUME: f64 = 0.020;

impl PreCopy {
    /// Liu's model of Xen as published, for a hypervisor of that threshold and so many rounds.
    #[must_use]
    pub fn published(threshold: Bytes, most_rounds: u32) -> Self {
        let stop = StopRule::algorithm_1(threshold, most_rounds);
        Self { skipping: Skipping::PUBLISHED, stop, resume: seconds(PUBLISHED_RESUME) }
    }

    /// QEMU's pre-copy: nothing is skipped, and it stops when the rest fits into the permitted downtime.
    #[must_use]
    pub fn qemu(downtime: Seconds, time_limit: Option<Seconds>) -> Self {
        let stop = StopRule::qemu(downtime, time_limit);
        Self { skipping: Skipping::NONE, stop, resume: seconds(PUBLISHED_RESUME) }
    }

    /// What it comes to for a guest that dirties memory always as fast.
    ///
    /// # Errors
    /// Published coefficients, and a guest or a rate outside their range.
    pub fn foretell(&self, guest: &Guest, rate: &Rate) -> Result<Course, CostError> {
        self.foretell_trace(guest, rate, &[])
    }

    /// The same for a guest that dirties `dirty[i]` in round i, and afterwards as in the last of them.
    ///
    /// # Errors
    /// Published coefficients, and a guest or a rate outside their range.
    pub fn foretell_trace(&self, guest: &Guest, rate: &Rate, dirty: &[BytesPerSecond]) -> Result<Course, CostError> {
        self.foretell_from(guest, rate, dirty, First { volume: guest.memory().0 as f64, least: 0.0 })
    }

    /// The same when the first round is not all of the memory.
    pub(super) fn foretell_from(
        &self,
        guest: &Guest,
        rate: &Rate,
        dirty: &[BytesPerSecond],
        first: First,
    ) -> Result<Course, CostError> {
        self.skipping.refuse_outside(guest, rate)?;
        let mut state = Rounds::new(*self, *guest, first.volume, dirty);
        let ended = loop {
            let speed = positive("transmission rate", rate.after(state.dirty_before()).value())?;
            let took =
                if state.done.is_empty() { (state.volume / speed).max(first.least) } else { state.volume / speed };
            if let Some(ended) = state.round(took, speed) {
                break ended;
            }
        };
        Ok(state.course(ended))
    }
}
