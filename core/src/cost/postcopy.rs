//! Post-copy, and the hybrid that begins as pre-copy. Liu has no equation for them; these are ours, of the mechanism that
//! Reactive Cloud (section 2, Figs. 7 to 9) and Hines and Gopalan (2009) describe.
//!
//! * P1: the VM runs nowhere while the state of its devices is sent and it is resumed: `V_dev/R + T_resume`.
//! * P2: the rest of its memory follows once, whatever is written: `V_rest/R`, the degraded time.
//! * P3: it stands still until what it touches has followed: `min(V_touched, V_rest)/R`, within the degraded time. On the
//!   lab a guest that touches everything stands still for all of the degraded time (`docs/results/README.md`).

use super::input::{Cost, CostError, Guest, Rate, positive, seconds};
use super::precopy::{Course, Ended, PUBLISHED_RESUME, PreCopy, StopRule};
use super::rounds::Rounds;
use crate::model::{Bytes, Seconds};

/// A hypervisor's post-copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PostCopy {
    /// The state of devices and CPUs (V_dev).
    pub devices: Bytes,
    /// What resuming takes at the destination (T_resume).
    pub resume: Seconds,
}

impl Default for PostCopy {
    /// Half a megabyte of devices, and Liu's 20 ms.
    fn default() -> Self {
        Self { devices: Bytes(500_000), resume: seconds(PUBLISHED_RESUME) }
    }
}

/// A migration that is switched to post-copy, foretold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PostCopyCourse {
    /// From its start until it is switched: the VM runs at its source.
    pub before: Seconds,
    /// The VM waits for so long, of the degraded time, for pages that it needs (P3).
    pub waiting: Seconds,
    /// What it costs. The downtime is the blackout of the switch (P1); what follows is degraded (P2).
    pub cost: Cost,
}

impl PostCopy {
    /// Post-copy from the start: all memory follows.
    ///
    /// # Errors
    /// A rate of nothing.
    pub fn foretell(&self, guest: &Guest, rate: &Rate) -> Result<PostCopyCourse, CostError> {
        self.switch(guest, rate, &Before { time: 0.0, sent: 0.0, rest: guest.memory().0 as f64 })
    }

    /// The same when so much of the memory is at the destination already.
    ///
    /// # Errors
    /// A rate of nothing.
    pub fn foretell_reusing(&self, guest: &Guest, rate: &Rate, reused: Bytes) -> Result<PostCopyCourse, CostError> {
        let rest = guest.memory().saturating_sub(reused).0 as f64;
        self.switch(guest, rate, &Before { time: 0.0, sent: 0.0, rest })
    }

    fn switch(&self, guest: &Guest, rate: &Rate, before: &Before) -> Result<PostCopyCourse, CostError> {
        let speed = positive("transmission rate", rate.after(guest.dirty_rate()).value())?;
        let devices = self.devices.0 as f64;
        let blackout = devices / speed + self.resume.value();
        let waiting = (guest.touched().0 as f64).min(before.rest) / speed;
        let cost = Cost {
            time: seconds(before.time + blackout + before.rest / speed),
            downtime: seconds(blackout),
            degraded: seconds(before.rest / speed),
            traffic: Bytes::nearest(before.sent + devices + before.rest),
        };
        Ok(PostCopyCourse { before: seconds(before.time), waiting: seconds(waiting), cost })
    }
}

/// How a migration stands when it is switched.
struct Before {
    time: f64,
    sent: f64,
    rest: f64,
}

/// Pre-copy that is switched to post-copy after a while, unless it is over by then. KubeVirt knows no other post-copy: it
/// switches after `completionTimeoutPerGiB` seconds for each GiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hybrid {
    /// How it begins.
    pub pre_copy: PreCopy,
    /// How it ends.
    pub post_copy: PostCopy,
    /// When it is switched.
    pub switch_after: Seconds,
}

/// What came of a hybrid migration.
#[derive(Debug, Clone, PartialEq)]
pub enum HybridCourse {
    /// Pre-copy was over before the switch.
    PreCopy(Course),
    /// It was switched.
    Switched(PostCopyCourse),
}

impl HybridCourse {
    /// What it costs.
    #[must_use]
    pub fn cost(&self) -> Cost {
        match self {
            Self::PreCopy(course) => course.cost,
            Self::Switched(course) => course.cost,
        }
    }
}

impl Hybrid {
    /// What it comes to. At the switch these pages are left: of the present round those that were not sent, and those that
    /// were dirtied meanwhile after they had been sent (at most as many as were sent).
    ///
    /// # Errors
    /// Those of [`PreCopy::foretell`].
    pub fn foretell(&self, guest: &Guest, rate: &Rate) -> Result<HybridCourse, CostError> {
        let limit = self.switch_after.value();
        let stop = StopRule { time_limit: None, ..self.pre_copy.stop };
        let pre_copy = PreCopy { stop, ..self.pre_copy };
        let course = pre_copy.foretell(guest, rate)?;
        // A guest that is stopped for the last round before the switch is not switched any more.
        let running: f64 =
            course.rounds.split_last().map_or(0.0, |(_, all)| all.iter().map(|one| one.took.value()).sum());
        if course.ended != Ended::Never && running <= limit {
            return Ok(HybridCourse::PreCopy(course));
        }
        let mut rounds = Rounds::new(pre_copy, *guest, guest.memory().0 as f64, &[]);
        let before = loop {
            let speed = positive("transmission rate", rate.after(rounds.dirty_before()).value())?;
            let (volume, took) = (rounds.volume, rounds.volume / speed);
            let since = limit - rounds.time;
            if since <= took || rounds.stopped.is_some() {
                let sent = (since * speed).clamp(0.0, volume);
                let again = guest.dirtied(guest.dirty_rate(), since.min(took)).min(sent);
                break Before { time: limit, sent: rounds.sent + since.max(0.0) * speed, rest: volume - sent + again };
            }
            // It never stops: the same pages go round and round until the switch.
            if rounds.round(took, speed).is_some() {
                let rest = guest.dirtied(guest.dirty_rate(), took);
                break Before { time: limit, sent: rounds.sent + (limit - rounds.time).max(0.0) * speed, rest };
            }
        };
        Ok(HybridCourse::Switched(self.post_copy.switch(guest, rate, &before)?))
    }
}
