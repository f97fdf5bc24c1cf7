//! Whether a shared node had room for a VM all along: its VMs' loads and the newcomer's, added up minute by minute.
//!
//! A VM comes back in a quiet moment, and a node looks roomy in one. Averages over seconds pack everybody at that
//! moment; what they use together the rest of the time shows only when their minutes are added up.

use super::NoPlace;
use super::draft::Place;
use crate::model::{Cores, LoadHistory, Policy, Timestamp};
use std::cell::OnceCell;

/// The share of the minutes in which the sum must stay below the admission threshold.
const PERCENTILE: f64 = 0.95;

/// A VM on a shared node or on its way there.
#[derive(Clone, Copy)]
pub(super) struct Tenant<'a> {
    pub(super) vcpus: u32,
    pub(super) load: Option<&'a LoadHistory>,
    /// It runs here, so the node's own average shows it.
    pub(super) runs_here: bool,
}

/// Who is on a shared node or on the way there, and what they used together; added up when somebody first asks.
#[derive(Default)]
pub(super) struct JointLoad<'a> {
    tenants: Vec<Tenant<'a>>,
    minutes: OnceCell<Vec<f64>>,
}

impl<'a> JointLoad<'a> {
    /// Counts one more.
    pub(super) fn add(&mut self, tenant: Tenant<'a>) {
        self.tenants.push(tenant);
        self.minutes.take();
    }

    /// Cores used in each minute, by all VMs and whatever else runs here.
    fn minutes(&self, load: Cores, policy: &Policy, now: Timestamp) -> &[f64] {
        self.minutes.get_or_init(|| {
            let window = policy.thresholds.overload_window;
            let mut here = 0.0;
            let mut sums = vec![0.0; usize::try_from(policy.thresholds.admission_minutes()).unwrap_or(0)];
            for tenant in &self.tenants {
                let average = tenant.load.and_then(|load| load.average(now, window).full());
                here += average.filter(|_| tenant.runs_here).map_or(0.0, Cores::value);
                for (sum, minute) in sums.iter_mut().zip(minutes_of(tenant, policy, now)) {
                    *sum += minute;
                }
            }
            let others = (load.value() - here).max(0.0);
            sums.iter_mut().for_each(|sum| *sum += others);
            sums
        })
    }
}

/// Cores that a VM used in each minute of the admission window. A minute that was not measured counts as the busiest
/// that was, and one of a VM that never was as all its vCPUs.
pub(super) fn minutes_of(tenant: &Tenant<'_>, policy: &Policy, now: Timestamp) -> Vec<f64> {
    let count = policy.thresholds.admission_minutes();
    let unmeasured = || vec![None; usize::try_from(count).unwrap_or(0)];
    let known: Vec<Option<f64>> = tenant.load.map_or_else(unmeasured, |load| load.minutes(now, count).collect());
    let busiest = known.iter().flatten().copied().reduce(f64::max);
    let latest = || tenant.load?.latest().map(Cores::value);
    let unknown = busiest.or_else(latest).unwrap_or_else(|| f64::from(tenant.vcpus));
    known.into_iter().map(|minute| minute.unwrap_or(unknown)).collect()
}

/// Whether a shared node whose average is `load` would have stayed below its admission threshold with a VM that used
/// `own` cores in each minute.
///
/// # Errors
/// What it would have come to.
pub(super) fn admits(
    policy: &Policy,
    own: &[f64],
    place: &Place<'_>,
    load: Cores,
    now: Timestamp,
) -> Result<(), NoPlace> {
    if own.is_empty() {
        return Ok(());
    }
    let mut sums: Vec<f64> =
        place.joint.minutes(load, policy, now).iter().zip(own).map(|(theirs, own)| theirs + own).collect();
    let predicted = Cores::new(percentile(&mut sums)).unwrap_or_default().percent_of(place.capacity());
    let thresholds = &policy.thresholds;
    if predicted < thresholds.admission {
        Ok(())
    } else {
        Err(NoPlace::PastLoad { predicted, admission: thresholds.admission, window: thresholds.admission_window })
    }
}

/// The value that [`PERCENTILE`] of them do not exceed.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank among a hundred minutes")]
fn percentile(values: &mut [f64]) -> f64 {
    let rank = (PERCENTILE * values.len() as f64).ceil() as usize;
    let Some(at) = rank.checked_sub(1).filter(|&at| at < values.len()) else { return 0.0 };
    *values.select_nth_unstable_by(at, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn of_thirty_minutes_the_busiest_may_lie_above() {
        let mut minutes: Vec<f64> = (0..30).map(f64::from).rev().collect();
        assert!((percentile(&mut minutes) - 28.0).abs() < f64::EPSILON);
        assert!((percentile(&mut [3.0, 4.0]) - 4.0).abs() < f64::EPSILON);
        assert!(percentile(&mut []).abs() < f64::EPSILON);
    }
}
