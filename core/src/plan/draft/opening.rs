//! Opening a draft: what there is, and what is under way already.

use super::{Draft, Guest, Place};
use crate::fit::Candidate;
use crate::model::{
    ClassIndex, Cores, Lookup, NodeName, PlanPhase, PlanRecord, RecordedStep, StepOutcome, SuspendReason, Vm, VmMoves,
    WindowAverage, rulers,
};
use crate::plan::coming::Coming;
use crate::plan::{Gate, NodeVerdict, PolicyReport, candidate};
use std::collections::BTreeMap;

impl<'a> Draft<'a> {
    /// The policies, with the classes that they lost or that do not exist.
    pub(super) fn note_classes(&mut self) {
        let rulers = rulers(self.policies);
        for policy in self.policies.policies.values() {
            let mut report = PolicyReport { gate: self.gates.get(&policy.name).cloned(), ..PolicyReport::default() };
            for class in &policy.classes {
                if !self.policies.classes.contains_key(class) {
                    report.unknown_classes.push(class.clone());
                } else if let Some(winner) = rulers.get(class).filter(|winner| winner.name != policy.name) {
                    report.lost_classes.push((class.clone(), winner.name.clone()));
                }
            }
            self.report.policies.insert(policy.name.clone(), report);
        }
    }

    /// The nodes, each with its class and policy.
    pub(super) fn note_nodes(&mut self) {
        let (classes, rulers) = (ClassIndex::new(self.policies), rulers(self.policies));
        for (node, load) in joined(&self.snapshot.nodes, &self.snapshot.load.nodes) {
            let (class, mut verdict) = match classes.class_of(node) {
                Ok(class) => (class, NodeVerdict::NoClass),
                Err(classes) => (None, NodeVerdict::Ambiguous { classes }),
            };
            let class = class.filter(|class| class.invalid.is_none());
            let policy = class.and_then(|class| rulers.get(&class.name).copied());
            let policy =
                policy.filter(|policy| !matches!(self.gates.get(&policy.name), Some(Gate::Off | Gate::Invalid { .. })));
            if class.is_some() {
                verdict = match policy {
                    None => NodeVerdict::NoPolicy,
                    Some(_) if !node.is_usable() => NodeVerdict::NotUsable,
                    Some(_) => NodeVerdict::Dedicated,
                };
            }
            if let Some((class, policy)) = class.zip(policy) {
                self.shelves.entry(&policy.name).or_default().of_mut(class.role).add(self.places.len());
            }
            let load = policy.zip(load).map_or(WindowAverage::Never, |(policy, load)| {
                load.average(self.now, policy.thresholds.overload_window)
            });
            self.places.push(Place {
                node,
                class,
                policy,
                vms: Vec::with_capacity(
                    usize::try_from(self.occupancy.use_of(self.places.len()).vms).unwrap_or_default(),
                ),
                hosted: 0,
                vcpus: 0,
                guests: 0,
                guest_memory: 0,
                arriving: Cores::ZERO,
                joint: Default::default(),
                moving: 0,
                leaving: 0,
                changed: None,
                load,
                verdict,
                blockers: Vec::new(),
                awake_because: None,
                coming: Coming::of(node, class, self.snapshot.powers.get(&node.name), self.now),
            });
        }
    }

    /// The VMs, each on its node.
    pub(super) fn note_vms(&mut self) {
        let longest =
            self.policies.policies.values().map(|policy| policy.thresholds.overload_window).max().unwrap_or_default();
        let whereabouts = self.occupancy.whereabouts();
        let loads = joined(&self.snapshot.vms, &self.snapshot.load.vms).map(|(_, load)| load);
        let joined = whereabouts.vms.iter().zip(loads).zip(self.moves()).enumerate();
        for (number, ((&(vm, home), load), moves)) in joined {
            let policy = home.and_then(|home| self.places[home].policy);
            let may_move = policy.is_some_and(|policy| candidate::movable(vm, moves, policy, self.now).is_ok());
            let guest = Guest { number, vm, load, moves, may_move };
            match home {
                Some(home) => self.places[home].host(guest),
                None => self.homeless.push(guest),
            }
            if vm.unsupported.is_some() {
                self.unsupported.push(number);
            }
            let Some(last) = &vm.last_migration else { continue };
            let Some(ended) = last.ended.filter(|&ended| self.now.since(ended) <= longest) else { continue };
            for end in [&last.source, &last.target].into_iter().flatten() {
                if let Some(end) = whereabouts.nodes.get(end) {
                    self.places[end].changed = self.places[end].changed.max(Some(ended));
                }
            }
        }
    }

    /// What we did lately to each VM. A loop of its own, because so short a one looks up several at once.
    fn moves(&self) -> Vec<Option<&'a VmMoves>> {
        let known = &self.snapshot.history.vms;
        let known: Lookup<'_, &VmMoves> = known.iter().map(|(uid, moves)| (uid.as_str(), moves)).collect();
        self.occupancy.whereabouts().vms.iter().map(|(vm, _)| known.get(vm.uid.as_str()).copied()).collect()
    }

    /// The migrations that are under way.
    pub(super) fn note_migrations(&mut self) {
        for migration in self.snapshot.migrations.values().filter(|migration| migration.is_unfinished()) {
            self.all += 1;
            self.speak_for(&migration.vm, migration.plan.as_ref());
            if let Some(plan) = &migration.plan {
                self.ours += 1;
                if let Some(record) = self.snapshot.plans.get(plan) {
                    *self.by_policy.entry(&record.policy).or_default() += 1;
                }
            }
            let vm = self.snapshot.vms.get(&migration.vm);
            let source = migration.source.as_ref().or_else(|| vm?.node.as_ref());
            // The index counts its target already, whether its pod is there or not.
            self.note_traffic(vm, source, migration.target.as_ref());
        }
    }

    /// Counts the steps of a plan that is not over and whose migrations do not show yet.
    pub(in crate::plan) fn note_plan(&mut self, record: &'a PlanRecord) {
        for step in &record.steps {
            if let RecordedStep::Suspend {
                node, reason, outcome: StepOutcome::Waiting | StepOutcome::Running, ..
            } = step
            {
                self.going_to_sleep.extend(self.number_of(node));
                if *reason == SuspendReason::WakeTest {
                    self.tested.extend(self.number_of(node));
                }
            }
            let RecordedStep::Migrate { vm: key, uid, source, target, migration, outcome, .. } = step else { continue };
            if !matches!(outcome, StepOutcome::Waiting | StepOutcome::Running) {
                continue;
            }
            let Some(vm) = self.snapshot.vm(key, uid) else { continue };
            if self.snapshot.migrations.contains_key(migration) {
                // Counted as a migration if it is under way; if it is over, the plan must note how it ended first:
                // back-off and budget follow from that.
                if !self.is_spoken_for(&vm.key) {
                    self.speak_for(&vm.key, Some(&record.name));
                }
                continue;
            }
            if vm.node.as_ref() != Some(source) || self.is_spoken_for(&vm.key) {
                continue;
            }
            self.speak_for(&vm.key, Some(&record.name));
            *self.by_policy.entry(&record.policy).or_default() += 1;
            if record.is_cleared() {
                self.ours += 1;
                self.all += 1;
                if record.phase == PlanPhase::Running {
                    self.promised.push((vm, target));
                }
            }
            self.note_traffic(Some(vm), Some(source), Some(target));
            self.occupancy.place(Candidate::target_of(vm), target);
        }
    }

    /// Counts a move on both its ends, and the VM, if it is known, where it does not count as running already.
    pub(super) fn note_traffic(&mut self, vm: Option<&Vm>, source: Option<&NodeName>, target: Option<&NodeName>) {
        let target = target.filter(|&target| source != Some(target));
        for (end, leaves) in source.map(|end| (end, true)).into_iter().chain(target.map(|end| (end, false))) {
            let Some(number) = self.number_of(end) else { continue };
            self.changed.push(number);
            let place = &mut self.places[number];
            place.moving += 1;
            place.leaving += u32::from(leaves);
            if let Some(vm) = vm.filter(|vm| vm.node.as_ref() != Some(end)) {
                place.expect(vm);
                place.add_tenant(vm, self.snapshot.load.vms.get(&vm.key), false);
                if let Some(policy) = place.policy.filter(|_| !leaves) {
                    let window = policy.thresholds.idle_window;
                    place.arriving += self.snapshot.load.brought_by(vm, self.now, window);
                }
            }
        }
    }
}

/// Each value of the left map with what the right one has under the same key.
fn joined<'a, K: Ord, L, R>(
    left: &'a BTreeMap<K, L>,
    right: &'a BTreeMap<K, R>,
) -> impl Iterator<Item = (&'a L, Option<&'a R>)> {
    let mut right = right.iter().peekable();
    left.iter().map(move |(key, value)| {
        while right.next_if(|(other, _)| *other < key).is_some() {}
        (value, right.next_if(|(other, _)| *other == key).map(|(_, other)| other))
    })
}
