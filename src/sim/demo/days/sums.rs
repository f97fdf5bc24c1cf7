//! Sums over seconds.

use miyako_core::energy::Account;
use miyako_core::model::VmKey;
use std::collections::BTreeMap;

/// What some seconds came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    pub(super) seconds: u64,
    /// Seconds of VMs on shared nodes, and those of them in which the VM got less CPU than it wanted.
    pub(super) shared_vm_seconds: u64,
    pub(super) starved_vm_seconds: u64,
    /// Seconds of shared nodes, and those of them that belong to a long stretch of load at or beyond the threshold.
    pub(super) shared_node_seconds: u64,
    pub(super) hot_node_seconds: u64,
    /// Core-seconds that VMs wanted and did not get.
    pub(super) missing: f64,
    /// Core-seconds that each VM wanted and got.
    pub(super) vms: BTreeMap<VmKey, (f64, f64)>,
    /// What was drawn, and what would have been.
    pub(super) drawn: Account,
    pub(super) each_second: Account,
    pub(super) each_hour: Account,
    pub(super) moves: u64,
}

impl Sums {
    pub(super) fn add(&mut self, more: &Self) {
        self.seconds += more.seconds;
        self.shared_vm_seconds += more.shared_vm_seconds;
        self.starved_vm_seconds += more.starved_vm_seconds;
        self.shared_node_seconds += more.shared_node_seconds;
        self.hot_node_seconds += more.hot_node_seconds;
        self.missing += more.missing;
        self.moves += more.moves;
        for (vm, (wanted, got)) in &more.vms {
            let sum = self.vms.entry(vm.clone()).or_default();
            sum.0 += wanted;
            sum.1 += got;
        }
        let accounts = [
            (&mut self.drawn, more.drawn),
            (&mut self.each_second, more.each_second),
            (&mut self.each_hour, more.each_hour),
        ];
        for (sum, more) in accounts {
            sum.used += more.used;
            sum.never_sleeping += more.never_sleeping;
        }
    }

    /// The VM that got the least share of what it wanted, and that share.
    pub(super) fn worst_vm(&self) -> Option<(&VmKey, f64)> {
        let share = |(vm, (wanted, got)): (_, &(f64, f64))| (*wanted > 0.0).then(|| (vm, got / wanted));
        self.vms.iter().filter_map(share).min_by(|a, b| a.1.total_cmp(&b.1))
    }
}
