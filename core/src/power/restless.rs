//! Nodes that will not stay asleep: a device that wakes them at once, a driver that refuses, a network card that wakes on
//! ordinary traffic. Each attempt costs a while without the node, so after a few in a row it is left awake, and tried again
//! ever more seldom.

use crate::model::{Restless, Span, Timestamp};

/// So many attempts in a row fail before the node is left awake.
pub const FEW: u32 = 3;

/// A sleep that the node itself ended within this time was none: it was not asked for, and nobody's clock ran out.
pub(super) const SOON: Span = Span::from_secs(600);

/// After the first few attempts the node is left awake for this time, then for twice that, and so on …
const LEFT_AWAKE: Span = Span::from_secs(6 * 3600);

/// … up to this.
const LEFT_AWAKE_AT_MOST: Span = Span::from_secs(7 * 24 * 3600);

/// As many characters of a reason as are kept: what is written must be what is read back.
const LONGEST_WHY: usize = 500;

/// What an agent's refusal holds when it tries no more.
pub(super) const STOPPED_TRYING: &str = "suspends in a row failed";

/// What one holds, though it is about an order that it took, when something came up at the last moment or it was restarted:
/// no fault of the machine's.
const NOT_THE_MACHINES: [&str; 2] = ["given up at the last moment", "the agent was restarted"];

/// Whether an agent's refusal is about its machine, and so comes again: a sleep that failed, a clock that is wrong. What is
/// on the node, or was for a moment, goes by itself.
pub(super) fn is_the_machines(refusal: &str) -> bool {
    let begins = ["order ", "after order ", "the order is "].iter().any(|begin| refusal.starts_with(begin));
    refusal.contains(STOPPED_TRYING) || begins && !NOT_THE_MACHINES.iter().any(|words| refusal.contains(words))
}

/// One more attempt in vain, after those of before.
pub(super) fn again(before: Option<&Restless>, why: &str, now: Timestamp) -> Restless {
    let times = before.map_or(0, |before| before.times).saturating_add(1);
    let doublings = times.saturating_sub(FEW).min(16);
    let pause = LEFT_AWAKE.saturating_mul(1 << doublings).min(LEFT_AWAKE_AT_MOST);
    let until = (times >= FEW).then(|| now + pause);
    Restless { times, until, why: why.chars().take(LONGEST_WHY).collect() }
}

/// The same, to be tried once more.
pub(super) fn tried_again(restless: &Restless) -> Restless {
    Restless { until: None, ..restless.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_week() {
        let mut now = Timestamp::from_secs(1_000_000);
        let mut restless = None;
        let mut hours = Vec::new();
        for _ in 0..12 {
            let next = again(restless.as_ref(), &"x".repeat(2000), now);
            assert_eq!(next.why.len(), LONGEST_WHY);
            hours.push(next.until.map(|until| until.since(now).as_secs() / 3600));
            now = next.until.unwrap_or(now);
            restless = Some(tried_again(&next));
        }
        let expected = [6, 12, 24, 48, 96, 168, 168, 168, 168, 168].map(Some);
        assert_eq!(hours, [&[None, None][..], &expected].concat());
    }
}
