//! What plans did to the power of nodes, folded plan by plan as they change.

use miyako_core::model::{NodeName, PastWake, PlanName, PlanRecord, PowerHistory, RecordedStep, Timestamp};
use std::collections::BTreeMap;

/// The suspends and wakes that one plan began.
#[derive(Debug, Default, PartialEq)]
struct Begun {
    suspends: Vec<(Timestamp, NodeName)>,
    wakes: Vec<PastWake>,
}

/// The suspends and wakes of every plan.
#[derive(Debug, Default)]
pub(super) struct PowerSteps {
    plans: BTreeMap<PlanName, Begun>,
    dirty: bool,
}

impl PowerSteps {
    pub(super) fn put(&mut self, plan: &PlanRecord) {
        self.remove(&plan.name);
        let mut begun = Begun::default();
        for step in &plan.steps {
            match step {
                RecordedStep::Suspend { node, started: Some(at), .. } => begun.suspends.push((*at, node.clone())),
                RecordedStep::Wake { node, reason, pod, started: Some(at), .. } => {
                    let (awaited, pod) = (reason.is_awaited(), pod.clone());
                    begun.wakes.push(PastWake { at: *at, node: node.clone(), awaited, pod });
                }
                _ => {}
            }
        }
        if begun != Begun::default() {
            self.plans.insert(plan.name.clone(), begun);
            self.dirty = true;
        }
    }

    pub(super) fn remove(&mut self, plan: &PlanName) {
        self.dirty |= self.plans.remove(plan).is_some();
    }

    /// How many plans with such steps are kept.
    pub(super) fn len(&self) -> usize {
        self.plans.len()
    }

    /// Folds anew if anything changed.
    pub(super) fn refresh(&mut self, history: &mut PowerHistory) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        history.suspends = self.plans.values().flat_map(|begun| &begun.suspends).cloned().collect();
        history.wakes = self.plans.values().flat_map(|begun| &begun.wakes).cloned().collect();
        history.suspends.sort();
        history.wakes.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| a.node.cmp(&b.node)));
    }
}
