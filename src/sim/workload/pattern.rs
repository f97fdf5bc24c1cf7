//! What a VM wants of the CPU at each moment, as a share of its vCPUs.

use super::chance::Chance;
use miyako_core::model::{Span, Timestamp, VmKey};
use std::collections::BTreeMap;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// How a VM's load goes over time.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    /// Always this share.
    Constant(f64),
    /// From each moment on (counted from `from`) this share; before the first step nothing.
    Steps {
        /// When the scenario begins.
        from: Timestamp,
        /// Moments in rising order, and the shares that hold from then on.
        steps: Vec<(Span, f64)>,
    },
    /// The random one-hour scenarios of Reactive Cloud §4.1.5: active at 80 to 100 % with a probability of 20 %, else
    /// 0 to 30 %, each state for 60 to 300 s.
    RandomHours,
    /// A desktop or an application people work with: busy on weekdays from 8 to 18 o'clock, less at noon.
    Office,
    /// Jobs that run for some hours of each night at full load.
    NightBatch,
    /// A web server: follows the day, its peak in the evening; now and then a crowd comes.
    Web,
}

impl Pattern {
    /// Fig. 6 of Reactive Cloud, for VM `index` of its six: all at 10 %; VM 0 at 95 % from second 60 to 180, VM 1 from
    /// second 120 on.
    #[must_use]
    pub fn reactive_cloud_figure_6(from: Timestamp, index: usize) -> Self {
        let step = |seconds: u64, share: f64| (Span::from_secs(seconds), share);
        let steps = match index {
            0 => vec![step(0, 0.10), step(60, 0.95), step(180, 0.10)],
            1 => vec![step(0, 0.10), step(120, 0.95)],
            _ => vec![step(0, 0.10)],
        };
        Self::Steps { from, steps }
    }

    fn share(&self, chance: Chance, at: Timestamp) -> f64 {
        match self {
            Self::Constant(share) => *share,
            Self::Steps { from, steps } if at >= *from => {
                let elapsed = at.since(*from);
                steps.iter().take_while(|(begins, _)| *begins <= elapsed).last().map_or(0.0, |(_, share)| *share)
            }
            Self::Steps { .. } => 0.0,
            Self::RandomHours => random_hour(chance, at.second()),
            Self::Office => office(chance, at.second()),
            Self::NightBatch => night_batch(chance, at.second()),
            Self::Web => web(chance, at.second()),
        }
    }
}

/// What every VM of a cluster wants.
#[derive(Debug, Clone, Default)]
pub struct Workload {
    /// All chance follows from it.
    pub seed: u64,
    /// The VMs' patterns; a VM without one is idle.
    pub patterns: BTreeMap<VmKey, Pattern>,
    /// How much a second differs from the pattern at most, as a share of the vCPUs: 0.02 is ±2 %.
    pub noise: f64,
}

impl Workload {
    /// A share of the VM's vCPUs, from 0 to 1.
    #[must_use]
    pub fn demand(&self, vm: &VmKey, at: Timestamp) -> f64 {
        let Some(pattern) = self.patterns.get(vm) else { return 0.0 };
        let chance = Chance::new(self.seed, &vm.to_string());
        let noise = self.noise * chance.of(0, at.second()).between(-1.0, 1.0);
        (pattern.share(chance, at) + noise).clamp(0.0, 1.0)
    }
}

/// The state a VM is in, hour by hour: each begins with a new state, and each state lasts for 60 to 300 s.
fn random_hour(chance: Chance, second: i64) -> f64 {
    let (hour, within) = (second.div_euclid(HOUR), second.rem_euclid(HOUR) as f64);
    let chance = chance.of(1, hour);
    let mut ends = 0.0;
    // States last at least a minute, so an hour has at most sixty.
    for state in 0..60 {
        ends += chance.of(2, state).between(60.0, 300.0);
        if within < ends {
            let level = chance.of(3, state);
            let active = chance.of(4, state).unit() < 0.2;
            return if active { level.between(0.8, 1.0) } else { level.between(0.0, 0.3) };
        }
    }
    0.0
}

/// Days since the first Monday of the epoch (1970-01-05), and the second of the day.
fn day(second: i64) -> (i64, i64) {
    let since_monday = second - 4 * DAY;
    (since_monday.div_euclid(DAY), since_monday.rem_euclid(DAY))
}

/// 0 outside, 1 inside, with slopes of this many hours before and after.
fn plateau(hour: f64, begins: f64, ends: f64, slope: f64) -> f64 {
    let rise = ((hour - begins) / slope + 1.0).clamp(0.0, 1.0);
    let fall = ((ends - hour) / slope + 1.0).clamp(0.0, 1.0);
    rise.min(fall)
}

/// In working hours somebody does something every few minutes; each VM comes a little earlier or later.
fn office(chance: Chance, second: i64) -> f64 {
    let (day, of_day) = day(second);
    let hour = of_day as f64 / HOUR as f64 + chance.of(10, 0).between(-0.5, 0.5);
    let weekday = day.rem_euclid(7) < 5;
    let present = if weekday { plateau(hour, 8.5, 17.5, 1.0) - 0.5 * plateau(hour, 12.2, 12.8, 0.4) } else { 0.02 };
    let slot = second.div_euclid(5 * MINUTE);
    let works = chance.of(11, slot).unit() < 0.4 * present;
    let level = chance.of(12, slot);
    if works { level.between(0.5, 1.0) } else { 0.02 + present * level.between(0.03, 0.2) }
}

/// One run a night, from some moment between 21 and 2 o'clock on, for one to four hours.
fn night_batch(chance: Chance, second: i64) -> f64 {
    // Noon to noon, so that a night is one piece.
    let night = (second - 12 * HOUR).div_euclid(DAY);
    let since_noon = (second - 12 * HOUR).rem_euclid(DAY) as f64 / HOUR as f64;
    let begins = chance.of(20, night).between(9.0, 14.0);
    let lasts = chance.of(21, night).between(1.0, 4.0);
    let runs = (begins..begins + lasts).contains(&since_noon);
    let level = chance.of(22, second.div_euclid(MINUTE));
    if runs { level.between(0.9, 1.0) } else { level.between(0.01, 0.04) }
}

/// A curve with its trough at 4 and its peak at 20 o'clock; one hour in forty a crowd comes for ten minutes.
fn web(chance: Chance, second: i64) -> f64 {
    let (_, of_day) = day(second);
    let hour = of_day as f64 / HOUR as f64 + chance.of(30, 0).between(-1.0, 1.0);
    let wave = if (4.0..=20.0).contains(&hour) {
        0.5 - 0.5 * ((hour - 4.0) / 16.0 * std::f64::consts::PI).cos()
    } else {
        // From the peak at 20 down to the trough at 4, in eight hours.
        0.5 + 0.5 * ((hour - 20.0).rem_euclid(24.0) / 8.0 * std::f64::consts::PI).cos()
    };
    let busiest = chance.of(31, 0).between(0.2, 0.6);
    let this_hour = second.div_euclid(HOUR);
    let crowd_comes = chance.of(32, this_hour).between(0.0, 50.0 * MINUTE as f64);
    let since_crowd = second.rem_euclid(HOUR) as f64 - crowd_comes;
    let crowd = chance.of(33, this_hour).unit() < 0.025 && (0.0..10.0 * MINUTE as f64).contains(&since_crowd);
    let jitter = chance.of(34, second.div_euclid(30)).between(-0.04, 0.04);
    if crowd { chance.of(35, this_hour).between(0.85, 1.0) } else { (0.03 + busiest * wave + jitter).max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-05, a Monday.
    const MONDAY: i64 = 1_767_571_200;

    fn workload(pattern: Pattern) -> (Workload, Vec<VmKey>) {
        let vms: Vec<VmKey> = (0..50).map(|index| VmKey::new("ns", format!("vm-{index}"))).collect();
        let patterns = vms.iter().map(|vm| (vm.clone(), pattern.clone())).collect();
        (Workload { seed: 7, patterns, noise: 0.0 }, vms)
    }

    /// The mean demand of fifty VMs over an hour that begins so many hours after Monday's midnight.
    fn mean(pattern: Pattern, hour: i64) -> f64 {
        let (workload, vms) = workload(pattern);
        let moments: Vec<Timestamp> =
            (0..60).map(|minute| Timestamp::from_secs(MONDAY + hour * HOUR + minute * MINUTE)).collect();
        let sum: f64 = vms.iter().flat_map(|vm| moments.iter().map(|at| workload.demand(vm, *at))).sum();
        sum / (vms.len() * moments.len()) as f64
    }

    #[test]
    fn figure_6_is_as_in_the_paper() {
        let from = Timestamp::from_secs(1000);
        let patterns =
            (0..6).map(|index| (VmKey::new("ns", index.to_string()), Pattern::reactive_cloud_figure_6(from, index)));
        let workload = Workload { seed: 1, patterns: patterns.collect(), noise: 0.0 };
        let at = |second: i64| -> Vec<f64> {
            workload.patterns.keys().map(|vm| workload.demand(vm, Timestamp::from_secs(1000 + second))).collect()
        };
        assert_eq!(at(59), [0.1; 6]);
        assert_eq!(at(60), [0.95, 0.1, 0.1, 0.1, 0.1, 0.1]);
        assert_eq!(at(150), [0.95, 0.95, 0.1, 0.1, 0.1, 0.1]);
        assert_eq!(at(300), [0.1, 0.95, 0.1, 0.1, 0.1, 0.1]);
        assert_eq!(at(-1), [0.0; 6]);
    }

    #[test]
    fn random_hours_keep_to_the_papers_bounds() {
        let (workload, vms) = workload(Pattern::RandomHours);
        let (mut active, mut all) = (0, 0);
        for vm in &vms {
            let mut last = (0, workload.demand(vm, Timestamp::from_secs(MONDAY)));
            for second in 0..HOUR {
                let share = workload.demand(vm, Timestamp::from_secs(MONDAY + second));
                assert!((0.0..=0.3).contains(&share) || (0.8..=1.0).contains(&share), "{share}");
                active += i32::from(share >= 0.8);
                all += 1;
                if (share - last.1).abs() > f64::EPSILON {
                    assert!((60..=301).contains(&(second - last.0)), "a state of {} s", second - last.0);
                    last = (second, share);
                }
            }
        }
        let ratio = f64::from(active) / f64::from(all);
        assert!((0.15..0.25).contains(&ratio), "{ratio}");
    }

    #[test]
    fn days_have_their_hours() {
        let (day, noon, night, sunday) = (10, 12, 3, 6 * 24 + 10);
        assert!(mean(Pattern::Office, day) > 0.25);
        assert!(mean(Pattern::Office, noon) < mean(Pattern::Office, day));
        assert!(mean(Pattern::Office, night) < 0.06);
        assert!(mean(Pattern::Office, sunday) < 0.06);
        assert!(mean(Pattern::NightBatch, day) < 0.05);
        assert!(mean(Pattern::NightBatch, 24) > 0.3);
        assert!(mean(Pattern::Web, 20) > 3.0 * mean(Pattern::Web, 4));
    }

    #[test]
    fn the_same_seed_gives_the_same_load_and_noise_stays_within_its_bound() {
        let at = Timestamp::from_secs(MONDAY + 12_345);
        let vm = VmKey::new("ns", "vm");
        let patterns = BTreeMap::from([(vm.clone(), Pattern::Constant(0.5))]);
        let noisy = |seed: u64| Workload { seed, patterns: patterns.clone(), noise: 0.1 }.demand(&vm, at);
        assert!((noisy(1) - noisy(1)).abs() < f64::EPSILON);
        assert!((noisy(1) - noisy(2)).abs() > f64::EPSILON);
        assert!((0.4..=0.6).contains(&noisy(3)));
        assert!(Workload::default().demand(&vm, at).abs() < f64::EPSILON, "a VM without a pattern is idle");
    }
}
