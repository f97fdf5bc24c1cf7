//! Which nodes could sleep, and what keeps the others awake: reported in every mode, also where nothing sleeps yet.

use super::RankedBlocker;
use super::draft::Draft;
use crate::check::SuspendBlockers;
use crate::model::{NodeName, PolicyName, PowerState};
use std::collections::BTreeMap;

/// So many nodes are named for each blocker.
const EXAMPLES: usize = 3;

/// Notes for every awake node that a policy rules what keeps it from sleeping, and ranks the reasons by policy.
pub(super) fn judge(draft: &mut Draft<'_>) {
    let judge = SuspendBlockers::new(draft.snapshot, draft.policies);
    let mut ranks: BTreeMap<(PolicyName, String), RankedBlocker> = BTreeMap::new();
    let names: Vec<NodeName> = draft.places.keys().map(|name| (*name).clone()).collect();
    for name in names {
        let place = &draft.places[&name];
        let Some(policy) = place.policy else { continue };
        if place.node.power != PowerState::Awake {
            continue;
        }
        let blockers = judge.of(place.node);
        for blocker in &blockers {
            let rank = ranks.entry((policy.name.clone(), blocker.kind())).or_insert_with(|| RankedBlocker {
                reason: blocker.kind(),
                nodes: 0,
                alone: 0,
                examples: Vec::new(),
                advice: blocker.advice(),
            });
            rank.nodes += 1;
            rank.alone += u32::from(blockers.len() == 1);
            if rank.examples.len() < EXAMPLES {
                rank.examples.push(name.clone());
            }
        }
        if let Some(report) = draft.report.nodes.get_mut(&name) {
            report.blockers = blockers;
        }
    }
    for ((policy, _), rank) in ranks {
        if let Some(report) = draft.report.policies.get_mut(&policy) {
            report.blockers.push(rank);
        }
    }
    for report in draft.report.policies.values_mut() {
        report.blockers.sort_by(|a, b| b.nodes.cmp(&a.nodes).then_with(|| a.reason.cmp(&b.reason)));
    }
}
