//! What an agent tells of the time before its stream began, so that a new replica's windows are full at once.
//!
//! Each moment is counted back from the sample that brings it, whose own moment is judged by our clock, so old figures
//! can't pass for new ones: whether a history is fresh is still decided by its newest sample.

use super::{
    judge::{self, Refusal},
    store::Source,
};
use miyako_api::wire::{MAX_PAST_SAMPLES, OLDEST_PAST};
use miyako_core::model::{Cores, LoadHistory, Span, Timestamp};

/// CPU at moments that grow.
pub(super) type Past = Vec<(Timestamp, Cores)>;

/// The CPU that a node or VM used in the samples before the one of `at`, `age_ms` of each counted back from there.
/// Where there are fewer figures than ages, they belong to the last ones.
///
/// # Errors
/// When ages do not fall or reach too far back, or a figure can't be on a node with `capacity`.
pub(super) fn judged(
    cpu_cores: &[f32],
    age_ms: &[u32],
    at: Timestamp,
    capacity: Option<Cores>,
) -> Result<Past, Refusal> {
    if age_ms.len() > MAX_PAST_SAMPLES || cpu_cores.len() > age_ms.len() {
        return Err(Refusal::BadPast { what: "it has too many samples, or figures without an age" });
    }
    if !age_ms.is_sorted_by(|older, newer| older > newer) || age_ms.last() == Some(&0) {
        return Err(Refusal::BadPast { what: "past_age_ms does not fall from sample to sample" });
    }
    if age_ms.first().is_some_and(|&oldest| u128::from(oldest) > OLDEST_PAST.as_millis()) {
        return Err(Refusal::BadPast { what: "past_age_ms reaches too far back" });
    }
    let ages = &age_ms[age_ms.len() - cpu_cores.len()..];
    ages.iter()
        .zip(cpu_cores)
        .map(|(&age, &cores)| {
            let cores = judge::cpu("past_cpu_cores", f64::from(cores), capacity)?;
            Ok((at - Span::from_millis(u64::from(age)), cores))
        })
        .collect()
}

/// Enters what is newer than the history. `steps` tells how long a sample stands for.
pub(super) fn enter(
    history: &mut LoadHistory,
    past: &[(Timestamp, Cores)],
    steps: impl Fn(Option<Timestamp>, Timestamp) -> Span,
) {
    history.set_stale_after(Source::Agent.stale_after());
    history.set_shortest_window(Source::Agent.shortest_window());
    for &(at, cores) in past {
        history.push(at, steps(history.newest(), at), cores);
    }
}
