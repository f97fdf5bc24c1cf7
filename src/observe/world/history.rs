//! What we did before, folded from all ConsolidationPlans, plan by plan as they change.

use crate::observe::convert::plan::{self, RecordedMove};
use miyako_core::model::{MoveHistory, PlanName, PlanRecord, Refusal, Timestamp, Uid};
use std::collections::{BTreeMap, BTreeSet};

/// The moves of every plan.
#[derive(Debug, Default)]
pub(super) struct History {
    moves: BTreeMap<PlanName, Vec<RecordedMove>>,
    refusals: BTreeMap<PlanName, Vec<Refusal>>,
    plans_of: BTreeMap<Uid, BTreeSet<PlanName>>,
    dirty: BTreeSet<Uid>,
}

impl History {
    pub(super) fn put(&mut self, plan: &PlanRecord) {
        self.remove(&plan.name);
        let moves = plan::moves(plan);
        for one in &moves {
            self.plans_of.entry(one.vm.clone()).or_default().insert(plan.name.clone());
            self.dirty.insert(one.vm.clone());
        }
        if !moves.is_empty() {
            self.moves.insert(plan.name.clone(), moves);
        }
        if !plan.refusals.is_empty() {
            self.refusals.insert(plan.name.clone(), plan.refusals.clone());
        }
    }

    pub(super) fn remove(&mut self, plan: &PlanName) {
        self.refusals.remove(plan);
        for one in self.moves.remove(plan).into_iter().flatten() {
            if let Some(plans) = self.plans_of.get_mut(&one.vm) {
                plans.remove(plan);
                if plans.is_empty() {
                    self.plans_of.remove(&one.vm);
                }
            }
            self.dirty.insert(one.vm);
        }
    }

    /// How many moves, refusals and VMs' lists of plans are kept.
    pub(super) fn len(&self) -> usize {
        let moves: usize = self.moves.values().map(Vec::len).sum();
        let refusals: usize = self.refusals.values().map(Vec::len).sum();
        moves + refusals + self.plans_of.len()
    }

    /// All plans that tell of moves.
    pub(super) fn plans(&self) -> impl Iterator<Item = &PlanName> {
        self.moves.keys()
    }

    /// Folds anew what changed.
    pub(super) fn refresh(&mut self, history: &mut MoveHistory, now: Timestamp) {
        for vm in std::mem::take(&mut self.dirty) {
            let plans = self.plans_of.get(&vm).into_iter().flatten();
            let moves = plans.filter_map(|plan| self.moves.get(plan)).flatten().filter(|one| one.vm == vm);
            let mut folded = plan::fold(moves, now);
            let plans = self.plans_of.get(&vm).into_iter().flatten();
            let refusals = plans.filter_map(|plan| self.refusals.get(plan)).flatten();
            plan::note_refusals(&mut folded, refusals.filter(|refusal| refusal.vm == vm), now);
            if folded == Default::default() {
                history.vms.remove(&vm);
            } else {
                history.vms.insert(vm, folded);
            }
        }
    }
}
