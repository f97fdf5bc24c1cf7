//! Pre-copy or post-copy: mode `Auto`, per migration, by the predicted loss of the guest's work (Reactive Cloud, section
//! 5.1: a guest that writes much is moved by post-copy, one that reads widely and writes little by pre-copy).
//!
//! Work is counted in seconds of the guest at full speed:
//!
//! * L1, pre-copy: `T_down + (T_mig − T_down)·(s + (1−s)·k)`, where s is the share of its CPU that it lacks at its source
//!   and k what the tracking of its writes takes of the rest;
//! * L2, post-copy: `T_before·(s + (1−s)·k) + T_blackout + T_waiting`.
//!
//! On a node that is not overloaded (s = 0) a converging pre-copy of a guest that writes little loses next to nothing.
//! On an overloaded one every second until the switch counts, so post-copy wins unless the guest touches much.

use super::input::{CostError, seconds, within};
use super::postcopy::{HybridCourse, PostCopyCourse};
use super::precopy::Course;
use crate::model::Seconds;
use serde::Serialize;

/// What a guest loses while it waits for its migration to end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Situation {
    starved: f64,
    tracking: f64,
}

impl Situation {
    /// The share of the wanted CPU that it lacks at its source (0 on a node that is not overloaded), and the share of the
    /// rest that tracking its writes takes. Reactive Cloud saw a third with shadow paging; with the page modification log
    /// of today's CPUs it is a few per cent.
    ///
    /// # Errors
    /// Shares that are not from 0 to 1.
    pub fn new(starved: f64, tracking: f64) -> Result<Self, CostError> {
        let starved = within("starved share", starved, 0.0, 1.0)?;
        Ok(Self { starved, tracking: within("tracking share", tracking, 0.0, 1.0)? })
    }

    fn at_source(&self) -> f64 {
        self.starved + (1.0 - self.starved) * self.tracking
    }

    /// L1; none if it does not converge.
    #[must_use]
    pub fn loss_of_pre_copy(&self, course: &Course) -> Option<Seconds> {
        let (time, down) = (course.cost.time.value(), course.cost.downtime.value());
        course.converges().then(|| seconds(down + (time - down).max(0.0) * self.at_source()))
    }

    /// L2.
    #[must_use]
    pub fn loss_of_post_copy(&self, course: &PostCopyCourse) -> Seconds {
        let before = course.before.value() * self.at_source();
        seconds(before + course.cost.downtime.value() + course.waiting.value())
    }
}

/// How to move a VM.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "mode", rename_all = "camelCase")]
pub enum Auto {
    /// By pre-copy.
    PreCopy {
        /// L1.
        #[serde(rename = "lossSeconds")]
        loss: Seconds,
        /// L2, if post-copy was permitted and would not have been over before its switch.
        #[serde(rename = "otherSeconds")]
        other: Option<Seconds>,
    },
    /// By post-copy.
    PostCopy {
        /// L2.
        #[serde(rename = "lossSeconds")]
        loss: Seconds,
        /// L1, if pre-copy converges.
        #[serde(rename = "otherSeconds")]
        other: Option<Seconds>,
    },
    /// Not at all: pre-copy does not converge and post-copy is not permitted. It would end no sooner than the guest's load.
    Neither,
}

/// The mode that loses less of the guest's work. `post` is none where post-copy is not permitted. Of equal losses pre-copy
/// is taken, which can be cancelled and can't lose the guest.
#[must_use]
pub fn auto(pre: &Course, post: Option<&HybridCourse>, situation: &Situation) -> Auto {
    let pre_loss = situation.loss_of_pre_copy(pre);
    let post_loss = match post {
        Some(HybridCourse::Switched(course)) => Some(situation.loss_of_post_copy(course)),
        // It would be over by pre-copy before its switch, so there is nothing to choose.
        Some(HybridCourse::PreCopy(_)) | None => None,
    };
    match (pre_loss, post_loss) {
        (Some(loss), None) => Auto::PreCopy { loss, other: None },
        (Some(loss), Some(other)) if loss <= other => Auto::PreCopy { loss, other: Some(other) },
        (other, Some(loss)) => Auto::PostCopy { loss, other },
        (None, None) => Auto::Neither,
    }
}
