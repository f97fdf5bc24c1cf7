//! What was measured, kept as long as the longest window asks for and no longer.
//!
//! A history is two rings of fixed size: the last minute second by second, and the last two hours minute by
//! minute. So a window of 5 s (Reactive Cloud §5.2.3) and one of 30 min cost the same few hundred bytes a VM,
//! and memory stays flat whatever the policies ask for.

mod minutes;

use super::{Cores, NodeName, Span, Timestamp, Vm, VmKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The second-by-second ring, as a length and as a number of seconds.
const FINE: usize = 64;
const FINE_SECONDS: i64 = 64;
/// The minute-by-minute ring.
const COARSE: usize = 128;
const COARSE_MINUTES: i64 = 128;
const MINUTE: i64 = 60;

/// A window counts as full when this share of its seconds was measured.
const COVERAGE: f64 = 0.8;

/// Samples older than this are no basis for anything (`SPECIFICATION.md`, rule 8).
const DEFAULT_STALE_AFTER: Span = Span::from_secs(3);

/// The average over a window, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum WindowAverage {
    /// Nothing was ever measured.
    Never,
    /// The newest sample is too old to act on.
    Stale {
        /// How old it is.
        age: Span,
    },
    /// Fresh, but the window is not full yet.
    Filling {
        /// Seconds measured within the window.
        have: u32,
        /// Seconds the window wants.
        want: u32,
    },
    /// Fresh and full.
    Full(Cores),
}

impl WindowAverage {
    /// The average, if the window is full.
    #[must_use]
    pub fn full(self) -> Option<Cores> {
        match self {
            Self::Full(cores) => Some(cores),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct MinuteBucket {
    sum: f32,
    count: u8,
}

/// The rings live on the heap: a map of histories then pays only for those it holds, not for its spare room.
#[derive(Debug, Clone)]
struct Rings {
    fine: [f32; FINE],
    coarse: [MinuteBucket; COARSE],
}

/// CPU use of one node or VM over the last two hours, in cores.
#[derive(Debug, Clone)]
pub struct LoadHistory {
    /// The newest sample's moment.
    newest: Option<Timestamp>,
    /// The first second covered since the history began.
    oldest: i64,
    stale_after: Span,
    shortest_window: Span,
    rings: Box<Rings>,
}

impl Default for LoadHistory {
    fn default() -> Self {
        Self::new(DEFAULT_STALE_AFTER)
    }
}

/// The place of the `index`-th second or minute in its ring.
fn slot(index: i64, size: i64) -> usize {
    usize::try_from(index.rem_euclid(size)).unwrap_or(0)
}

impl LoadHistory {
    /// The longest window that a history can answer for.
    pub const LONGEST_WINDOW: Span = Span::from_secs(120 * 60);

    /// An empty history whose samples are stale after `stale_after`: 3 s for agents, three scrape intervals for
    /// Prometheus.
    #[must_use]
    pub fn new(stale_after: Span) -> Self {
        Self {
            newest: None,
            oldest: 0,
            stale_after,
            shortest_window: Span::ZERO,
            rings: Box::new(Rings { fine: [f32::NAN; FINE], coarse: [MinuteBucket::default(); COARSE] }),
        }
    }

    /// Changes when samples count as stale, for a source that reports at another pace.
    pub fn set_stale_after(&mut self, stale_after: Span) {
        self.stale_after = stale_after;
    }

    /// Changes the shortest window that the source can answer for: one that reports every 30 s knows nothing of
    /// 5 s. A shorter window is taken as this one.
    pub fn set_shortest_window(&mut self, shortest_window: Span) {
        self.shortest_window = shortest_window;
    }

    /// Notes that `value` was in use during the last `covers` up to `at`. Samples that lie before the newest one
    /// are ignored: a history only grows forwards. After a gap longer than the rings it starts anew.
    pub fn push(&mut self, at: Timestamp, covers: Span, value: Cores) {
        let last = at.second();
        let covered = i64::try_from(covers.as_secs()).unwrap_or(0).clamp(1, 3600);
        let mut first = last - covered + 1;
        match self.newest {
            Some(newest) if at <= newest => return,
            Some(newest) if first <= newest.second() + COARSE_MINUTES * MINUTE => {
                let newest = newest.second();
                self.forget_gap(newest, last);
                // Of two samples within one second the later one counts.
                if last == newest {
                    self.forget_second(last);
                }
                first = first.max(newest + 1).min(last);
            }
            _ => {
                *self = Self { shortest_window: self.shortest_window, ..Self::new(self.stale_after) };
                self.oldest = first;
            }
        }
        self.record(first, last, value);
        self.newest = Some(at);
    }

    #[allow(clippy::cast_possible_truncation)] // seven digits of a core are far beyond what is measured
    fn record(&mut self, first: i64, last: i64, value: Cores) {
        let value = value.value() as f32;
        for second in first.max(last - FINE_SECONDS + 1)..=last {
            self.rings.fine[slot(second, FINE_SECONDS)] = value;
        }
        for minute in first.div_euclid(MINUTE)..=last.div_euclid(MINUTE) {
            let seconds = last.min(minute * MINUTE + MINUTE - 1) - first.max(minute * MINUTE) + 1;
            let bucket = &mut self.rings.coarse[slot(minute, COARSE_MINUTES)];
            bucket.sum += value * seconds as f32;
            bucket.count += u8::try_from(seconds).unwrap_or(0);
        }
    }

    fn forget_second(&mut self, second: i64) {
        let value = std::mem::replace(&mut self.rings.fine[slot(second, FINE_SECONDS)], f32::NAN);
        if !value.is_nan() {
            let bucket = &mut self.rings.coarse[slot(second.div_euclid(MINUTE), COARSE_MINUTES)];
            bucket.sum = (bucket.sum - value).max(0.0);
            bucket.count = bucket.count.saturating_sub(1);
        }
    }

    /// Empties the slots between the newest sample and `last`, which still hold values from a ring ago.
    fn forget_gap(&mut self, newest: i64, last: i64) {
        for second in (newest + 1).max(last - FINE_SECONDS + 1)..=last {
            self.rings.fine[slot(second, FINE_SECONDS)] = f32::NAN;
        }
        let (newest, last) = (newest.div_euclid(MINUTE), last.div_euclid(MINUTE));
        for minute in (newest + 1).max(last - COARSE_MINUTES + 1)..=last {
            self.rings.coarse[slot(minute, COARSE_MINUTES)] = MinuteBucket::default();
        }
    }

    /// When the newest sample was taken.
    #[must_use]
    pub fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// The newest value, however old.
    #[must_use]
    pub fn latest(&self) -> Option<Cores> {
        let value = self.rings.fine[slot(self.newest?.second(), FINE_SECONDS)];
        Cores::new(f64::from(value)).ok()
    }

    /// Whether the newest sample is recent enough to act on.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.newest.is_some_and(|newest| now.since(newest) <= self.stale_after)
    }

    /// The average of the `window` that ends at the newest sample. Windows beyond a minute are taken minute by
    /// minute (rounded up), those beyond [`Self::LONGEST_WINDOW`] are cut to it.
    #[must_use]
    pub fn average(&self, now: Timestamp, window: Span) -> WindowAverage {
        let Some(newest) = self.newest else { return WindowAverage::Never };
        if !self.is_fresh(now) {
            return WindowAverage::Stale { age: now.since(newest) };
        }
        let newest = newest.second();
        let window = window.max(self.shortest_window).min(Self::LONGEST_WINDOW);
        let want = i64::try_from(window.as_secs()).unwrap_or(1).max(1);
        let (sum, have) =
            if want <= FINE_SECONDS { self.fine_sum(newest, want) } else { self.coarse_sum(newest, want) };
        let reaches_back = newest - self.oldest + 1 >= want;
        if reaches_back && f64::from(have) >= COVERAGE * want as f64 {
            Cores::new(sum / f64::from(have)).map_or(WindowAverage::Never, WindowAverage::Full)
        } else {
            WindowAverage::Filling { have, want: u32::try_from(want).unwrap_or(u32::MAX) }
        }
    }

    fn fine_sum(&self, newest: i64, want: i64) -> (f64, u32) {
        ((newest - want + 1).max(self.oldest)..=newest)
            .map(|second| self.rings.fine[slot(second, FINE_SECONDS)])
            .filter(|value| !value.is_nan())
            .fold((0.0, 0), |(sum, count), value| (sum + f64::from(value), count + 1))
    }

    fn coarse_sum(&self, newest: i64, want: i64) -> (f64, u32) {
        let first = (newest - want + 1).max(self.oldest).div_euclid(MINUTE);
        (first..=newest.div_euclid(MINUTE))
            .map(|minute| self.rings.coarse[slot(minute, COARSE_MINUTES)])
            .fold((0.0, 0), |(sum, count), bucket| (sum + f64::from(bucket.sum), count + u32::from(bucket.count)))
    }

    /// Since when every average of `window` has been below `threshold`, as far back as the last minute tells.
    /// It orders those who wait for the same place: first come, first served.
    #[must_use]
    pub fn below_since(&self, now: Timestamp, window: Span, threshold: Cores) -> Option<Timestamp> {
        let below = |cores: Cores| cores < threshold;
        if !self.average(now, window).full().is_some_and(below) {
            return None;
        }
        let newest = self.newest?.second();
        let want = i64::try_from(window.as_secs()).unwrap_or(1).clamp(1, FINE_SECONDS);
        let reach = (FINE_SECONDS - want).min(newest - self.oldest + 1 - want).max(0);
        let since = (1..=reach)
            .map(|back| newest - back)
            .take_while(|&end| {
                let (sum, have) = self.fine_sum(end, want);
                have > 0 && Cores::new(sum / f64::from(have)).is_ok_and(below)
            })
            .last()
            .unwrap_or(newest);
        Some(Timestamp::from_secs(since))
    }
}

/// The histories of every node and VM that is measured.
#[derive(Debug, Clone, Default)]
pub struct LoadTable {
    /// CPU in use on each node, everything on it included.
    pub nodes: BTreeMap<NodeName, LoadHistory>,
    /// CPU in use by each VM (its launcher pod).
    pub vms: BTreeMap<VmKey, LoadHistory>,
}

impl LoadTable {
    /// The load that a VM brings to the node that it is on its way to: its average over the window that it was admitted
    /// by. Of one that is not measured as long as that the newest sample counts, however old, and of one that never was
    /// all its vCPUs.
    #[must_use]
    pub fn brought_by(&self, vm: &Vm, now: Timestamp, window: Span) -> Cores {
        let known = self.vms.get(&vm.key);
        let average = known.and_then(|known| known.average(now, window).full());
        let all = || Cores::new(f64::from(vm.vcpus)).unwrap_or(Cores::ZERO);
        average.or_else(|| known?.latest()).unwrap_or_else(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Span = Span::from_secs(1);

    fn cores(value: f64) -> Cores {
        Cores::new(value).unwrap()
    }

    fn filled(values: &[f64]) -> LoadHistory {
        let mut history = LoadHistory::default();
        for (second, value) in (1000..).zip(values) {
            history.push(Timestamp::from_secs(second), SECOND, cores(*value));
        }
        history
    }

    #[test]
    fn a_window_is_full_only_after_its_length() {
        let five = Span::from_secs(5);
        let history = filled(&[1.0, 1.0, 1.0, 1.0]);
        assert_eq!(history.average(Timestamp::from_secs(1003), five), WindowAverage::Filling { have: 4, want: 5 });
        let history = filled(&[0.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(history.average(Timestamp::from_secs(1005), five), WindowAverage::Full(cores(1.0)));
    }

    #[test]
    fn old_samples_are_stale_not_averages() {
        let average = filled(&[1.0; 10]).average(Timestamp::from_secs(1013), Span::from_secs(5));
        assert_eq!(average, WindowAverage::Stale { age: Span::from_secs(4) });
    }

    #[test]
    fn a_gap_leaves_no_value_from_a_ring_ago() {
        let mut history = filled(&[4.0; 64]);
        history.push(Timestamp::from_secs(1103), SECOND, cores(1.0));
        let average = history.average(Timestamp::from_secs(1103), Span::from_secs(5));
        assert_eq!(average, WindowAverage::Filling { have: 1, want: 5 });
    }

    #[test]
    fn long_windows_come_from_minutes() {
        let mut history = LoadHistory::default();
        for second in 0..3600 {
            history.push(Timestamp::from_secs(second), SECOND, cores(if second < 1800 { 2.0 } else { 1.0 }));
        }
        let now = Timestamp::from_secs(3599);
        assert_eq!(history.average(now, Span::from_secs(1800)), WindowAverage::Full(cores(1.0)));
        assert_eq!(history.average(now, Span::from_secs(3600)), WindowAverage::Full(cores(1.5)));
    }

    #[test]
    fn a_scrape_covers_its_interval() {
        let mut history = LoadHistory::new(Span::from_secs(90));
        for scrape in 1..=10 {
            history.push(Timestamp::from_secs(scrape * 30), Span::from_secs(30), cores(0.5));
        }
        let average = history.average(Timestamp::from_secs(310), Span::from_secs(120));
        assert_eq!(average, WindowAverage::Full(cores(0.5)));
    }

    #[test]
    fn a_slow_source_answers_only_for_windows_it_can_tell() {
        let mut history = LoadHistory::new(Span::from_secs(90));
        history.set_shortest_window(Span::from_secs(120));
        history.push(Timestamp::from_secs(30), Span::from_secs(30), cores(0.5));
        let average = history.average(Timestamp::from_secs(30), Span::from_secs(5));
        assert_eq!(average, WindowAverage::Filling { have: 30, want: 120 });
    }

    #[test]
    fn samples_never_go_back_in_time_and_a_second_counts_once() {
        let mut history = filled(&[1.0; 10]);
        history.push(Timestamp::from_secs(900), SECOND, cores(100.0));
        assert_eq!(history.latest(), Some(cores(1.0)));
        history.push(Timestamp::from_millis(1_009_500), SECOND, cores(6.0));
        let average = history.average(Timestamp::from_secs(1010), Span::from_secs(5));
        assert_eq!(average, WindowAverage::Full(cores(2.0)));
    }

    #[test]
    fn who_came_first_is_known() {
        let history = filled(&[1.0, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]);
        // Windows of 5 s average 0.46 at second 1007 and 0.64 one second earlier.
        let since = history.below_since(Timestamp::from_secs(1011), Span::from_secs(5), cores(0.5));
        assert_eq!(since, Some(Timestamp::from_secs(1007)));
    }
}
