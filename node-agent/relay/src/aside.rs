//! When a migration is better off without references.
//!
//! Reuse costs CPU time and memory, and it pays only when bytes on the wire are what takes time. These are the rules by
//! which the source's relay leaves it, or never begins. Leaving is for ever:
//! [`Encoder::plain`](crate::encoder::Encoder::plain).

use std::time::Duration;

const MIB: u64 = 1 << 20;

/// What the target holds must be worth so much, in bytes of pages.
pub const LEAST_HELD: u64 = 64 * MIB;
/// A VM with less memory than this moves in no time.
pub const SMALLEST_VM: u64 = 256 * MIB;
/// Hashing must not take what the node's VMs want, in cores.
pub const LEAST_IDLE_CORES: f64 = 0.5;
/// So long the relay is watched at a time.
pub const WINDOW: Duration = Duration::from_millis(200);
/// The relay holds up a link when it works for more than this share of a window, in percent.
pub const MOST_WORK_PERCENT: u32 = 90;
/// After so many bytes of pages it must have been worth it.
pub const TRIAL: u64 = 256 * MIB;
/// Of these, so many hundredths must have been references.
pub const LEAST_HITS_PERCENT: u64 = 2;

/// Why there are no references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aside {
    /// The target holds next to nothing of this VM.
    LittleHeld,
    /// The VM is small.
    SmallVm,
    /// The node has no CPU time to spare.
    BusyNode,
    /// The link is faster than the relay.
    FastLink,
    /// The target holds other pages than those that pass.
    FewHits,
}

impl Aside {
    /// As metrics and Events name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LittleHeld => "LittleHeld",
            Self::SmallVm => "SmallVM",
            Self::BusyNode => "BusyNode",
            Self::FastLink => "FastLink",
            Self::FewHits => "FewHits",
        }
    }
}

/// What is known before a migration begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Before {
    /// What the target holds of this VM and may still be true, in bytes.
    pub held: u64,
    /// The VM's memory, in bytes.
    pub memory: u64,
    /// What the source's node has to spare, in cores. Unknown is not a number, and counts as none.
    pub idle_cores: f64,
}

/// Whether to begin at all.
///
/// # Errors
/// Why not.
pub fn begin(before: Before) -> Result<(), Aside> {
    if before.memory < SMALLEST_VM {
        Err(Aside::SmallVm)
    } else if before.held < LEAST_HELD {
        Err(Aside::LittleHeld)
    } else if before.idle_cores >= LEAST_IDLE_CORES {
        Ok(())
    } else {
        Err(Aside::BusyNode)
    }
}

/// Watches one connection while it carries references.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    passed: Duration,
    worked: Duration,
    pages: u64,
    hits: u64,
}

impl Watch {
    /// Notes that some time passed, in which the relay had input and room to write all the time, and so was what the
    /// stream waited for, or in which it waited for either.
    ///
    /// # Errors
    /// When the relay holds up the link: it worked for most of the last window.
    pub fn time(&mut self, passed: Duration, worked: bool) -> Result<(), Aside> {
        self.passed = self.passed.saturating_add(passed);
        if worked {
            self.worked = self.worked.saturating_add(passed);
        }
        if self.passed < WINDOW {
            return Ok(());
        }
        let (passed, worked) = (std::mem::take(&mut self.passed), std::mem::take(&mut self.worked));
        if worked.as_nanos() * 100 > passed.as_nanos() * u128::from(MOST_WORK_PERCENT) {
            return Err(Aside::FastLink);
        }
        Ok(())
    }

    /// Notes pages that passed since the target has told all that it holds, and how many of them became references.
    /// Before that, a miss says nothing.
    ///
    /// # Errors
    /// When the trial is over and it was not worth it.
    pub fn pages(&mut self, pages: u64, hits: u64) -> Result<(), Aside> {
        self.pages = self.pages.saturating_add(pages);
        self.hits = self.hits.saturating_add(hits);
        if self.pages >= TRIAL / crate::PAGE as u64 {
            let (pages, hits) = (std::mem::take(&mut self.pages), std::mem::take(&mut self.hits));
            if hits.saturating_mul(100) < pages.saturating_mul(LEAST_HITS_PERCENT) {
                return Err(Aside::FewHits);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_worth_it_never_begins() {
        let good = Before { held: 64 * MIB, memory: 256 * MIB, idle_cores: 0.5 };
        assert_eq!(begin(good), Ok(()));
        assert_eq!(begin(Before { held: 64 * MIB - 1, ..good }), Err(Aside::LittleHeld));
        assert_eq!(begin(Before { memory: 256 * MIB - 1, ..good }), Err(Aside::SmallVm));
        assert_eq!(begin(Before { idle_cores: 0.49, ..good }), Err(Aside::BusyNode));
        assert_eq!(begin(Before { idle_cores: f64::NAN, ..good }), Err(Aside::BusyNode));
    }

    /// The link outruns the hash: it always has input and can always write.
    #[test]
    fn a_fast_link_is_left_alone_within_a_window() {
        let step = Duration::from_millis(10);
        let mut watch = Watch::default();
        let left = (1..).find(|_| watch.time(step, true).is_err()).unwrap();
        assert_eq!(step * left, WINDOW);
        // One step in ten is no more than 90 %; one in twenty is.
        let mut watch = Watch::default();
        assert!((0..1000).all(|at| watch.time(step, at % 10 != 0).is_ok()));
        let mut watch = Watch::default();
        assert!((0..1000).any(|at| watch.time(step, at % 20 != 0) == Err(Aside::FastLink)));
        // A relay that is rarely asked is judged by what it was asked.
        assert_eq!(Watch::default().time(Duration::from_secs(5), false), Ok(()));
    }

    #[test]
    fn few_hits_are_given_up_after_the_trial_and_not_before() {
        let trial = TRIAL / crate::PAGE as u64;
        assert_eq!(Watch::default().pages(trial - 1, 0), Ok(()));
        assert_eq!(Watch::default().pages(trial, trial / 50 + 1), Ok(()));
        assert_eq!(Watch::default().pages(trial, trial / 50), Err(Aside::FewHits));
        // Each stretch is judged by itself: what was worth it once need not be later.
        let mut watch = Watch::default();
        assert_eq!(watch.pages(trial, trial), Ok(()));
        assert_eq!(watch.pages(trial, 0), Err(Aside::FewHits));
    }
}
