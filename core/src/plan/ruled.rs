//! Whether a policy still rules what a recorded plan of its speaks of: selectors, classes, priorities and marks may have
//! changed since.

use super::StayReason;
use super::draft::{self, Draft, Place};
use crate::model::{Labels, MoveKind, NodeName, Policy, RecordedStep, Role};

/// The node is one of the policy's.
///
/// # Errors
/// It is not, for people.
pub(super) fn node<'d, 'a>(draft: &'d Draft<'a>, policy: &Policy, node: &NodeName) -> Result<&'d Place<'a>, String> {
    let place = draft.place(node).ok_or_else(|| format!("{node} is gone"))?;
    match place.policy {
        Some(ruler) if ruler.name == policy.name => Ok(place),
        Some(ruler) => Err(format!("{node} belongs to policy {} by now", ruler.name)),
        None => Err(format!("policy {} no longer rules {node}", policy.name)),
    }
}

/// The node is one of the policy's, and its class says how it is woken.
///
/// # Errors
/// It is not, for people.
pub(super) fn sleeper(draft: &Draft<'_>, policy: &Policy, name: &NodeName) -> Result<(), String> {
    match node(draft, policy, name)?.class {
        Some(class) if class.sleep.can_be_woken => Ok(()),
        _ => Err(format!("the class of {name} names no way to wake it by now")),
    }
}

/// The policy still rules the VM and both ends of a move, in their roles, and would move it in the same way. What keeps
/// the VM for a while only (a hot-plug, its settle time) is no reason to give the plan up.
///
/// # Errors
/// It does not, for people.
pub(super) fn step(draft: &Draft<'_>, policy: &Policy, step: &RecordedStep) -> Result<(), String> {
    let RecordedStep::Migrate { vm, source, target, mode, reason, .. } = step else { return Ok(()) };
    let relief = *reason == MoveKind::Overload;
    let roles = if relief { [Role::Shared, Role::Dedicated] } else { [Role::Dedicated, Role::Shared] };
    for (end, role) in [source, target].into_iter().zip(roles) {
        if node(draft, policy, end)?.role() != Some(role) {
            return Err(format!("{end} is no {role:?} node by now"));
        }
    }
    let Some(guest) = draft.place(source).and_then(|place| place.vms.iter().find(|guest| guest.key == *vm)) else {
        return Ok(());
    };
    let none = Labels::new();
    let namespace = draft.snapshot.namespaces.get(&vm.namespace).map_or(&none, |found| &found.labels);
    if !policy.vms.matches(&guest.labels, namespace) {
        return Err(format!("{vm}: {}", StayReason::NotSelected));
    }
    if let Some(obstacle) = guest.obstacle(policy, draft.now).filter(is_lasting) {
        return Err(format!("{vm}: {obstacle}"));
    }
    match draft::mode_for(policy, guest, relief) {
        Ok(now) if now == *mode => Ok(()),
        Ok(now) => Err(format!("{vm} would be moved by {now} by now")),
        Err(obstacle) => Err(format!("{vm}: {obstacle}")),
    }
}

/// Somebody must do something before it changes.
fn is_lasting(reason: &StayReason) -> bool {
    matches!(
        reason,
        StayReason::OptedOut
            | StayReason::PrefersNoEviction
            | StayReason::HostDevice
            | StayReason::Unsupported { .. }
            | StayReason::NotMigratable { .. }
    )
}
