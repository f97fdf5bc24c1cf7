//! What watches nodes from outside and repairs those that do not answer: medik8s' NodeHealthChecks.
//!
//! It leaves single nodes alone that carry our labels (`NodeMarks`), and still counts them: with too many of them it
//! takes the cluster for broken and repairs nobody, not even a node that really died.

use super::{Node, NodeMarks, Selector};

/// A number of nodes, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many.
    Count(u32),
    /// So many of a hundred.
    Percent(u32),
}

impl Share {
    /// Of so many nodes; a share is rounded up.
    fn of_at_least(self, total: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => part(total, percent, 99),
        }
    }

    /// Of so many nodes; a share is rounded down.
    fn of_at_most(self, total: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => part(total, percent, 0),
        }
    }
}

fn part(total: u32, percent: u32, round: u64) -> u32 {
    u32::try_from((u64::from(total) * u64::from(percent) + round) / 100).unwrap_or(u32::MAX)
}

/// While so many nodes are well, or unwell, the others are repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairsWhile {
    /// At least so many are healthy.
    Healthy(Share),
    /// At most so many are not.
    Unhealthy(Share),
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The nodes that it watches.
    pub nodes: Selector,
    /// When it repairs.
    pub repairs: RepairsWhile,
}

impl HealthCheck {
    /// Whether it counts this node while it sleeps: with the labels that it carries then.
    #[must_use]
    pub fn counts_asleep(&self, node: &Node) -> bool {
        let mut labels = node.labels.clone();
        labels.extend(NodeMarks::Asleep.labels().into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())));
        self.nodes.matches(&labels)
    }

    /// How many of so many nodes may be unhealthy while it still repairs.
    #[must_use]
    pub fn most_unhealthy(&self, total: u32) -> u32 {
        match self.repairs {
            RepairsWhile::Healthy(share) => total.saturating_sub(share.of_at_least(total)),
            RepairsWhile::Unhealthy(share) => share.of_at_most(total),
        }
    }

    /// How many of so many nodes may sleep while it would still repair one that really fails.
    #[must_use]
    pub fn most_asleep(&self, total: u32) -> u32 {
        self.most_unhealthy(total).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_so_that_the_check_still_repairs() {
        let check = |repairs| HealthCheck { nodes: Selector::default(), repairs };
        let cases = [
            (RepairsWhile::Healthy(Share::Percent(51)), [(1, 0), (4, 1), (5, 2), (100, 49)]),
            (RepairsWhile::Healthy(Share::Count(3)), [(1, 0), (4, 1), (5, 2), (100, 97)]),
            (RepairsWhile::Unhealthy(Share::Percent(40)), [(1, 0), (4, 1), (5, 2), (100, 40)]),
            (RepairsWhile::Unhealthy(Share::Count(2)), [(1, 2), (4, 2), (5, 2), (100, 2)]),
        ];
        for (repairs, expected) in cases {
            for (total, most) in expected {
                assert_eq!(check(repairs).most_unhealthy(total), most, "{repairs:?} of {total}");
            }
        }
        assert_eq!(check(RepairsWhile::Healthy(Share::Percent(51))).most_asleep(100), 48);
    }
}
