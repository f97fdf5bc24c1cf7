//! A history minute by minute: what the loads of several VMs are added up by.

use super::{COVERAGE, LoadHistory, MINUTE, slot};
use crate::model::Timestamp;

/// A minute counts as measured when so many of its seconds were.
const LEAST_SECONDS: f64 = COVERAGE * MINUTE as f64;

impl LoadHistory {
    /// The mean use, in cores, of each of the `count` whole minutes that ended before or at `now`, the oldest first;
    /// none where too little of the minute was measured. The minutes are those of the clock, so that those of two
    /// histories are the same.
    pub fn minutes(&self, now: Timestamp, count: i64) -> impl Iterator<Item = Option<f64>> {
        let end = now.second().div_euclid(MINUTE);
        let known = self.newest.map(|newest| {
            let newest = newest.second().div_euclid(MINUTE);
            // Older slots hold younger minutes.
            self.oldest.div_euclid(MINUTE).max(newest - super::COARSE_MINUTES + 1)..=newest
        });
        (end - count..end).map(move |minute| {
            known.as_ref().filter(|known| known.contains(&minute))?;
            let bucket = self.rings.coarse[slot(minute, super::COARSE_MINUTES)];
            let seconds = f64::from(bucket.count);
            (seconds >= LEAST_SECONDS).then(|| f64::from(bucket.sum) / seconds)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cores, Span};

    /// A history that begins at second 90 and uses so many cores as minutes have passed since the epoch.
    fn rising(until: i64) -> LoadHistory {
        let mut history = LoadHistory::default();
        for second in 90..=until {
            let cores = Cores::new(second.div_euclid(MINUTE) as f64).unwrap();
            history.push(Timestamp::from_secs(second), Span::from_secs(1), cores);
        }
        history
    }

    fn minutes(history: &LoadHistory, now: i64, count: i64) -> Vec<Option<f64>> {
        history.minutes(Timestamp::from_secs(now), count).collect()
    }

    #[test]
    fn whole_minutes_are_told_and_those_that_were_hardly_measured_are_not() {
        // Minute 1 was measured for half, minute 5 has only begun.
        let history = rising(310);
        assert_eq!(minutes(&history, 310, 5), [None, None, Some(2.0), Some(3.0), Some(4.0)]);
        assert_eq!(minutes(&history, 359, 2), [Some(3.0), Some(4.0)]);
        assert_eq!(minutes(&history, 360, 2), [Some(4.0), None]);
        assert_eq!(minutes(&LoadHistory::default(), 360, 2), [None, None]);
    }

    #[test]
    fn no_minute_is_taken_for_one_from_a_ring_ago() {
        let history = rising(130 * 60 - 1);
        let told = minutes(&history, 130 * 60, 120);
        assert_eq!((told[0], told[119]), (Some(10.0), Some(129.0)));
        // An hour of silence: what is left is half the window.
        let told = minutes(&history, 190 * 60, 120);
        assert_eq!((told[0], told[59], told[60]), (Some(70.0), Some(129.0), None));
        // Asked for a time that nothing is kept of any more.
        assert_eq!(minutes(&rising(200 * 60), 5 * 60, 3), [None; 3]);
    }
}
