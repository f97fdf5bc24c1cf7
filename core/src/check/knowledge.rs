//! Rules 8 and 10: what is not known for sure is not acted on, and there are times when nothing is moved.

use super::{Findings, Move, Rule, State};
use crate::model::{LoadHistory, Policy, PolicyMode};

/// The picture is complete.
pub(super) fn complete(state: &State<'_>, found: &mut Findings) {
    if let Some(why) = &state.snapshot.incomplete {
        found.add(Rule::Knowledge, format!("the picture is not complete: {why}"));
    }
}

/// The picture is complete and KubeVirt can be asked.
pub(super) fn migrations_are_possible(state: &State<'_>, found: &mut Findings) {
    complete(state, found);
    if let Some(problem) = &state.snapshot.kubevirt.problem {
        found.add(Rule::Knowledge, format!("KubeVirt can't be asked: {problem:?}"));
    }
}

/// VM, source and target are measured now, and both virt-handlers answer.
pub(super) fn of_move(state: &State<'_>, planned: &Move<'_>, found: &mut Findings) {
    let Move { vm, source, target, .. } = planned;
    let load = &state.snapshot.load;
    let fresh = |history: Option<&LoadHistory>| history.is_some_and(|known| known.is_fresh(state.now));
    if !fresh(load.vms.get(&vm.key)) {
        found.add(Rule::Knowledge, format!("VM {} has no fresh sample", vm.key));
    }
    // A sleeping target is measured by nobody, and carries nothing.
    let ends = [Some(source), Some(target).filter(|target| target.is_usable())];
    for node in ends.into_iter().flatten() {
        if !fresh(load.nodes.get(&node.name)) {
            found.add(Rule::Knowledge, format!("node {} has no fresh sample", node.name));
        }
    }
    if !source.ready || !source.virt_handler_ready {
        found.add(Rule::Knowledge, format!("source node {} or its virt-handler does not answer", source.name));
    }
}

/// Nothing tells us to stand still.
pub(super) fn standstill(state: &State<'_>, policy: &Policy, found: &mut Findings) {
    let switches = &state.snapshot.switches;
    if let Some(who) = &switches.paused {
        found.add(Rule::Standstill, format!("paused: {who}"));
    }
    if let Some(who) = &switches.held {
        found.add(Rule::Standstill, format!("held: {who}"));
    }
    if state.snapshot.kubevirt.rolling_out {
        found.add(Rule::Standstill, "KubeVirt is being rolled out");
    }
    if let Some(why) = &policy.held {
        found.add(Rule::Standstill, format!("policy {} holds: {why}", policy.name));
    }
    if let Some(of) = &policy.backup {
        found.add(Rule::Standstill, format!("policy {} waits for a backup: {of}", policy.name));
    }
    if let Some(rival) = policy.rival.as_ref().filter(|_| policy.mode == PolicyMode::Automatic) {
        found.add(Rule::Standstill, format!("{rival} spreads what policy {} packs", policy.name));
    }
}
