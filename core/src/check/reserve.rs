//! Rule 4: spare dedicated nodes and the least number of awake nodes.

use super::{Cause, Findings, State};
use crate::model::{NodeName, Policy, Role};

/// What a policy has after the suspends so far.
struct Left {
    /// Usable nodes that stay awake.
    awake: u32,
    /// Of those, dedicated nodes without any VM.
    spare: u32,
}

/// Counts what stays.
fn left(state: &State<'_>, policy: &Policy) -> Left {
    let awake: Vec<_> = state.nodes_of(policy).iter().filter(|(node, _)| state.stays_usable(node)).collect();
    let spare = awake.iter().filter(|(node, class)| class.role == Role::Dedicated && is_empty(state, &node.name));
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Left { awake: number(awake.len()), spare: number(spare.count()) }
}

/// After the suspends so far, what the policy keeps in reserve is still there.
pub(super) fn judge(state: &State<'_>, policy: &Policy, found: &mut Findings) {
    let Left { awake: left, spare } = left(state, policy);
    if left < policy.min_awake {
        let least = policy.min_awake;
        found.add(Cause::TooFewAwake { policy: policy.name.clone(), left, least });
    }
    let wanted = policy.spare_dedicated;
    // Giving up a node that hosts VMs takes no spare away; rule 3 judges that.
    let gave_up_spare = state.suspended.keys().any(|&name| is_empty(state, name) && is_dedicated(state, name));
    if spare < wanted && gave_up_spare {
        found.add(Cause::TooFewSpare { policy: policy.name.clone(), left: spare, wanted });
    }
}

fn is_empty(state: &State<'_>, name: &NodeName) -> bool {
    state.occupancy.on(name).is_some_and(|on| on.vms == 0)
}

fn is_dedicated(state: &State<'_>, name: &NodeName) -> bool {
    let class = state.snapshot.nodes.get(name).and_then(|node| state.policies.class_of(node).ok().flatten());
    class.is_some_and(|class| class.role == Role::Dedicated)
}
