//! What is printed.

use crate::process::Spent;
use std::time::Duration;

/// One overload, from the moment its window was full.
pub(crate) type Reaction = Duration;

/// The operator's pace: the wait for it is the design's, not a cost.
const TICK: Duration = Duration::from_secs(1);

/// What was measured.
pub(crate) struct Summary {
    pub(crate) calm: Spent,
    pub(crate) calm_requests: u64,
    pub(crate) busy: Spent,
    pub(crate) busy_requests: u64,
    pub(crate) peak: u64,
    pub(crate) reactions: Vec<Reaction>,
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The value below which this share of the sorted values lies.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // an index within the list
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}

impl Summary {
    pub(crate) fn print(mut self) {
        let per_tick = |spent: &Spent| 1e3 * spent.cpu_seconds / spent.seconds;
        println!("operator's CPU per tick, samples of all agents included:");
        println!(
            "  calm: {:.0} ms, {} API requests in {:.0} s",
            per_tick(&self.calm),
            self.calm_requests,
            self.calm.seconds
        );
        println!(
            "  acting: {:.0} ms, {} API requests in {:.0} s",
            per_tick(&self.busy),
            self.busy_requests,
            self.busy.seconds
        );
        if self.busy_requests > 0 {
            let more = self.busy.cpu_seconds - self.calm.cpu_seconds * self.busy.seconds / self.calm.seconds;
            println!(
                "  {:.1} ms per API request, the work around it included",
                1e3 * more.max(0.0) / self.busy_requests as f64
            );
        }
        println!("operator's memory: {:.0} MiB resident, {:.0} MiB at its peak", mib(self.calm.memory), mib(self.peak));
        if self.reactions.is_empty() {
            return;
        }
        self.reactions.sort_unstable();
        let ms = |share: f64| quantile(&self.reactions, share).as_millis();
        println!(
            "window full → migration created, {} overloads: median {} ms, p90 {} ms, p99 {} ms, longest {} ms",
            self.reactions.len(),
            ms(0.5),
            ms(0.9),
            ms(0.99),
            ms(1.0)
        );
        println!("  p99 beyond one tick: {} ms", quantile(&self.reactions, 0.99).saturating_sub(TICK).as_millis());
    }
}
