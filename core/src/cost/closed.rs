//! Pre-copy of a guest that writes at one rate and skips nothing, as a formula: Liu, eqs. 1 to 8.

use super::input::{Cost, CostError, Guest, Problem, positive, refuse, seconds};
use crate::model::{Bytes, BytesPerSecond, Seconds};

/// What the formulas say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClosedForm {
    /// λ = D/R (eq. 3): the smaller, the faster it converges.
    pub lambda: f64,
    /// n, the number of rounds after the first (eq. 8): a whole number.
    pub rounds: f64,
    /// V_mig (eq. 5), T_mig (eq. 6) and T_down (eq. 7).
    pub cost: Cost,
}

/// Eqs. 3 to 8 for a guest that is stopped when `threshold` is left (V_thd) and resumed within `resume` (T_resume).
/// They know no working set.
///
/// # Errors
/// A rate or a threshold of nothing, and a guest that writes as fast as is sent: there the formulas do not hold.
pub fn closed_form(
    guest: &Guest,
    rate: BytesPerSecond,
    threshold: Bytes,
    resume: Seconds,
) -> Result<ClosedForm, CostError> {
    let speed = positive("transmission rate", rate.value())?;
    let threshold = positive("threshold", threshold.0 as f64)?;
    let memory = guest.memory().0 as f64;
    let lambda = guest.dirty_rate().value() / speed;
    if lambda >= 1.0 {
        let problem = Problem::OutOfRange { value: lambda, least: 0.0, most: 1.0, unit: " of the transmission rate" };
        return refuse("dirty rate", problem);
    }
    // Eq. 8, the least n with V_mem·λⁿ ≤ V_thd; what logarithms lose must not make it one more. A guest that writes
    // nothing is done after the first round.
    let rounds = match (memory <= threshold, lambda > 0.0) {
        (true, _) => 0.0,
        (false, false) => 1.0,
        (false, true) => ((threshold / memory).ln() / lambda.ln() - 1e-9).ceil(),
    };
    let last = memory * lambda.powf(rounds);
    let sum = (1.0 - lambda.powf(rounds + 1.0)) / (1.0 - lambda);
    let cost = Cost {
        time: seconds(memory * sum / speed),
        downtime: seconds(last / speed + resume.value()),
        degraded: Seconds::ZERO,
        traffic: Bytes::nearest(memory * sum),
    };
    Ok(ClosedForm { lambda, rounds, cost })
}
