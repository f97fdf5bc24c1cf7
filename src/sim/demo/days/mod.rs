//! What each day of a run came to, beside what planners that know the future would have made of it.

mod row;
mod sums;

pub(super) use row::Day;

use crate::controller::View;
use crate::sim::oracle::{Foreseen, Oracle};
use crate::sim::workload::{Measured, MeasuredNode};
use miyako_core::energy::Account;
use miyako_core::model::{Joules, NodeName, Role, VmKey};
use std::collections::BTreeMap;
use sums::Sums;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// A shared node that is in use at or beyond this share …
const HOT: f64 = 0.9;
/// … counts when it has been for more than so many seconds: a relief takes some.
const PATIENCE: u64 = 20;
/// Less than this is rounding.
const NOTHING: f64 = 1e-9;

/// What a VM wanted within the hour.
#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    peak: f64,
    sum: f64,
}

/// Sums that grow second by second, told by the day.
pub(super) struct Days {
    oracle: Oracle,
    /// The VMs as the oracle sees them, with what they want filled in each time.
    vms: BTreeMap<VmKey, Foreseen>,
    seconds: u64,
    hour: BTreeMap<VmKey, Wanted>,
    hour_seconds: u64,
    /// For how long each shared node has been hot.
    hot: BTreeMap<NodeName, u64>,
    /// What has been drawn so far, and what had been when the day began and when the first was over.
    energy: Account,
    day_began: Account,
    settled_began: Account,
    moves: u64,
    today: Sums,
    days: Vec<Day>,
    /// All that came after the first day, in which the cluster finds its shape.
    settled: Sums,
}

impl Days {
    /// Nothing has passed yet. The oracle packs these VMs.
    pub(super) fn new(oracle: Oracle, vms: BTreeMap<VmKey, Foreseen>) -> Self {
        Self {
            oracle,
            vms,
            seconds: 0,
            hour: BTreeMap::new(),
            hour_seconds: 0,
            hot: BTreeMap::new(),
            energy: Account::default(),
            day_began: Account::default(),
            settled_began: Account::default(),
            moves: 0,
            today: Sums::default(),
            days: Vec::new(),
            settled: Sums::default(),
        }
    }

    /// Takes in one second: what was measured in it, what the operator made of it, and how often VMs have been moved so
    /// far.
    pub(super) fn add(&mut self, measured: &Measured, view: &View, moves: u64) {
        self.seconds += 1;
        self.hour_seconds += 1;
        let mut second = Sums { seconds: 1, moves: moves.saturating_sub(self.moves), ..Sums::default() };
        self.moves = moves;
        self.energy = view.energy;
        for node in &measured.nodes {
            let shared = view.report.nodes.get(&node.node).is_some_and(|node| node.role == Some(Role::Shared));
            second.missing += (node.wanted - node.used).max(0.0);
            if shared {
                second.shared_node_seconds += 1;
                second.hot_node_seconds += self.hot_seconds(node);
            }
            self.note_vms(node, shared, &mut second);
        }
        self.ask_about_the_second(&mut second);
        self.take(&second);
        if self.hour_seconds == HOUR {
            self.end_hour();
        }
        if self.seconds.is_multiple_of(DAY) {
            self.end_day();
        }
    }

    /// The seconds that become known to be hot now: all of a stretch, once it is longer than it may be.
    fn hot_seconds(&mut self, node: &MeasuredNode) -> u64 {
        let stretch = self.hot.entry(node.node.clone()).or_default();
        if node.used < HOT * node.capacity {
            *stretch = 0;
            return 0;
        }
        *stretch += 1;
        match *stretch {
            ..=PATIENCE => 0,
            first if first == PATIENCE + 1 => first,
            _ => 1,
        }
    }

    fn note_vms(&mut self, node: &MeasuredNode, shared: bool, second: &mut Sums) {
        for vm in node.vms.iter().filter(|vm| !vm.placed.dormant) {
            second.shared_vm_seconds += u64::from(shared);
            second.starved_vm_seconds += u64::from(shared && vm.got + NOTHING < vm.wanted);
            second.vms.insert(vm.placed.vm.clone(), (vm.wanted, vm.got));
            let wanted = self.hour.entry(vm.placed.vm.clone()).or_default();
            wanted.peak = wanted.peak.max(vm.wanted);
            wanted.sum += vm.wanted;
        }
    }

    fn ask_about_the_second(&mut self, second: &mut Sums) {
        let now = second.vms.iter().map(|(vm, (wanted, _))| (vm, Wanted { peak: *wanted, sum: *wanted }));
        second.each_second = self.oracle.draws(&self.foresee(now, 1.0), 1.0);
    }

    fn foresee<'a>(&self, wanted: impl Iterator<Item = (&'a VmKey, Wanted)>, seconds: f64) -> Vec<Foreseen> {
        let foresee = |(vm, wanted): (&VmKey, Wanted)| {
            Some(Foreseen { peak: wanted.peak, mean: wanted.sum / seconds, ..self.vms.get(vm)?.clone() })
        };
        wanted.filter_map(foresee).collect()
    }

    fn end_hour(&mut self) {
        let seconds = std::mem::take(&mut self.hour_seconds);
        if seconds > 0 {
            let hour = std::mem::take(&mut self.hour);
            let vms = self.foresee(hour.iter().map(|(vm, wanted)| (vm, *wanted)), seconds as f64);
            let each_hour = self.oracle.draws(&vms, seconds as f64);
            self.take(&Sums { each_hour, ..Sums::default() });
        }
    }

    fn take(&mut self, more: &Sums) {
        self.today.add(more);
        if self.seconds > DAY {
            self.settled.add(more);
        }
    }

    fn end_day(&mut self) {
        let mut today = std::mem::take(&mut self.today);
        if today.seconds > 0 {
            today.drawn = since(self.day_began, self.energy);
            self.day_began = self.energy;
            if self.days.is_empty() {
                self.settled_began = self.energy;
            }
            let day = format!("{}", self.days.len() + 1);
            self.days.push(Day::of(day, &today));
        }
    }

    /// A row for each day, the last of which may be short, and one for all that came after the first.
    pub(super) fn told(mut self) -> Vec<Day> {
        self.end_hour();
        self.end_day();
        if self.settled.seconds > 0 {
            self.settled.drawn = since(self.settled_began, self.energy);
            self.days.push(Day::of("2 on".to_owned(), &self.settled));
        }
        self.days
    }
}

/// What was drawn between two looks.
fn since(before: Account, now: Account) -> Account {
    let joules = |now: Joules, before: Joules| Joules::new((now.value() - before.value()).max(0.0)).unwrap_or_default();
    Account { used: joules(now.used, before.used), never_sleeping: joules(now.never_sleeping, before.never_sleeping) }
}
