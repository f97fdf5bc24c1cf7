//! What a guest achieved in each second of the host's time, and what it should have.
//!
//! The guest counts, the host says when. Each report stands for the guest's time since the report before, so what it adds
//! was done in the span of that length before its arrival; a pause of the VM, which the guest's clock does not see, is the
//! rest of the gap between the two, and there nothing was done. Operations are targeted all the while: that is how a
//! downtime shows as failed operations.

use miyako_guest::channel::Report;
use std::time::Duration;
use tokio::time::Instant;

/// A report and when it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// By this machine's monotonic clock.
    pub at: Instant,
    /// What it says.
    pub report: Report,
}

/// All that was observed of one guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    observations: Vec<Observation>,
    /// From when on how many thousandths of an operation a second are targeted, in order.
    targets: Vec<(Instant, u64)>,
}

/// One second of the host's time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Second {
    /// Operations achieved.
    pub achieved: f64,
    /// Operations targeted.
    pub target: f64,
}

impl Second {
    /// Operations failed (Reactive Cloud §4.1.1). Never less than none: what a guest catches up it had failed before.
    #[must_use]
    pub fn failed(&self) -> f64 {
        (self.target - self.achieved).max(0.0)
    }
}

impl Ledger {
    /// Takes a report that is newer than all before. The first one's target counts until the host sets one.
    pub fn observe(&mut self, observation: Observation) {
        if self.targets.is_empty() {
            self.target(observation.at, observation.report.target_millis);
        }
        self.observations.push(observation);
    }

    /// From now on so many thousandths of an operation are targeted in a second.
    pub fn target(&mut self, from: Instant, millis: u64) {
        self.targets.push((from, millis));
    }

    /// What was observed, in order.
    #[must_use]
    pub fn observations(&self) -> &[Observation] {
        &self.observations
    }

    /// The seconds from `begin` on. Those before the first report have no target.
    #[must_use]
    pub fn seconds(&self, begin: Instant, count: usize) -> Vec<Second> {
        let mut seconds = vec![Second::default(); count];
        for pair in self.observations.windows(2) {
            let [before, after] = pair else { continue };
            let gap = after.at.saturating_duration_since(before.at);
            let lived = Duration::from_millis(after.report.uptime_ms.saturating_sub(before.report.uptime_ms)).min(gap);
            let done = after.report.operations.saturating_sub(before.report.operations) as f64;
            spread(&mut seconds, begin, after.at - lived, after.at, done, |second| &mut second.achieved);
        }
        let end = begin + Duration::from_secs(count as u64);
        for (index, (from, millis)) in self.targets.iter().enumerate() {
            let until = self.targets.get(index + 1).map_or(end, |(next, _)| *next).min(end);
            let span = until.saturating_duration_since(*from).as_secs_f64();
            spread(&mut seconds, begin, *from, until, *millis as f64 / 1000.0 * span, |second| &mut second.target);
        }
        seconds
    }
}

/// Spreads an amount evenly over a span, and adds to each second what falls into it.
fn spread(
    seconds: &mut [Second],
    begin: Instant,
    from: Instant,
    until: Instant,
    amount: f64,
    field: impl Fn(&mut Second) -> &mut f64,
) {
    // Relative to the beginning, which may lie within the span or after it.
    let offset = |at: Instant| match at.checked_duration_since(begin) {
        Some(after) => after.as_secs_f64(),
        None => -begin.saturating_duration_since(at).as_secs_f64(),
    };
    let (from, until) = (offset(from), offset(until));
    let span = until - from;
    for (index, second) in seconds.iter_mut().enumerate() {
        let start = index as f64;
        let within = |at: f64| (start..start + 1.0).contains(&at);
        if span > 0.0 {
            let overlap = (until.min(start + 1.0) - from.max(start)).max(0.0);
            *field(second) += amount * overlap / span;
        } else if within(until) {
            *field(second) += amount;
        }
    }
}

#[cfg(test)]
mod tests;
