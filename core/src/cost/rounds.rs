//! A pre-copy in the middle of its rounds: lines 4 to 12 of Liu's algorithm 1.

use super::input::{Cost, Guest, seconds};
use super::precopy::{Course, Ended, PreCopy, Round};
use crate::model::{Bytes, BytesPerSecond, Seconds};

/// What the first round sends over the migration network, and how long it takes at least.
#[derive(Debug, Clone, Copy)]
pub(super) struct First {
    pub(super) volume: f64,
    pub(super) least: f64,
}

/// A migration in the middle of its rounds. It is told how long each took, so several can share a link.
#[derive(Debug, Clone)]
pub(super) struct Rounds<'a> {
    model: PreCopy,
    guest: Guest,
    dirty: &'a [BytesPerSecond],
    /// What the present round sends.
    pub(super) volume: f64,
    pub(super) done: Vec<Round>,
    pub(super) stopped: Option<Ended>,
    pub(super) sent: f64,
    pub(super) time: f64,
    last: f64,
}

impl<'a> Rounds<'a> {
    pub(super) fn new(model: PreCopy, guest: Guest, volume: f64, dirty: &'a [BytesPerSecond]) -> Self {
        let (done, stopped) = (Vec::new(), None);
        Self { model, guest, dirty, volume, done, stopped, sent: 0.0, time: 0.0, last: 0.0 }
    }

    fn dirty_in(&self, round: usize) -> BytesPerSecond {
        let listed = self.dirty.get(round).or(self.dirty.last());
        listed.copied().unwrap_or(self.guest.dirty_rate())
    }

    /// How fast the guest dirtied in the round before; before the first, as it was measured.
    pub(super) fn dirty_before(&self) -> BytesPerSecond {
        self.dirty_in(self.done.len().saturating_sub(1))
    }

    /// The present round took so long at this speed. Why the migration is over, if it is.
    pub(super) fn round(&mut self, took: f64, speed: f64) -> Option<Ended> {
        let index = self.done.len();
        (self.sent, self.time) = (self.sent + self.volume, self.time + took);
        if let Some(why) = self.stopped {
            self.note(took, 0.0);
            self.last = took;
            return Some(why);
        }
        let (rule, rate) = (self.model.stop, self.dirty_in(index));
        let dirtied = self.guest.dirtied(rate, took);
        let skipped = self.model.skipping.share(seconds(took), rate) * dirtied;
        let next = dirtied - skipped;
        self.note(took, skipped);
        if rule.time_limit.is_some_and(|limit| self.time > limit.value()) {
            self.give_up(took, speed);
            return Some(Ended::Never);
        }
        let too_much = |times: f64| self.sent > times * self.guest.memory().0 as f64;
        // Without one of the other rules, the same round comes again and again.
        let again = !rule.growth_ends && rule.most_traffic.is_none();
        self.stopped = if next <= rule.threshold(speed) {
            Some(Ended::Converged)
        } else if rule.growth_ends && next > self.volume {
            Some(Ended::Growing)
        } else if rule.most_traffic.is_some_and(too_much) {
            Some(Ended::TooMuchTraffic)
        } else if again && index >= self.dirty.len() && next >= self.volume * (1.0 - 1e-9) {
            self.spend_the_rest(speed);
            return Some(Ended::Never);
        } else if index >= usize::try_from(rule.most_rounds).unwrap_or(usize::MAX) {
            if again {
                return Some(Ended::Never);
            }
            Some(Ended::LastRound)
        } else {
            None
        };
        self.volume = if self.stopped.is_some() { dirtied } else { next };
        None
    }

    fn note(&mut self, took: f64, skipped: f64) {
        let (sent, skipped) = (Bytes::nearest(self.volume), Bytes::nearest(skipped));
        self.done.push(Round { sent, took: seconds(took), skipped });
    }

    /// The time was over within the round that is just done.
    fn give_up(&mut self, took: f64, speed: f64) {
        let limit = self.model.stop.time_limit.map_or(self.time, Seconds::value);
        let unsent = ((self.time - limit).clamp(0.0, took) * speed).min(self.volume);
        (self.sent, self.time) = (self.sent - unsent, limit);
    }

    /// The same round comes until the time is over.
    fn spend_the_rest(&mut self, speed: f64) {
        if let Some(limit) = self.model.stop.time_limit {
            self.sent += (limit.value() - self.time) * speed;
            self.time = limit.value();
        }
    }

    pub(super) fn course(self, ended: Ended) -> Course {
        let stopped = ended != Ended::Never;
        let resume = if stopped { self.model.resume.value() } else { 0.0 };
        let cost = Cost {
            // As published: the sum of the rounds (algorithm 1, line 16), which the resume is not part of.
            time: seconds(self.time),
            downtime: if stopped { seconds(self.last + resume) } else { Seconds::ZERO },
            degraded: Seconds::ZERO,
            traffic: Bytes::nearest(self.sent),
        };
        Course { rounds: self.done, ended, cost }
    }
}
