//! Whom to move: Liu's synthetic cost (section 5, eq. 21), per core relieved.

use super::energy::WiredEnergy;
use super::input::{Cost, CostError, Problem, refuse, within};
use crate::model::{Cores, Joules};

/// a to d of Liu's eq. 21: how much downtime, time, traffic and energy count. Their sum is 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    downtime: f64,
    time: f64,
    traffic: f64,
    energy: f64,
}

impl Default for Weights {
    /// All alike: the paper gives none.
    fn default() -> Self {
        Self { downtime: 0.25, time: 0.25, traffic: 0.25, energy: 0.25 }
    }
}

impl Weights {
    /// Of downtime (a), time (b), traffic (c) and energy (d).
    ///
    /// # Errors
    /// A weight that is not from 0 to 1, or weights whose sum is not 1.
    pub fn new(downtime: f64, time: f64, traffic: f64, energy: f64) -> Result<Self, CostError> {
        for (field, value) in [
            ("weight of downtime", downtime),
            ("weight of time", time),
            ("weight of traffic", traffic),
            ("weight of energy", energy),
        ] {
            within(field, value, 0.0, 1.0)?;
        }
        let sum = downtime + time + traffic + energy;
        if (sum - 1.0).abs() > 1e-9 {
            let problem = Problem::OutOfRange { value: sum, least: 1.0, most: 1.0, unit: "" };
            return refuse("sum of the weights", problem);
        }
        Ok(Self { downtime, time, traffic, energy })
    }
}

/// A VM that could be moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate<K> {
    /// Who.
    pub key: K,
    /// What its node uses less once it is gone.
    pub relieves: Cores,
    /// What moving it costs.
    pub cost: Cost,
    /// What moving it draws.
    pub energy: Joules,
}

impl<K> Candidate<K> {
    /// With the energy that follows from its traffic.
    pub fn new(key: K, relieves: Cores, cost: Cost, model: &WiredEnergy) -> Self {
        Self { key, relieves, cost, energy: model.of(cost.traffic) }
    }
}

/// C of each candidate (Liu, eq. 21), in their order. Each part is a share of the most among them, so C is from 0 to 1.
///
/// The degraded time of post-copy counts half as downtime does: the guest runs, and waits now and then. Liu knows only
/// pre-copy, which has none.
#[must_use]
pub fn synthetic_costs<K>(candidates: &[Candidate<K>], weights: Weights) -> Vec<f64> {
    let parts: Vec<[f64; 4]> = candidates.iter().map(parts).collect();
    let most = parts.iter().fold([0.0_f64; 4], |most, part| std::array::from_fn(|index| most[index].max(part[index])));
    let share = |part: &[f64; 4], index: usize| if most[index] > 0.0 { part[index] / most[index] } else { 0.0 };
    let of = [weights.downtime, weights.time, weights.traffic, weights.energy];
    parts.iter().map(|part| (0..4).map(|index| of[index] * share(part, index)).sum()).collect()
}

fn parts<K>(candidate: &Candidate<K>) -> [f64; 4] {
    let cost = &candidate.cost;
    let down = cost.downtime.value() + 0.5 * cost.degraded.value();
    [down, cost.time.value(), cost.traffic.0 as f64, candidate.energy.value()]
}

/// The cheapest candidate per core relieved, of those whose move alone relieves the node of `needed`; if none does, of all
/// that relieve it of anything. Of equals the first by key. None if nobody relieves it.
///
/// Who is not to be moved at all, such as by a pre-copy that does not converge, is no candidate: leave it out.
#[must_use]
pub fn cheapest<K: Ord>(candidates: &[Candidate<K>], needed: Cores, weights: Weights) -> Option<&Candidate<K>> {
    ranked(candidates, needed, weights).into_iter().next()
}

/// All that relieve the node, in the order in which [`cheapest`] would take them.
#[must_use]
pub fn ranked<K: Ord>(candidates: &[Candidate<K>], needed: Cores, weights: Weights) -> Vec<&Candidate<K>> {
    let costs = synthetic_costs(candidates, weights);
    let mut ranked: Vec<(bool, f64, &Candidate<K>)> = candidates
        .iter()
        .zip(costs)
        .filter(|(candidate, _)| candidate.relieves > Cores::ZERO)
        .map(|(candidate, cost)| (candidate.relieves < needed, cost / candidate.relieves.value(), candidate))
        .collect();
    ranked.sort_by(|(some, cost, one), (other_some, other_cost, other)| {
        some.cmp(other_some).then(cost.total_cmp(other_cost)).then_with(|| one.key.cmp(&other.key))
    });
    ranked.into_iter().map(|(_, _, candidate)| candidate).collect()
}

/// How much more the chosen candidate cost per core than the cheapest would have, in hindsight: 0 is the best choice, 0.05
/// is 5 % more. `hindsight` holds the costs as they were measured, the same candidates as were chosen from.
///
/// # Errors
/// The chosen one is not among them, or nobody relieves the node.
pub fn regret<K: Ord>(
    chosen: &K,
    hindsight: &[Candidate<K>],
    needed: Cores,
    weights: Weights,
) -> Result<f64, CostError> {
    let costs = synthetic_costs(hindsight, weights);
    let per_core = |wanted: &K| {
        let found = hindsight.iter().zip(&costs).find(|(one, _)| one.key == *wanted && one.relieves > Cores::ZERO);
        found.map(|(one, cost)| cost / one.relieves.value())
    };
    let best = cheapest(hindsight, needed, weights).and_then(|best| per_core(&best.key));
    match (per_core(chosen), best) {
        (Some(paid), Some(best)) if best > 0.0 => Ok(paid / best - 1.0),
        (Some(_), Some(_)) => Ok(0.0),
        _ => refuse("chosen", Problem::Unfit("it is not among the candidates that relieve the node")),
    }
}
