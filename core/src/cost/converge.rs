//! Whether a running pre-copy will end: from what is seen of it, not from what was foretold.
//!
//! What is left to be sent falls while a round is sent, and jumps when the pages dirtied meanwhile are counted. The height
//! of the jumps is V_i. Pre-copy converges if they get smaller. It is compared over whole rounds, never between two
//! samples: within a round what is left always falls.

use super::input::seconds;
use crate::model::{Bytes, BytesPerSecond, Seconds};

/// A look at a running migration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Since its memory began to move.
    pub elapsed: Seconds,
    /// What is left to be sent.
    pub left: Bytes,
}

/// When it is said of a running pre-copy that it does not converge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patience {
    /// So many rounds one after the other, none of them smaller than the one before. Two, because a guest may write more
    /// for a moment.
    pub rounds: usize,
    /// A round is smaller if it is at most this share of the one before.
    pub smaller: f64,
    /// The rest is small enough to stop the guest (V_thd).
    pub threshold: Bytes,
}

impl Patience {
    /// Two rounds, none of which is 5 % smaller than the one before.
    #[must_use]
    pub const fn new(threshold: Bytes) -> Self {
        Self { rounds: 2, smaller: 0.95, threshold }
    }
}

/// What is seen of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Too few rounds to tell.
    TooEarly,
    /// Rounds get smaller, or have been small enough.
    Converging,
    /// They do not, since that time after its start: it would go on for as long as the guest writes so fast. It is ended,
    /// or switched to post-copy.
    NotConverging {
        /// The end of the last round that was smaller than the one before.
        since: Seconds,
    },
}

/// What the looks at a pre-copy, in the order of time, say about it.
#[must_use]
pub fn verdict(looks: &[Look], patience: Patience) -> Verdict {
    let peaks = peaks(looks);
    let threshold = patience.threshold.0;
    if looks.last().is_some_and(|look| look.left.0 <= threshold) {
        return Verdict::Converging;
    }
    if peaks.len() < 2 {
        return Verdict::TooEarly;
    }
    let is_smaller = |pair: &[Look]| pair[1].left.0 as f64 <= patience.smaller * pair[0].left.0 as f64;
    let stuck = peaks.windows(2).rev().take_while(|pair| !is_smaller(pair)).count();
    if stuck >= patience.rounds.max(1) {
        let since = peaks[peaks.len() - 1 - stuck].elapsed;
        Verdict::NotConverging { since }
    } else if stuck == 0 {
        Verdict::Converging
    } else {
        Verdict::TooEarly
    }
}

/// The height of each jump: what was left when a round began. The looks on either side are before and after it. In
/// between the rest of the old round was sent, and some of the new one: as much as is sent in that time, less that rest.
fn peaks(looks: &[Look]) -> Vec<Look> {
    let speed = speed(looks);
    let mut peaks: Vec<Look> = looks.first().copied().into_iter().collect();
    for pair in looks.windows(2) {
        let [before, after] = [pair[0].left.0 as f64, pair[1].left.0 as f64];
        if after > before + NOISE {
            let sent = speed * (pair[1].elapsed - pair[0].elapsed).value();
            peaks.push(Look { left: Bytes::nearest(after + (sent - before).max(0.0)), ..pair[1] });
        }
    }
    peaks
}

/// Two pages: no new round.
const NOISE: f64 = 2.0 * 4096.0;

/// How fast is sent: the median of what was between two looks of one round.
fn speed(looks: &[Look]) -> f64 {
    let falls = looks.windows(2).filter_map(|pair| {
        let (fell, time) = (pair[0].left.0 as f64 - pair[1].left.0 as f64, (pair[1].elapsed - pair[0].elapsed).value());
        (fell > 0.0 && time > 0.0).then(|| fell / time)
    });
    let mut falls: Vec<f64> = falls.collect();
    falls.sort_by(f64::total_cmp);
    falls.get(falls.len() / 2).copied().unwrap_or(0.0)
}

/// Another sign, for those who are told rates: the guest writes faster than is sent, at each of the last looks.
#[must_use]
pub fn outrun(rates: &[(BytesPerSecond, BytesPerSecond)], looks: usize) -> bool {
    rates.len() >= looks.max(1) && rates.iter().rev().take(looks.max(1)).all(|(dirty, sent)| dirty >= sent)
}

/// How long a migration may take that was foretold to take so long, before it is ended whatever is seen: twice as long,
/// and ten seconds.
#[must_use]
pub fn overdue_after(foretold: Seconds) -> Seconds {
    seconds(2.0 * foretold.value() + 10.0)
}
