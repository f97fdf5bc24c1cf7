//! Rule 4: sleepers leave what repairs broken nodes able to do so. A health check that counts sleepers among the broken
//! ones stops repairing when there are too many of either.

use super::{Cause, Findings, State};
use crate::model::{HealthCheck, Node, PowerState};

/// Judges every health check that would count a node which the plan suspends.
pub(super) fn judge(state: &State<'_>, found: &mut Findings) {
    for (name, check) in &state.snapshot.health_checks {
        let suspended = |node: &Node| state.suspended.contains_key(&node.name);
        let nodes = &state.snapshot.nodes;
        let counted =
            state.suspended.iter().filter(|(name, _)| nodes.get(**name).is_some_and(|node| check.counts_asleep(node)));
        // The last step that adds one makes up what is too much.
        let Some(last) = counted.map(|(_, step)| *step).max() else { continue };
        let (total, unhealthy) = count(check, nodes.values(), suspended);
        let most = check.most_asleep(total);
        if unhealthy > most {
            found.step = Some(last);
            found.add(Cause::HealthCheck { check: name.clone(), unhealthy, total, most_asleep: most });
        }
    }
}

/// The nodes that the check counts once these sleep, and how many of them do not answer then.
fn count<'a>(
    check: &HealthCheck,
    nodes: impl Iterator<Item = &'a Node>,
    suspended: impl Fn(&Node) -> bool,
) -> (u32, u32) {
    let (mut total, mut unhealthy) = (0, 0);
    for node in nodes {
        let sleeps = suspended(node) || matches!(node.power, PowerState::Suspending | PowerState::Suspended);
        let counted = if sleeps { check.counts_asleep(node) } else { check.nodes.matches(&node.labels) };
        total += u32::from(counted);
        unhealthy += u32::from(counted && (sleeps || !node.ready));
    }
    (total, unhealthy)
}
