//! Rule 4: spare dedicated nodes and the least number of awake nodes.

use super::{Findings, Rule, State};
use crate::model::{Policy, Role};

/// After the suspends so far, what the policy keeps in reserve is still there.
pub(super) fn judge(state: &State<'_>, policy: &Policy, found: &mut Findings) {
    let awake: Vec<_> = state.nodes_of(policy).iter().filter(|(node, _)| state.stays_usable(node)).collect();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let left = number(awake.len());
    if left < policy.min_awake {
        let least = policy.min_awake;
        found.add(Rule::Reserve, format!("policy {} would keep {left} nodes awake, not {least}", policy.name));
    }
    let empty = |node| state.occupancy.on(node).is_some_and(|on| on.vms == 0);
    let spare = awake.iter().filter(|(node, class)| class.role == Role::Dedicated && empty(&node.name)).count();
    let (spare, wanted) = (number(spare), policy.spare_dedicated);
    // Giving up a node that hosts VMs takes no spare away; rule 3 judges that.
    let gave_up_spare = state.suspended.keys().any(|&name| empty(name) && is_dedicated(state, name));
    if spare < wanted && gave_up_spare {
        let name = &policy.name;
        found.add(Rule::Reserve, format!("policy {name} would keep {spare} dedicated nodes spare, not {wanted}"));
    }
}

fn is_dedicated(state: &State<'_>, name: &crate::model::NodeName) -> bool {
    let class = state.snapshot.nodes.get(name).and_then(|node| state.policies.class_of(node).ok().flatten());
    class.is_some_and(|class| class.role == Role::Dedicated)
}
