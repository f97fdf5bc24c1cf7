//! Shared nodes that stay overloaded because no VM on them can be moved: the VMs there get less CPU than they want, and
//! nobody but a person can help them.

use miyako_core::model::{NodeName, PolicyName, Snapshot, Span, Timestamp};
use miyako_core::plan::{NodeVerdict, Report, StayReason, VmVerdict};
use std::collections::BTreeMap;

/// Who is stuck for less than this may be relieved in the next moment.
const AT_LEAST: Span = Span::from_secs(60);
/// Why a node is stuck is looked at this often; reasons come and go with the second.
const LOOK_AGAIN: Span = Span::from_secs(300);

/// A node that has been stuck for some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StuckNode {
    pub(super) node: NodeName,
    pub(super) policy: PolicyName,
    pub(super) since: Timestamp,
    /// Why most of its VMs stay.
    pub(super) because: &'static str,
}

impl std::fmt::Display for StuckNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { node, since, because, .. } = self;
        write!(f, "{node} has been overloaded since {since}, and no VM on it can be moved ({because})")
    }
}

#[derive(Debug, Clone, Copy)]
struct Since {
    began: Timestamp,
    looked: Timestamp,
    because: &'static str,
}

/// Since when nodes have been stuck.
#[derive(Debug, Default)]
pub(super) struct StuckNodes(BTreeMap<NodeName, Since>);

impl StuckNodes {
    /// How many nodes are stuck, or were a moment ago.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Looks at what was decided, and names the nodes that have been stuck for some time. A node that is gated is not
    /// stuck: its policy says itself why it does nothing.
    pub(super) fn look(&mut self, report: &Report, snapshot: &Snapshot, now: Timestamp) -> Vec<StuckNode> {
        self.0.retain(|node, _| report.nodes.get(node).is_some_and(|found| is_overloaded(&found.verdict)));
        let mut found = Vec::new();
        for (name, node) in &report.nodes {
            let NodeVerdict::Stuck { .. } = node.verdict else { continue };
            let Some(policy) = &node.policy else { continue };
            if report.policies.get(policy).is_some_and(|policy| policy.gate.is_some()) {
                self.0.remove(name);
                continue;
            }
            let known = self.0.entry(name.clone()).or_insert(Since { began: now, looked: now, because: "" });
            if now.since(known.began) < AT_LEAST {
                continue;
            }
            if known.because.is_empty() || now.since(known.looked) >= LOOK_AGAIN {
                (known.because, known.looked) = (why(name, report, snapshot), now);
            }
            let (node, policy) = (name.clone(), policy.clone());
            found.push(StuckNode { node, policy, since: known.began, because: known.because });
        }
        found
    }
}

/// Whether a node that was stuck may still be: nothing has relieved it.
fn is_overloaded(verdict: &NodeVerdict) -> bool {
    matches!(verdict, NodeVerdict::Stuck { .. } | NodeVerdict::Settling { .. } | NodeVerdict::Relieving { .. })
}

/// What keeps most of a node's VMs from moving, of those that it would help.
fn why(node: &NodeName, report: &Report, snapshot: &Snapshot) -> &'static str {
    let mut reasons: BTreeMap<&'static str, usize> = BTreeMap::new();
    for (key, _) in snapshot.vms.iter().filter(|(_, vm)| vm.node.as_ref() == Some(node)) {
        let Some(VmVerdict::Stays { reason }) = report.vms.get(key).map(|vm| &vm.verdict) else { continue };
        if !matches!(reason, StayReason::NoRelief | StayReason::NotSelected) {
            *reasons.entry(reason.name()).or_default() += 1;
        }
    }
    let most = reasons.into_iter().max_by(|(a, some), (b, more)| some.cmp(more).then_with(|| b.cmp(a)));
    most.map_or("NothingToMove", |(reason, _)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_core::model::{Cores, Percent, Role, VmKey, WindowAverage};
    use miyako_core::plan::{Gate, NodeReport, PolicyReport};

    const BEGAN: Timestamp = Timestamp::from_secs(1_000);

    fn load() -> Percent {
        Percent::new(97.0).unwrap()
    }

    fn report(verdict: NodeVerdict) -> Report {
        let mut report = Report::default();
        report.policies.insert(PolicyName::new("p"), PolicyReport::default());
        let node = NodeReport {
            class: None,
            policy: Some(PolicyName::new("p")),
            role: Some(Role::Shared),
            load: WindowAverage::Never,
            capacity: Cores::ZERO,
            vms: 2,
            empty_cores: None,
            verdict,
            blockers: Vec::new(),
            awake_because: None,
        };
        report.nodes.insert(NodeName::new("a"), node);
        report
    }

    fn look(stuck: &mut StuckNodes, verdict: NodeVerdict, second: u64) -> Vec<String> {
        let now = BEGAN + Span::from_secs(second);
        let found = stuck.look(&report(verdict), &Snapshot::default(), now);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_is_told_of_once_it_has_been_stuck_for_a_minute() {
        let mut stuck = StuckNodes::default();
        let hopeless = || NodeVerdict::Stuck { load: load() };
        assert_eq!(look(&mut stuck, hopeless(), 0), [""; 0]);
        assert_eq!(look(&mut stuck, hopeless(), 59), [""; 0]);
        let said = format!("a has been overloaded since {BEGAN}, and no VM on it can be moved (NothingToMove)");
        assert_eq!(look(&mut stuck, hopeless(), 60), std::slice::from_ref(&said));
        // Somebody who waits for a moment relieves nothing.
        assert_eq!(look(&mut stuck, NodeVerdict::Relieving { load: load() }, 61), [""; 0]);
        assert_eq!(look(&mut stuck, hopeless(), 62), [said]);
        // A VM that leaves does, and so does a calm minute.
        let relieved = NodeVerdict::Relieved { load: load(), vm: VmKey::new("vms", "a") };
        for verdict in [relieved, NodeVerdict::Calm { load: load() }] {
            look(&mut stuck, verdict, 63);
            assert_eq!(look(&mut stuck, hopeless(), 64), [""; 0]);
            assert_eq!(look(&mut stuck, hopeless(), 130).len(), 1);
        }
    }

    #[test]
    fn a_policy_that_does_nothing_says_so_itself() {
        let mut stuck = StuckNodes::default();
        let mut report = report(NodeVerdict::Stuck { load: load() });
        for policy in report.policies.values_mut() {
            policy.gate = Some(Gate::RollingOut { what: None });
        }
        for second in [0, 100] {
            assert_eq!(stuck.look(&report, &Snapshot::default(), BEGAN + Span::from_secs(second)), []);
        }
    }
}
