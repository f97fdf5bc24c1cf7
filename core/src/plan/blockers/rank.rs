//! Which nodes could sleep, and what keeps the others awake: reported in every mode, also where nothing sleeps yet.

use super::SuspendBlockers;
use crate::model::{Blocker, PolicyName, PowerState};
use crate::plan::draft::Draft;
use crate::plan::{CountedBy, RankedBlocker, ReplacedBy};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// So many nodes are named for each blocker.
const EXAMPLES: usize = 3;

/// Notes for every awake node that a policy rules what keeps it from sleeping, and ranks the reasons by policy.
pub(in crate::plan) fn judge(draft: &mut Draft<'_>) {
    let judge = SuspendBlockers::new(draft.occupancy.whereabouts(), draft.policies);
    let mut ranks: BTreeMap<&PolicyName, BTreeMap<Cow<'static, str>, RankedBlocker>> = BTreeMap::new();
    for place in &mut draft.places {
        let Some(policy) = place.policy else { continue };
        // What keeps a node awake is counted of those that are; of the others the power sequence wants to know it.
        if place.node.power != PowerState::Awake {
            place.blockers = judge.of(place.node);
            continue;
        }
        let ranks = ranks.entry(&policy.name).or_default();
        place.blockers = judge.of(place.node);
        for blocker in &place.blockers {
            let rank = ranks.entry(blocker.kind()).or_insert_with(|| RankedBlocker::new(blocker));
            rank.nodes += 1;
            rank.alone += u32::from(place.blockers.len() == 1);
            if rank.examples.len() < EXAMPLES {
                rank.examples.push(place.node.name.clone());
            }
        }
    }
    for (policy, ranks) in ranks {
        if let Some(report) = draft.report.policies.get_mut(policy) {
            report.blockers.extend(ranks.into_values());
            report.blockers.sort_by(|a, b| b.nodes.cmp(&a.nodes).then_with(|| a.reason.cmp(&b.reason)));
        }
    }
}

/// Notes for every policy which NodeHealthChecks count its nodes while they sleep.
pub(in crate::plan) fn note_health_checks(draft: &mut Draft<'_>) {
    for (name, check) in &draft.snapshot.health_checks {
        let counted = draft.places.iter().filter(|place| check.counts_asleep(place.node));
        let nodes = u32::try_from(counted.clone().count()).unwrap_or(u32::MAX);
        let sleepy = counted.filter(|place| place.class.is_some_and(|class| class.sleep.can_be_woken));
        let policies: BTreeSet<&PolicyName> =
            sleepy.filter_map(|place| place.policy.map(|policy| &policy.name)).collect();
        for policy in policies {
            if let Some(report) = draft.report.policies.get_mut(policy) {
                let most_asleep = check.most_asleep(nodes);
                report.counted_by.push(CountedBy { name: name.clone(), nodes, most_asleep });
            }
        }
    }
}

/// Notes for every policy which MachineHealthChecks keep its nodes awake, because they would replace their machines.
pub(in crate::plan) fn note_machine_checks(draft: &mut Draft<'_>) {
    for place in &draft.places {
        let sleepy = place.class.is_some_and(|class| class.sleep.can_be_woken);
        let Some(check) = draft.snapshot.machine_checks.get(&place.node.name).filter(|_| sleepy) else { continue };
        let Some(report) = place.policy.and_then(|policy| draft.report.policies.get_mut(&policy.name)) else {
            continue;
        };
        match report.replaced_by.iter_mut().find(|known| known.name == *check) {
            Some(known) => known.nodes += 1,
            None => report.replaced_by.push(ReplacedBy { name: check.clone(), nodes: 1 }),
        }
    }
}

impl RankedBlocker {
    fn new(blocker: &Blocker) -> Self {
        let (reason, advice) = (blocker.kind().into_owned(), blocker.advice());
        Self { reason, nodes: 0, alone: 0, examples: Vec::new(), advice }
    }
}
