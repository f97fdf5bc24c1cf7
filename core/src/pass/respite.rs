//! When a wish whose plan is over may be written again.

use crate::model::{PlanName, Span, Timestamp};
use std::collections::BTreeMap;

/// A wish whose plan came to its end is not written again before this time has passed: whatever ended it may still
/// hold. The time doubles with each further plan that the same wish came to nothing with lately.
const RESPITE: Span = Span::from_secs(60);
/// The longest such time: what was in the way may be gone, and a node is overloaded.
const LONGEST_RESPITE: Span = Span::from_secs(8 * 60);
/// Ends longer ago than this no longer count.
const LATELY: Span = Span::from_secs(3600);

/// The first round of a wish whose plan is not over; none while the last one ended too short a time ago.
pub(super) fn round(
    over: &BTreeMap<PlanName, Timestamp>,
    now: Timestamp,
    name: impl Fn(u32) -> PlanName,
) -> Option<u32> {
    let ends: Vec<Timestamp> = (0..).map_while(|round| over.get(&name(round)).copied()).collect();
    let latest = ends.iter().max().copied();
    let lately = ends.iter().filter(|&&ended| now.since(ended) < LATELY).count();
    let doublings = u32::try_from(lately.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
    let respite = RESPITE.saturating_mul(1 << doublings).min(LONGEST_RESPITE);
    let round = u32::try_from(ends.len()).ok()?;
    latest.is_none_or(|ended| now.since(ended) >= respite).then_some(round)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_that_stays_blocked_is_written_ever_more_seldom() {
        let name = |round| PlanName::new(format!("wish-{round}"));
        let mut over = BTreeMap::new();
        let (mut now, mut begun) = (Timestamp::from_secs(1_000_000), Vec::new());
        let start = now;
        while now.since(start) < Span::from_secs(2 * 3600) {
            if let Some(round) = round(&over, now, name) {
                begun.push(now.since(start).as_secs());
                // Each plan waits a minute and expires.
                over.insert(name(round), now + Span::from_secs(60));
                now = now + Span::from_secs(60);
            }
            now = now + Span::from_secs(1);
        }
        let waits: Vec<u64> = begun.windows(2).map(|pair| pair[1] - pair[0] - 60).collect();
        assert_eq!(waits[..4], [60, 120, 240, 480]);
        assert!(waits[4..].iter().all(|&wait| wait == 480), "{waits:?}");
        // A day later nobody remembers, and the first wait is short again.
        let later = now + Span::from_secs(24 * 3600);
        let last = u32::try_from(begun.len()).unwrap();
        assert_eq!(round(&over, later, name), Some(last));
        over.insert(name(last), later);
        assert_eq!(round(&over, later + Span::from_secs(59), name), None);
        assert_eq!(round(&over, later + Span::from_secs(60), name), Some(last + 1));
    }
}
