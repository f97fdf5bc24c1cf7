//! Several migrations on one link. Each gets an equal part of it, but none more than its own limit, and what one does not
//! take goes to the others: max-min fairness, as SimGrid has it, on which the thesis builds (section 5.3.3).

use super::input::{CostError, Guest, Problem, positive, refuse};
use super::precopy::{Course, PreCopy};
use super::rounds::Rounds;
use crate::model::{BytesPerSecond, Seconds};

/// A migration on a shared link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contender {
    /// Who.
    pub guest: Guest,
    /// How.
    pub model: PreCopy,
    /// When it begins.
    pub begins: Seconds,
    /// The most it may take of the link.
    pub limit: Option<BytesPerSecond>,
}

/// More steps than any link needs; a bound, so that bad figures end.
const MOST_STEPS: usize = 1_000_000;

struct Running<'a> {
    index: usize,
    rounds: Rounds<'a>,
    limit: f64,
    /// Of the present round.
    left: f64,
    took: f64,
}

/// What each of them comes to, in their order.
///
/// # Errors
/// A link or a limit of nothing, and contenders with coefficients that were fitted for one migration alone elsewhere:
/// their rate on a shared link is not known beforehand.
pub fn on_one_link(link: BytesPerSecond, contenders: &[Contender]) -> Result<Vec<Course>, CostError> {
    let capacity = positive("link", link.value())?;
    for contender in contenders {
        contender.limit.map_or(Ok(1.0), |limit| positive("rate limit", limit.value()))?;
        if contender.model.skipping.fitted.is_some() {
            return refuse(
                "skipping",
                Problem::Unfit("a fit for one rate says nothing about a shared link; use one without a range"),
            );
        }
    }
    let mut waiting: Vec<(f64, usize)> =
        contenders.iter().enumerate().map(|(index, one)| (one.begins.value(), index)).collect();
    waiting.sort_by(|one, other| other.partial_cmp(one).unwrap_or(std::cmp::Ordering::Equal));
    let mut running: Vec<Running<'_>> = Vec::new();
    let mut done: Vec<Option<Course>> = vec![None; contenders.len()];
    let mut now = 0.0;
    for _ in 0..MOST_STEPS {
        while waiting.last().is_some_and(|(begins, _)| *begins <= now || running.is_empty()) {
            let Some((begins, index)) = waiting.pop() else { break };
            now = begins.max(now);
            let one = &contenders[index];
            let memory = one.guest.memory().0 as f64;
            let limit = one.limit.map_or(f64::INFINITY, BytesPerSecond::value);
            let rounds = Rounds::new(one.model, one.guest, memory, &[]);
            running.push(Running { index, rounds, limit, left: memory, took: 0.0 });
        }
        if running.is_empty() {
            break;
        }
        let parts = max_min(capacity, &running.iter().map(|one| one.limit).collect::<Vec<_>>());
        let first_done = running.iter().zip(&parts).map(|(one, part)| one.left / part).fold(f64::INFINITY, f64::min);
        let arrives = waiting.last().map_or(f64::INFINITY, |(begins, _)| begins - now);
        let step = first_done.min(arrives);
        now += step;
        for (one, part) in running.iter_mut().zip(&parts) {
            (one.left, one.took) = (one.left - part * step, one.took + step);
            // What is left by rounding is less than a thousandth of a byte.
            if one.left > 1e-3 && one.left / part > 1e-9 {
                continue;
            }
            let took = one.took.max(f64::MIN_POSITIVE);
            if let Some(ended) = one.rounds.round(took, *part) {
                done[one.index] = Some(one.rounds.clone().course(ended));
            }
            (one.left, one.took) = (one.rounds.volume, 0.0);
        }
        running.retain(|one| done[one.index].is_none());
    }
    let unfinished =
        || CostError { field: "migrations", problem: Problem::Unfit("they take more steps than are followed") };
    done.into_iter().map(|course| course.ok_or_else(unfinished)).collect()
}

/// The parts of a link: equal, but none above its limit, and nothing is left over that somebody could take.
fn max_min(capacity: f64, limits: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..limits.len()).collect();
    order.sort_by(|one, other| limits[*one].total_cmp(&limits[*other]));
    let mut parts = vec![0.0; limits.len()];
    let mut left = capacity;
    for (taken, index) in order.iter().enumerate() {
        let fair = left / (limits.len() - taken) as f64;
        parts[*index] = limits[*index].min(fair);
        left = (left - parts[*index]).max(0.0);
    }
    parts
}
