//! The models' coefficients for one's own hardware: fitted to migrations that were observed, per pair of node classes;
//! the published ones where there are too few, and it is said.

use super::energy::WiredEnergy;
use super::input::{CostError, MEGABYTE, Problem};
use super::least_squares::{Fit, Interval, Observation, fit};
use crate::model::{Bytes, BytesPerSecond, ClassName, Joules, Seconds, Span, Timestamp};
use std::collections::BTreeMap;

/// Where migrations went from and to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClassPair {
    /// The source's class.
    pub source: ClassName,
    /// The destination's class.
    pub destination: ClassName,
}

/// A migration that is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observed {
    /// When it ended.
    pub at: Timestamp,
    /// What it sent.
    pub traffic: Bytes,
    /// How long it took.
    pub time: Seconds,
    /// What both ends drew beyond what they drew before, if both have meters.
    pub energy: Option<Joules>,
}

/// What it takes to believe a fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Belief {
    /// At least so many observations.
    pub least_samples: usize,
    /// The newest no older than this.
    pub oldest: Span,
}

impl Default for Belief {
    /// Eight observations, the newest no older than 30 days.
    fn default() -> Self {
        Self { least_samples: 8, oldest: Span::from_secs(30 * 24 * 3600) }
    }
}

/// Why the published coefficients are used.
#[derive(Debug, Clone, PartialEq)]
pub enum Published {
    /// There are too few observations of this pair.
    TooFew {
        /// So many there are.
        have: usize,
        /// So many it takes.
        need: usize,
    },
    /// The newest observation is too old.
    TooOld {
        /// Its age.
        age: Span,
    },
    /// The observations can't be fitted.
    NotFitted(CostError),
    /// The fit is impossible, such as a migration that draws less the more it sends.
    Impossible,
    /// Nothing follows from the observations about what more traffic costs, because all sent nearly as much: the standard
    /// error is over half of the figure.
    Unsettled,
}

/// Coefficients and where they come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin<const P: usize> {
    /// Fitted to one's own migrations.
    Fitted {
        /// With its R² and its samples.
        fit: Fit<P>,
        /// Of the newest observation.
        age: Span,
    },
    /// The paper's, and why. There is no interval: the paper prints none.
    Published(Published),
}

impl<const P: usize> Origin<P> {
    /// The 90 % prediction interval at a place, if this is a fit.
    #[must_use]
    pub fn interval(&self, at: [f64; P], scale: f64) -> Option<Interval> {
        match self {
            Self::Fitted { fit, .. } => Some(fit.interval(at, scale)),
            Self::Published(_) => None,
        }
    }
}

/// How long a migration takes besides what it sends, and how fast it sends: `T = c + V/R`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// c.
    pub overhead: Seconds,
    /// R.
    pub rate: BytesPerSecond,
}

/// More observations of one pair than this are not kept: the oldest go first.
const MOST: usize = 500;

/// What was observed so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observations {
    pairs: BTreeMap<ClassPair, Vec<Observed>>,
}

impl Observations {
    /// Takes in a migration.
    pub fn record(&mut self, pair: ClassPair, observed: Observed) {
        let of_pair = self.pairs.entry(pair).or_default();
        let place = of_pair.partition_point(|one| one.at <= observed.at);
        of_pair.insert(place, observed);
        if of_pair.len() > MOST {
            of_pair.remove(0);
        }
    }

    /// α and β between two classes: fitted where both ends have meters, else as published.
    #[must_use]
    pub fn energy(&self, pair: &ClassPair, belief: Belief, now: Timestamp) -> (WiredEnergy, Origin<2>) {
        let observed = self.pairs.get(pair).into_iter().flatten();
        let measured = observed.filter_map(|one| {
            let at = [one.traffic.0 as f64 / MEGABYTE, 1.0];
            Some((one.at, Observation { at, seen: one.energy?.value(), scale: 1.0 }))
        });
        let origin = believe(&measured.collect::<Vec<_>>(), belief, now);
        let fitted = match &origin {
            Origin::Fitted { fit, .. } if unsettled(fit) => {
                return (WiredEnergy::PUBLISHED, Origin::Published(Published::Unsettled));
            }
            Origin::Fitted { fit, .. } => WiredEnergy::new(fit.coefficients[0], fit.coefficients[1].max(0.0)).ok(),
            Origin::Published(_) => return (WiredEnergy::PUBLISHED, origin),
        };
        match fitted {
            Some(model) => (model, origin),
            None => (WiredEnergy::PUBLISHED, Origin::Published(Published::Impossible)),
        }
    }

    /// c and R between two classes. None were published for stock QEMU, so there is no pace without a fit, and the origin
    /// says why. The noise is a share of the time: longer migrations vary more.
    #[must_use]
    pub fn pace(&self, pair: &ClassPair, belief: Belief, now: Timestamp) -> (Option<Pace>, Origin<2>) {
        let observed = self.pairs.get(pair).into_iter().flatten();
        let measured: Vec<(Timestamp, Observation<2>)> = observed
            .filter(|one| one.time > Seconds::ZERO)
            .map(|one| {
                let seen = one.time.value();
                (one.at, Observation { at: [one.traffic.0 as f64, 1.0], seen, scale: seen })
            })
            .collect();
        let origin = believe(&measured, belief, now);
        let Origin::Fitted { fit, .. } = &origin else { return (None, origin) };
        if unsettled(fit) {
            return (None, Origin::Published(Published::Unsettled));
        }
        let [per_byte, overhead] = fit.coefficients;
        // An overhead that is a little below nothing is noise.
        let rate = BytesPerSecond::new(1.0 / per_byte).ok().filter(|_| per_byte > 0.0);
        match rate {
            Some(rate) => (Some(Pace { overhead: super::input::seconds(overhead), rate }), origin),
            None => (None, Origin::Published(Published::Impossible)),
        }
    }
}

/// γ of Liu's eq. 10 (ω, ξ, ψ), fitted to rounds of pre-copy that were observed: how long each took, how fast the guest
/// wrote, and which share of the dirty pages was skipped.
#[must_use]
pub fn skipping(
    rounds: &[(Timestamp, Seconds, BytesPerSecond, f64)],
    belief: Belief,
    now: Timestamp,
) -> (super::Skipping, Origin<3>) {
    let observations: Vec<(Timestamp, Observation<3>)> = rounds
        .iter()
        .map(|(at, took, rate, share)| {
            let at_place = [took.value(), rate.value() / MEGABYTE, 1.0];
            (*at, Observation { at: at_place, seen: *share, scale: 1.0 })
        })
        .collect();
    let origin = believe(&observations, belief, now);
    let model = match &origin {
        Origin::Fitted { fit, .. } => {
            let [per_second, per_megabyte_rate, constant] = fit.coefficients;
            super::Skipping { per_second, per_megabyte_rate, constant, fitted: None }
        }
        Origin::Published(_) => super::Skipping::PUBLISHED,
    };
    (model, origin)
}

/// The first coefficient, that of the traffic, may as well be another.
fn unsettled(fit: &Fit<2>) -> bool {
    2.0 * fit.standard_error(0) > fit.coefficients[0].abs()
}

fn believe<const P: usize>(observations: &[(Timestamp, Observation<P>)], belief: Belief, now: Timestamp) -> Origin<P> {
    let (have, need) = (observations.len(), belief.least_samples);
    let Some(newest) = observations.iter().map(|(at, _)| *at).max().filter(|_| have >= need) else {
        return Origin::Published(Published::TooFew { have, need });
    };
    let age = now.since(newest);
    if age > belief.oldest {
        return Origin::Published(Published::TooOld { age });
    }
    let observations: Vec<Observation<P>> = observations.iter().map(|(_, one)| *one).collect();
    match fit(&observations) {
        Ok(fit) => Origin::Fitted { fit, age },
        Err(CostError { problem: Problem::TooFew { have, need }, .. }) => {
            Origin::Published(Published::TooFew { have, need })
        }
        Err(error) => Origin::Published(Published::NotFitted(error)),
    }
}
