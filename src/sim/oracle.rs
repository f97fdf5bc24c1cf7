//! What a planner that knows the future would draw: it packs VMs by what they are about to need, moves them for nothing
//! and in no time, and lets sleep what it does not need. No real planner reaches it; runs are measured by it.

use miyako_core::energy::Account;
use miyako_core::model::{Joules, PowerFigures};

/// A part of the cluster that VMs do not leave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Zone {
    /// The cores that VMs have on each shared node.
    pub shared: Vec<f64>,
    /// The whole cores of each dedicated node.
    pub dedicated: Vec<u32>,
}

/// A VM over the time that is planned for.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreseen {
    /// The number of its zone.
    pub zone: usize,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// The most cores that it will want.
    pub peak: f64,
    /// The cores that it will want on average.
    pub mean: f64,
    /// It never leaves its shared node.
    pub pinned: bool,
}

/// A cluster, and what its nodes draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Oracle {
    /// Its zones.
    pub zones: Vec<Zone>,
    /// What shared nodes draw.
    pub shared: PowerFigures,
    /// What dedicated nodes draw.
    pub dedicated: PowerFigures,
    /// Cores that each awake node needs for itself.
    pub system: f64,
    /// So many dedicated nodes are awake at least, in use or not. Shared nodes always are.
    pub floor: usize,
}

/// Where everybody of one zone went.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Packed {
    /// Dedicated nodes with a VM.
    in_use: usize,
    /// Cores used on shared nodes, on average.
    on_shared: f64,
    /// Cores used on dedicated nodes, on average.
    on_dedicated: f64,
}

impl Oracle {
    /// What the cluster draws in so many seconds, packed anew for them.
    #[must_use]
    pub fn draws(&self, vms: &[Foreseen], seconds: f64) -> Account {
        let mut sum = Packed::default();
        for number in 0..self.zones.len() {
            let packed = self.pack(number, vms.iter().filter(|vm| vm.zone == number).collect());
            sum.in_use += packed.in_use;
            sum.on_shared += packed.on_shared;
            sum.on_dedicated += packed.on_dedicated;
        }
        let dedicated = || self.zones.iter().flat_map(|zone| &zone.dedicated);
        let shared = || self.zones.iter().flat_map(|zone| &zone.shared);
        let awake = sum.in_use.max(self.floor).min(dedicated().count());
        let asleep = dedicated().count() - awake;
        let cores = |sum: f64, nodes: usize| (sum / nodes.max(1) as f64 + self.system).max(1.0);
        let of_shared = cores(shared().sum(), shared().count());
        let of_dedicated = dedicated().copied().map(f64::from).sum::<f64>() / dedicated().count().max(1) as f64;
        let watts = watts(self.shared, shared().count(), sum.on_shared, of_shared, self.system)
            + watts(self.dedicated, awake, sum.on_dedicated, of_dedicated.max(1.0), self.system);
        let [sleeps, idles] = [self.dedicated.asleep, self.dedicated.idle].map(|each| f64::from(each) * asleep as f64);
        let joules = |watts: f64| Joules::new(watts * seconds).unwrap_or(Joules::ZERO);
        Account { used: joules(watts + sleeps), never_sleeping: joules(watts + idles) }
    }

    /// Leaves on shared nodes those that need least for their vCPUs, because these would take most room elsewhere; the
    /// others go to dedicated nodes, the largest first.
    fn pack(&self, number: usize, mut vms: Vec<&Foreseen>) -> Packed {
        let zone = &self.zones[number];
        let density = |vm: &Foreseen| vm.peak / f64::from(vm.vcpus.max(1));
        vms.sort_by(|a, b| b.pinned.cmp(&a.pinned).then_with(|| density(a).total_cmp(&density(b))));
        let mut room = zone.shared.clone();
        let mut free = zone.dedicated.clone();
        let (mut packed, mut away) = (Packed::default(), Vec::new());
        for vm in vms {
            let roomiest = room.iter_mut().max_by(|a, b| a.total_cmp(b));
            match roomiest.filter(|room| vm.pinned || **room >= vm.peak) {
                Some(room) => {
                    *room -= vm.peak;
                    packed.on_shared += vm.mean;
                }
                None => away.push(vm),
            }
        }
        away.sort_by_key(|vm| std::cmp::Reverse(vm.vcpus));
        for vm in away {
            match free.iter_mut().find(|free| **free >= vm.vcpus) {
                Some(free) => {
                    *free -= vm.vcpus;
                    packed.on_dedicated += vm.mean;
                }
                // There is no node for it, whoever plans.
                None => packed.on_shared += vm.mean,
            }
        }
        packed.in_use = free.iter().zip(&zone.dedicated).filter(|(free, all)| free < all).count();
        packed
    }
}

/// So many nodes, which all draw in a line between idle and full, with so much load together.
fn watts(figures: PowerFigures, nodes: usize, load: f64, cores: f64, system: f64) -> f64 {
    let nodes = nodes as f64;
    let share = if nodes > 0.0 { (load / nodes + system) / cores } else { 0.0 };
    figures.awake(share) * nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(vcpus: u32, peak: f64) -> Foreseen {
        Foreseen { zone: 0, vcpus, peak, mean: peak / 2.0, pinned: false }
    }

    fn oracle() -> Oracle {
        Oracle {
            zones: vec![Zone { shared: vec![4.0], dedicated: vec![4, 4, 4] }],
            shared: PowerFigures { idle: 100, full: 200, asleep: 10 },
            dedicated: PowerFigures { idle: 50, full: 90, asleep: 5 },
            system: 0.0,
            floor: 2,
        }
    }

    #[test]
    fn whoever_needs_most_for_its_vcpus_leaves_and_the_rest_sleeps() {
        let vms = [vm(2, 2.0), vm(2, 2.0), vm(4, 1.0), vm(4, 1.0), vm(1, 0.5)];
        // 2.5 cores stay on the shared node, none of the busy ones fits beside them, and one node takes both.
        let packed = oracle().pack(0, vms.iter().collect());
        assert_eq!(packed, Packed { in_use: 1, on_shared: 1.25, on_dedicated: 2.0 });
        let drawn = oracle().draws(&vms, 10.0);
        let watts = (100.0 + 100.0 * 1.25 / 4.0) + (2.0 * 50.0 + 40.0 * 2.0 / 4.0);
        assert!((drawn.used.value() - 10.0 * (watts + 5.0)).abs() < 1e-6, "{drawn:?}");
        assert!((drawn.saved() - 10.0 * 45.0).abs() < 1e-6, "one node of three sleeps: {drawn:?}");
        let free = Oracle { floor: 0, ..oracle() };
        assert!((free.draws(&vms, 10.0).saved() - 10.0 * 90.0).abs() < 1e-6, "and two if nothing keeps one awake");
    }

    #[test]
    fn a_quiet_moment_needs_no_dedicated_node_and_the_floor_stays_awake() {
        let quiet = [vm(4, 1.0), vm(4, 1.0)];
        assert!((oracle().draws(&quiet, 1.0).saved() - 45.0).abs() < 1e-6);
        let pinned = [Foreseen { pinned: true, ..vm(4, 9.0) }];
        assert_eq!(oracle().pack(0, pinned.iter().collect()).in_use, 0, "it stays, whatever it needs");
    }
}
