//! A plan serves what people declared: its policy acts, rules the nodes, selects the VM and wants this step.

use super::{Cause, Findings, Move, State};
use crate::model::{Labels, MoveReason, Node, NodeClass, Percent, Policy, PolicyMode, PolicyName, Role, SuspendStep};

/// How far the numbers of a reason may be from the load table, in percentage points: rounding, no more.
const TOLERANCE: f64 = 0.5;

/// The policy of a step, if it may have steps at all.
pub(super) fn policy<'a>(state: &State<'a>, name: &PolicyName, found: &mut Findings) -> Option<&'a Policy> {
    let Some(policy) = state.policies.policies.get(name) else {
        found.add(Cause::NoPolicy { policy: name.clone() });
        return None;
    };
    if let Some(problem) = &policy.invalid {
        found.add(Cause::InvalidPolicy { policy: name.clone(), problem: problem.clone() });
    }
    if policy.mode == PolicyMode::Off {
        found.add(Cause::PolicyOff { policy: name.clone() });
    }
    Some(policy)
}

/// The class of a node that the policy rules.
pub(super) fn class<'a>(
    state: &State<'a>,
    policy: &Policy,
    node: &'a Node,
    found: &mut Findings,
) -> Option<&'a NodeClass> {
    let class = match state.policies.class_of(node) {
        Ok(Some(class)) => class,
        Ok(None) => {
            found.add(Cause::NoClass { node: node.name.clone() });
            return None;
        }
        Err(classes) => {
            found.add(Cause::SeveralClasses { node: node.name.clone(), classes });
            return None;
        }
    };
    if let Some(problem) = &class.invalid {
        found.add(Cause::InvalidClass { class: class.name.clone(), problem: problem.clone() });
    }
    if state.policies.ruling(&class.name).is_none_or(|ruling| ruling.name != policy.name) {
        found.add(Cause::NotRuled { policy: policy.name.clone(), node: node.name.clone() });
    }
    Some(class)
}

/// Whether the policy wants this move.
pub(super) fn migrate(state: &State<'_>, planned: &Move<'_>, found: &mut Findings) {
    let Move { step, vm, policy, .. } = planned;
    let no_labels = Labels::new();
    let namespace = state.snapshot.namespaces.get(&vm.key.namespace).map_or(&no_labels, |known| &known.labels);
    if !policy.vms.matches(&vm.labels, namespace) {
        found.add(Cause::NotSelected { policy: policy.name.clone(), vm: vm.key.clone() });
    }
    schedule(policy, found);
    if step.migration.namespace != vm.key.namespace {
        found.add(Cause::WrongNamespace { migration: step.migration.clone() });
    }
    let finished = state.snapshot.migrations.get(&step.migration).is_some_and(|known| !known.is_unfinished());
    if finished || state.begun.iter().any(|begun| begun.migration == step.migration) {
        found.add(Cause::NameTaken { migration: step.migration.clone() });
    }
    direction(planned, found);
    reason(state, planned, found);
}

/// Whether the policy rules the node that is to be suspended.
pub(super) fn suspend(state: &State<'_>, policy: &Policy, step: &SuspendStep, found: &mut Findings) {
    schedule(policy, found);
    if let Some(node) = state.snapshot.nodes.get(&step.node) {
        class(state, policy, node, found);
    }
}

fn schedule(policy: &Policy, found: &mut Findings) {
    if !policy.in_schedule {
        // It passes with time, like a hold: an approved plan waits for its hour.
        found.add(Cause::OutsideSchedule { policy: policy.name.clone() });
    }
}

/// Busy VMs go from shared to dedicated nodes, idle ones from dedicated to shared nodes.
fn direction(planned: &Move<'_>, found: &mut Findings) {
    let wanted = match planned.step.reason {
        MoveReason::Overload { .. } => (Role::Shared, Role::Dedicated),
        MoveReason::Idle { .. } => (Role::Dedicated, Role::Shared),
    };
    if (planned.source_class.role, planned.target_class.role) != wanted {
        let (from, to) = wanted;
        found.add(Cause::WrongWay { reason: planned.step.reason.kind(), from, to });
    }
}

fn close(a: Percent, b: Percent) -> bool {
    (a.value() - b.value()).abs() <= TOLERANCE.max(b.value() / 1000.0)
}

/// The reason must be true: its numbers are those of the load table, and they pass the policy's threshold.
fn reason(state: &State<'_>, planned: &Move<'_>, found: &mut Findings) {
    let Move { vm, policy, source, source_class, .. } = planned;
    let (load, thresholds) = (&state.snapshot.load, &policy.thresholds);
    let (claimed, threshold, declared, measured, holds) = match planned.step.reason {
        MoveReason::Overload { node_load, threshold } => {
            let average = load
                .nodes
                .get(&source.name)
                .and_then(|known| known.average(state.now, thresholds.overload_window).full());
            let measured = average.map(|cores| cores.percent_of(source_class.cpu_of(source)));
            let holds = measured.is_some_and(|percent| percent >= thresholds.overload);
            (node_load, threshold, thresholds.overload, measured, holds)
        }
        MoveReason::Idle { vm_load, threshold, .. } => {
            let average =
                load.vms.get(&vm.key).and_then(|known| known.average(state.now, thresholds.idle_window).full());
            let vcpus = crate::model::MilliCpu(u64::from(vm.vcpus) * 1000).cores();
            let measured = average.map(|cores| cores.percent_of(vcpus));
            let holds = measured.is_some_and(|percent| percent < thresholds.idle);
            (vm_load, threshold, thresholds.idle, measured, holds)
        }
    };
    let reason = planned.step.reason.kind();
    match measured {
        None => found.add(Cause::WindowNotFull { reason }),
        Some(measured) if !close(claimed, measured) => {
            found.add(Cause::WrongLoad { reason, claimed, measured });
        }
        Some(measured) if !holds => {
            found.add(Cause::NotReached { reason, measured, threshold: declared });
        }
        Some(_) => {}
    }
    if !close(threshold, declared) {
        found.add(Cause::WrongThreshold { reason, claimed: threshold, declared });
    }
}
