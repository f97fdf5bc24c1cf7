//! How a guest writes, from the pages it was seen to write: unique pages against time, as the relay counts them round by
//! round. They grow by D a second until the working set W is written once, and then no more.

use super::input::{CostError, Problem, refuse};
use crate::model::{Bytes, BytesPerSecond, Seconds};

/// How a guest writes, as it was fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dirtying {
    /// D.
    pub rate: BytesPerSecond,
    /// W; of a guest that was never watched for long enough, the most that was seen.
    pub working_set: Bytes,
    /// The working set was reached: it is no larger.
    pub reached: bool,
    /// How many observations there were.
    pub samples: usize,
    /// The share of the observations' variation that `min(D·t, W)` explains, without the wild ones.
    pub r_squared: f64,
}

/// Beyond so many standard deviations an observation is wild.
const WILD: f64 = 5.0;

/// Fits `min(D·t, W)` to what was dirty after a time. Each bend between two observations is tried: D is the median of the
/// observations before it and W the median of those after it. The bend that leaves the least error is taken, and wild
/// observations count alike whatever their error. Up to half of those on either side may be wild.
///
/// # Errors
/// Fewer than four observations, or observations that took no time.
pub fn fit_dirtying(observed: &[(Seconds, Bytes)]) -> Result<Dirtying, CostError> {
    const NEED: usize = 4;
    if observed.len() < NEED {
        return refuse("observations", Problem::TooFew { have: observed.len(), need: NEED });
    }
    if observed.iter().any(|(time, _)| *time <= Seconds::ZERO) {
        return refuse("time of an observation", Problem::NotPositive);
    }
    let mut points: Vec<(f64, f64)> = observed.iter().map(|(time, dirty)| (time.value(), dirty.0 as f64)).collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
    // Behind the bend there are none, or enough for a median to mean something.
    let bends = (1..=points.len() - 3).chain([points.len()]);
    let curves: Vec<(f64, Option<f64>)> = bends
        .map(|bend| {
            let (before, behind) = points.split_at(bend);
            let rate = median(before.iter().map(|(time, dirty)| dirty / time).collect());
            (rate, (!behind.is_empty()).then(|| median(behind.iter().map(|(_, dirty)| *dirty).collect())))
        })
        .collect();
    let errors = |(rate, set): &(f64, Option<f64>)| -> Vec<f64> {
        points.iter().map(|(time, dirty)| (dirty - curve(*rate, *set, *time)).abs()).collect()
    };
    // An error counts no more than that of a wild observation. How much that is, the best of the curves tells.
    let usual = curves.iter().map(|one| median(errors(one))).fold(f64::INFINITY, f64::min);
    let wild = WILD * 1.4826 * usual.max(1.0);
    let capped = |one: &(f64, Option<f64>)| errors(one).into_iter().map(|error| error.min(wild)).sum::<f64>();
    let best = curves.iter().min_by(|one, other| capped(one).total_cmp(&capped(other)));
    let Some((rate, working_set)) = best.copied() else {
        return refuse("observations", Problem::TooAlike);
    };
    let tame: Vec<(f64, f64)> = points
        .iter()
        .filter(|(time, dirty)| (dirty - curve(rate, working_set, *time)).abs() <= wild)
        .copied()
        .collect();
    let mean = tame.iter().map(|(_, dirty)| dirty).sum::<f64>() / tame.len().max(1) as f64;
    let around: f64 = tame.iter().map(|(_, dirty)| (dirty - mean).powi(2)).sum();
    let left: f64 = tame.iter().map(|(time, dirty)| (dirty - curve(rate, working_set, *time)).powi(2)).sum();
    let most = tame.iter().fold(0.0_f64, |most, (_, dirty)| most.max(*dirty));
    Ok(Dirtying {
        rate: BytesPerSecond::new(rate).unwrap_or(BytesPerSecond::ZERO),
        working_set: Bytes::nearest(working_set.unwrap_or(most)),
        reached: working_set.is_some(),
        samples: points.len(),
        r_squared: if around > 0.0 { 1.0 - left / around } else { 0.0 },
    })
}

fn curve(rate: f64, working_set: Option<f64>, time: f64) -> f64 {
    (rate * time).min(working_set.unwrap_or(f64::INFINITY))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
