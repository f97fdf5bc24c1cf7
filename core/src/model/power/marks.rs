//! What a Node carries while it does not simply run: so that it looks asleep, and not broken.

use crate::model::{Node, Taint, TaintEffect};
use serde::{Deserialize, Serialize};

/// Our taint and label; the value says which of the [`NodeMarks`].
const POWER: &str = "miyako.dev/power";

/// The node-lifecycle controller leaves such nodes out when it counts how much of a zone is down: without it, over 55 %
/// of sleepers would all but stop evictions from nodes that really died.
const EXCLUDE_DISRUPTION: &str = "node.kubernetes.io/exclude-disruption";

/// medik8s' remediators leave such nodes alone.
const EXCLUDE_REMEDIATION: &str = "remediation.medik8s.io/exclude-from-remediation";

/// What we write on a Node: one taint and a few labels, together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodeMarks {
    /// Nothing.
    #[default]
    None,
    /// New pods rather go elsewhere.
    Emptying,
    /// No new pods, and nobody takes it for broken.
    Asleep,
    /// It is back, and a DaemonSet's pod that it needs is gone: new pods rather go elsewhere, and that one may come. The
    /// DaemonSet controller makes none for a node with a `NoSchedule` taint that the pod does not tolerate, and
    /// virt-handler does not tolerate ours.
    Waking,
    /// It failed to wake, so nothing keeps others from repairing it: neither their programs nor, for the same reason as
    /// above, the pods of DaemonSets. New pods rather go elsewhere.
    Quarantined,
}

impl NodeMarks {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Emptying, Self::Asleep, Self::Waking, Self::Quarantined];

    /// The value of the taint.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Emptying => "emptying",
            Self::Asleep => "asleep",
            Self::Waking => "waking",
            Self::Quarantined => "quarantined",
        }
    }

    /// The taint.
    #[must_use]
    pub fn taint(self) -> Option<Taint> {
        let effect = match self {
            Self::None => return None,
            Self::Emptying | Self::Waking | Self::Quarantined => TaintEffect::PreferNoSchedule,
            Self::Asleep => TaintEffect::NoSchedule,
        };
        Some(Taint { key: POWER.into(), value: self.word().into(), effect })
    }

    /// The labels, with their values. A node that is back and not usable yet looks asleep to others.
    #[must_use]
    pub fn labels(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::None | Self::Emptying => Vec::new(),
            Self::Asleep | Self::Waking => {
                vec![(POWER, Self::Asleep.word()), (EXCLUDE_DISRUPTION, "true"), (EXCLUDE_REMEDIATION, "true")]
            }
            Self::Quarantined => vec![(POWER, self.word())],
        }
    }

    /// What a node carries; none if it is none of the sets in full. Labels that people set by themselves are not ours
    /// to judge: without our own label the two others don't count.
    #[must_use]
    pub fn of(node: &Node) -> Option<Self> {
        let mut taints = node.taints.iter().filter(|taint| taint.key == POWER);
        let (taint, more) = (taints.next(), taints.next());
        let marks = Self::ALL.into_iter().find(|marks| marks.taint().as_ref() == taint)?;
        let has = |(key, value): (&str, &str)| node.labels.get(key).is_some_and(|found| found == value || key != POWER);
        let labelled = marks.labels().into_iter().all(has);
        let clean = !marks.labels().is_empty() || !node.labels.contains_key(POWER);
        (more.is_none() && labelled && clean).then_some(marks)
    }
}

/// Our condition on the Node: why it does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodeCondition {
    /// About to be suspended.
    Suspending,
    /// Asleep.
    Suspended,
    /// Being woken.
    Waking,
    /// It failed to wake.
    Quarantined,
}

impl NodeCondition {
    /// The condition's type.
    pub const TYPE: &'static str = "MiyakoSuspended";

    /// All of them.
    pub const ALL: [Self; 4] = [Self::Suspending, Self::Suspended, Self::Waking, Self::Quarantined];

    /// Its reason.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Suspending => "Suspending",
            Self::Suspended => "Suspended",
            Self::Waking => "Waking",
            Self::Quarantined => "WakeFailed",
        }
    }

    /// Whether the node sleeps on purpose.
    #[must_use]
    pub fn status(self) -> &'static str {
        match self {
            Self::Suspending | Self::Suspended | Self::Waking => "True",
            Self::Quarantined => "False",
        }
    }

    /// For people.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Suspending => "Miyako is suspending this node, because nobody needs it",
            Self::Suspended => "Miyako suspended this node, because nobody needs it; it is woken when somebody does",
            Self::Waking => "Miyako is waking this node",
            Self::Quarantined => "this node did not wake when Miyako asked; see its NodePower",
        }
    }

    /// Reads a reason.
    #[must_use]
    pub fn of_reason(reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|condition| condition.reason() == reason)
    }
}
