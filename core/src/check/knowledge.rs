//! Rules 8 and 10: what is not known for sure is not acted on, and there are times when nothing is moved.

use super::{Cause, Findings, Move, State};
use crate::model::{LoadHistory, Policy, PolicyMode};

/// The picture is complete.
pub(super) fn complete(state: &State<'_>, found: &mut Findings) {
    if let Some(why) = &state.snapshot.incomplete {
        found.add(Cause::Incomplete { why: why.clone() });
    }
}

/// The picture is complete and KubeVirt can be asked.
pub(super) fn migrations_are_possible(state: &State<'_>, found: &mut Findings) {
    complete(state, found);
    if let Some(problem) = &state.snapshot.kubevirt.problem {
        found.add(Cause::KubeVirt { problem: problem.clone() });
    }
}

/// VM, source and target are measured now, and both virt-handlers answer.
pub(super) fn of_move(state: &State<'_>, planned: &Move<'_>, found: &mut Findings) {
    let Move { vm, source, target, .. } = planned;
    let load = &state.snapshot.load;
    let fresh = |history: Option<&LoadHistory>| history.is_some_and(|known| known.is_fresh(state.now));
    if !fresh(load.vms.get(&vm.key)) {
        found.add(Cause::VmUnmeasured { vm: vm.key.clone() });
    }
    // A sleeping target is measured by nobody, and carries nothing.
    let ends = [Some(source), Some(target).filter(|target| target.is_usable())];
    for node in ends.into_iter().flatten() {
        if !fresh(load.nodes.get(&node.name)) {
            found.add(Cause::NodeUnmeasured { node: node.name.clone() });
        }
    }
    if !source.ready || !source.virt_handler_ready {
        found.add(Cause::SourceSilent { node: source.name.clone() });
    }
}

/// Nothing tells us to stand still.
pub(super) fn standstill(state: &State<'_>, policy: &Policy, found: &mut Findings) {
    let switches = &state.snapshot.switches;
    if let Some(who) = &switches.paused {
        found.add(Cause::Paused { by: who.clone() });
    }
    if let Some(who) = &switches.held {
        found.add(Cause::Held { by: who.clone() });
    }
    if state.snapshot.kubevirt.rolling_out {
        found.add(Cause::RollingOut);
    }
    if let Some(why) = &policy.held {
        found.add(Cause::PolicyHolds { policy: policy.name.clone(), why: why.clone() });
    }
    if let Some(of) = &policy.backup {
        found.add(Cause::Backup { policy: policy.name.clone(), of: of.clone() });
    }
    if let Some(rival) = policy.rival.as_ref().filter(|_| policy.mode == PolicyMode::Automatic) {
        found.add(Cause::Rival { policy: policy.name.clone(), rival: rival.clone() });
    }
}
