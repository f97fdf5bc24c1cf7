//! What was done before, folded from ConsolidationPlans: budgets, back-off and attempts survive a restart.

use super::{MigrationMode, NodeName, Span, Timestamp, Uid};
use std::collections::{BTreeMap, BTreeSet};

/// Why a move failed, as its plan noted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveFailure {
    /// The reason's name.
    pub reason: String,
    /// The reason in a sentence, with the API server's or KubeVirt's own words.
    pub message: String,
}

/// What we did to one VM lately.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmMoves {
    /// When we began moves of it, ascending, within the last day.
    pub moves: Vec<Timestamp>,
    /// Failures since the last success.
    pub failures: u32,
    /// When the last failure was noted.
    pub last_failure: Option<Timestamp>,
    /// Nodes that the scheduler refused as its target, with when it last did, within the last day. What keeps them apart
    /// is something that we did not see.
    pub refused_by: BTreeMap<NodeName, Timestamp>,
    /// Why the last move failed; none after a success.
    pub failure: Option<MoveFailure>,
    /// Modes that we asked for within the last day and KubeVirt did not apply.
    pub ignored: BTreeSet<MigrationMode>,
}

impl VmMoves {
    /// The first wait after a failure; it doubles with each further one.
    pub const FIRST_BACK_OFF: Span = Span::from_secs(30);
    /// The longest wait after failures.
    pub const LONGEST_BACK_OFF: Span = Span::from_secs(3600);

    /// Moves begun within the 24 hours before `now`. The API server dates them, so one that seems to lie ahead by less
    /// than that was begun too: its clock and ours differ, or ours was set back.
    #[must_use]
    pub fn within_a_day(&self, now: Timestamp) -> usize {
        let day = Span::from_secs(24 * 3600);
        self.moves.iter().filter(|&&at| at > now - day && at < now + day).count()
    }

    /// How long a node that refused it is not asked again.
    pub const REFUSES_FOR: Span = Span::from_secs(1800);

    /// Until when this node is not asked to take it again.
    #[must_use]
    pub fn refused_until(&self, node: &NodeName) -> Option<Timestamp> {
        Some(*self.refused_by.get(node)? + Self::REFUSES_FOR)
    }

    /// Until when it is left alone after failures.
    #[must_use]
    pub fn back_off_until(&self) -> Option<Timestamp> {
        let doublings = self.failures.checked_sub(1)?.min(20);
        let wait = Self::FIRST_BACK_OFF.saturating_mul(1 << doublings).min(Self::LONGEST_BACK_OFF);
        Some(self.last_failure? + wait)
    }
}

/// What we did to every VM lately, by the VMI's uid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MoveHistory {
    /// Moves by VMI uid.
    pub vms: BTreeMap<Uid, VmMoves>,
}

impl MoveHistory {
    /// What we did to one VM.
    #[must_use]
    pub fn of(&self, uid: &Uid) -> Option<&VmMoves> {
        self.vms.get(uid)
    }

    /// Moves begun anywhere within `span` before `now`, or seemingly ahead of it by less than that.
    #[must_use]
    pub fn begun_within(&self, now: Timestamp, span: Span) -> usize {
        self.vms.values().flat_map(|vm| &vm.moves).filter(|&&at| at > now - span && at < now + span).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_behind_spends_the_budget_all_the_same() {
        let now = Timestamp::from_secs(100_000);
        let moves = VmMoves { moves: vec![now + Span::from_secs(5)], ..VmMoves::default() };
        assert_eq!(moves.within_a_day(now), 1);
        let history = MoveHistory { vms: BTreeMap::from([(Uid::new("u"), moves)]) };
        assert_eq!(history.begun_within(now, Span::from_secs(3600)), 1);
    }

    #[test]
    fn back_off_doubles_up_to_an_hour() {
        let after = |failures| {
            let moves = VmMoves { failures, last_failure: Some(Timestamp::from_secs(0)), ..VmMoves::default() };
            moves.back_off_until().map(|until| until.second())
        };
        assert_eq!([after(0), after(1), after(2), after(3)], [None, Some(30), Some(60), Some(120)]);
        assert_eq!(after(40), Some(3600));
    }
}
