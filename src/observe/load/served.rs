//! How much of the CPU that each VM wanted it got, within about the last hour: sums hide the one VM that starves.

use super::judge::Figures;
use miyako_core::model::{Span, Timestamp, VmKey};
use std::collections::BTreeMap;

/// What lies this far back counts for little more than a third.
const MEMORY: f64 = 3600.0;
/// A sample speaks for the time since the one before, but for no more than this.
const LONGEST: Span = Span::from_secs(10);
/// A VM that wanted less than this in all, in core-seconds, wanted nothing worth speaking of.
const LEAST: f64 = 1.0;

#[derive(Debug, Clone, Copy)]
struct Sums {
    at: Timestamp,
    wanted: f64,
    got: f64,
}

/// What each VM wanted and got.
#[derive(Debug, Default)]
pub(super) struct Served(BTreeMap<VmKey, Sums>);

impl Served {
    /// Takes in what was measured of a VM, if the source tells what it wanted.
    pub(super) fn note(&mut self, vm: &VmKey, at: Timestamp, figures: &Figures) {
        let Some(wait) = figures.cpu_wait else { return };
        let (got, wanted) = (figures.cpu.value(), figures.cpu.value() + wait.value());
        match self.0.get_mut(vm) {
            Some(sums) => {
                let since = at.since(sums.at);
                let (keeps, seconds) = ((-since.as_secs_f64() / MEMORY).exp(), since.min(LONGEST).as_secs_f64());
                let sum = |old: f64, new: f64| old * keeps + new * seconds;
                *sums = Sums { at: at.max(sums.at), wanted: sum(sums.wanted, wanted), got: sum(sums.got, got) };
            }
            None => drop(self.0.insert(vm.clone(), Sums { at, wanted, got })),
        }
    }

    /// How many VMs are known.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets the VMs that this does not keep.
    pub(super) fn retain(&mut self, keep: impl Fn(&VmKey) -> bool) {
        self.0.retain(|vm, _| keep(vm));
    }

    /// The share of the CPU it wanted that a VM got.
    pub(super) fn of(&self, vm: &VmKey) -> Option<f64> {
        self.0.get(vm).and_then(share)
    }

    /// The VM that got the least share, and that share.
    pub(super) fn worst(&self) -> Option<(&VmKey, f64)> {
        let shares = self.0.iter().filter_map(|(vm, sums)| Some((vm, share(sums)?)));
        shares.min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

fn share(sums: &Sums) -> Option<f64> {
    (sums.wanted >= LEAST).then(|| (sums.got / sums.wanted).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_core::model::Cores;

    fn figures(got: f64, wait: Option<f64>) -> Figures {
        let cores = |value| Cores::new(value).unwrap();
        Figures { cpu: cores(got), cpu_wait: wait.map(cores), ..Figures::default() }
    }

    #[test]
    fn the_one_who_starves_is_named_whatever_the_sum_says() {
        let mut served = Served::default();
        for second in 0..100 {
            let at = Timestamp::from_secs(second);
            for index in 0..50 {
                served.note(&VmKey::new("vms", format!("well-{index}")), at, &figures(1.0, Some(0.0)));
            }
            served.note(&VmKey::new("vms", "hungry"), at, &figures(0.5, Some(0.5)));
            served.note(&VmKey::new("vms", "unknown"), at, &figures(0.1, None));
            served.note(&VmKey::new("vms", "nothing"), at, &figures(0.0, Some(0.000_1)));
        }
        let (worst, share) = served.worst().unwrap();
        assert_eq!(worst, &VmKey::new("vms", "hungry"));
        assert!((share - 0.5).abs() < 1e-9, "{share}");
        assert_eq!(served.of(&VmKey::new("vms", "unknown")), None, "nobody told what it wanted");
        assert_eq!(served.of(&VmKey::new("vms", "nothing")), None, "it wanted nothing");
        served.retain(|vm| vm.name.as_str() != "hungry");
        assert!(served.worst().is_some_and(|(_, share)| share > 0.999));
    }

    #[test]
    fn hunger_is_forgotten_within_hours() {
        let (vm, mut served) = (VmKey::new("vms", "vm"), Served::default());
        let mut go = |from: i64, until: i64, got: f64, wait: f64| {
            for second in from..until {
                served.note(&vm, Timestamp::from_secs(second), &figures(got, Some(wait)));
            }
            served.of(&vm).unwrap()
        };
        assert!(go(0, 3600, 0.5, 0.5) < 0.51);
        assert!(go(3600, 7200, 1.0, 0.0) > 0.8);
        assert!(go(7200, 6 * 3600, 1.0, 0.0) > 0.99);
    }
}
