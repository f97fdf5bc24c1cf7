//! The state that the steps of a plan lead through, kept deliberately simple.

use super::{Cause, Findings};
use crate::{
    fit::{Candidate, Occupancy},
    model::{
        ClassIndex, MigrateStep, Migration, MigrationMode, MigrationName, Node, NodeClass, NodeName, Plan, PlanPhase,
        Policies, Policy, PolicyName, RecordedStep, Snapshot, StepOutcome, Timestamp, Vm, VmKey, rulers,
    },
};
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

/// A move that is under way, asked for, or planned by an earlier step.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight<'a> {
    pub(super) vm: &'a VmKey,
    pub(super) source: Option<&'a NodeName>,
    pub(super) target: Option<&'a NodeName>,
    /// One of ours, whoever's policy it serves.
    pub(super) ours: bool,
    /// The policy it serves, if that is known.
    pub(super) policy: Option<&'a PolicyName>,
}

/// The cluster as it is after the steps so far.
pub(super) struct State<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) policies: &'a Policies,
    pub(super) now: Timestamp,
    pub(super) occupancy: Occupancy<'a>,
    pub(super) in_flight: Vec<InFlight<'a>>,
    /// Moves that this plan begins.
    pub(super) begun: Vec<&'a MigrateStep>,
    pub(super) woken: BTreeSet<&'a NodeName>,
    /// By the step that suspends it.
    pub(super) suspended: BTreeMap<&'a NodeName, usize>,
    /// The nodes of each policy. Indexed when the first suspend asks.
    ruled: OnceCell<BTreeMap<&'a PolicyName, Vec<(&'a Node, &'a NodeClass)>>>,
}

/// A migrate step with all that it names.
pub(super) struct Move<'a> {
    pub(super) step: &'a MigrateStep,
    pub(super) vm: &'a Vm,
    pub(super) policy: &'a Policy,
    pub(super) source: &'a Node,
    pub(super) target: &'a Node,
    pub(super) source_class: &'a NodeClass,
    pub(super) target_class: &'a NodeClass,
}

impl Move<'_> {
    pub(super) fn is_post_copy(&self) -> bool {
        self.step.mode == MigrationMode::PostCopy
    }
}

impl<'a> State<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, policies: &'a Policies, plan: &'a Plan, now: Timestamp) -> Self {
        let mut state = Self {
            snapshot,
            policies,
            now,
            occupancy: Occupancy::new(snapshot),
            in_flight: Vec::new(),
            begun: Vec::new(),
            woken: BTreeSet::new(),
            suspended: BTreeMap::new(),
            ruled: OnceCell::new(),
        };
        for migration in snapshot.migrations.values().filter(|migration| migration.is_unfinished()) {
            state.in_flight.push(state.under_way(migration));
        }
        state.add_promises(plan);
        state
    }

    fn under_way(&self, migration: &'a Migration) -> InFlight<'a> {
        let source = migration.source.as_ref();
        InFlight {
            vm: &migration.vm,
            source: source.or_else(|| self.snapshot.vms.get(&migration.vm)?.node.as_ref()),
            target: migration.target.as_ref(),
            ours: migration.plan.is_some(),
            policy: migration.plan.as_ref().and_then(|plan| Some(&self.snapshot.plans.get(plan)?.policy)),
        }
    }

    /// Moves that plans being carried out have promised but not yet asked KubeVirt for (they wait for a wake or a
    /// slot). Those of the plan that is judged are its own.
    fn add_promises(&mut self, plan: &'a Plan) {
        let judged: BTreeSet<&MigrationName> = plan.migrations().map(|step| &step.migration).collect();
        for record in
            self.snapshot.plans.values().filter(|record| record.phase == PlanPhase::Running && record.is_cleared())
        {
            for step in &record.steps {
                let RecordedStep::Migrate { vm, uid, source, target, migration, outcome, .. } = step else { continue };
                let open = matches!(outcome, StepOutcome::Waiting | StepOutcome::Running);
                let asked_for = self.snapshot.migrations.contains_key(migration);
                // A VM that has gone elsewhere, or is being moved, is not waiting for this step.
                let waits = |vm: &&Vm| {
                    vm.node.as_ref() == Some(source) && self.in_flight.iter().all(|moving| *moving.vm != vm.key)
                };
                let Some(vm) = self.snapshot.vm(vm, uid).filter(waits) else { continue };
                if open && !asked_for && !judged.contains(migration) {
                    self.occupancy.place(Candidate::target_of(vm), target);
                    self.in_flight.push(InFlight {
                        vm: &vm.key,
                        source: Some(source),
                        target: Some(target),
                        ours: true,
                        policy: Some(&record.policy),
                    });
                }
            }
        }
    }

    /// Looks up everything a migrate step names.
    pub(super) fn resolve(&self, step: &'a MigrateStep, found: &mut Findings) -> Option<Move<'a>> {
        let policy = super::declared::policy(self, &step.policy, found)?;
        let Some(vm) = self.snapshot.vm(&step.vm, &step.uid) else {
            found.add(Cause::NoVm { vm: step.vm.clone(), uid: step.uid.clone() });
            return None;
        };
        let Some(source) = self.snapshot.nodes.get(&step.source) else {
            found.add(Cause::NoSource { node: step.source.clone() });
            return None;
        };
        let Some(target) = self.snapshot.nodes.get(&step.target) else {
            found.add(Cause::NoTarget { node: step.target.clone() });
            return None;
        };
        let source_class = super::declared::class(self, policy, source, found)?;
        let target_class = super::declared::class(self, policy, target, found)?;
        Some(Move { step, vm, policy, source, target, source_class, target_class })
    }

    /// Counts a planned move on both ends from here on.
    pub(super) fn begin(&mut self, planned: &Move<'a>) {
        self.occupancy.place(Candidate::target_of(planned.vm), &planned.target.name);
        self.in_flight.push(InFlight {
            vm: &planned.vm.key,
            source: Some(&planned.source.name),
            target: Some(&planned.target.name),
            ours: true,
            policy: Some(&planned.policy.name),
        });
        self.begun.push(planned.step);
    }

    /// The nodes that a policy rules, with their classes.
    pub(super) fn nodes_of(&self, policy: &Policy) -> &[(&'a Node, &'a NodeClass)] {
        let ruled = self.ruled.get_or_init(|| {
            let (classes, rulers) = (ClassIndex::new(self.policies), rulers(self.policies));
            let mut ruled: BTreeMap<&PolicyName, Vec<_>> = BTreeMap::new();
            for node in self.snapshot.nodes.values() {
                let Some(class) = classes.class_of(node).ok().flatten() else { continue };
                if let Some(ruler) = rulers.get(&class.name) {
                    ruled.entry(&ruler.name).or_default().push((node, class));
                }
            }
            ruled
        });
        ruled.get(&policy.name).map_or(&[], Vec::as_slice)
    }

    /// Awake and usable, and not suspended by an earlier step.
    pub(super) fn stays_usable(&self, node: &Node) -> bool {
        node.is_usable() && !self.suspended.contains_key(&node.name)
    }
}
