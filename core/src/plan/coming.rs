//! Nodes that are not usable now and may be counted on soon.

use crate::model::{Node, NodeClass, PowerRecord, PowerState, Span, Timestamp};

/// How a node comes to be usable, the soonest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Coming {
    /// It is usable.
    Here,
    /// It is being woken.
    OnItsWay,
    /// It was to be suspended, and is called back.
    CalledBack,
    /// It sleeps, and takes so long to be usable: nodes that are switched off come after those in S3.
    Asleep(Span),
    /// It can't be counted on.
    No,
}

impl Coming {
    /// How this node comes to be usable. One that is being woken and late can't be counted on: others are looked for
    /// while it is still asked.
    pub(super) fn of(node: &Node, class: Option<&NodeClass>, record: Option<&PowerRecord>, now: Timestamp) -> Self {
        match node.power {
            _ if node.is_usable() => Self::Here,
            PowerState::Awake | PowerState::Quarantined => Self::No,
            PowerState::Emptying | PowerState::Suspending => Self::CalledBack,
            PowerState::Suspended => Self::Asleep(class.map(|class| class.sleep.pace.resume).unwrap_or_default()),
            PowerState::Waking => {
                let patience = class.map(|class| class.sleep.pace.counted_on()).unwrap_or_default();
                let since = record.and_then(|record| record.since);
                let late = since.is_some_and(|since| now.since(since) >= patience);
                if late { Self::No } else { Self::OnItsWay }
            }
        }
    }

    /// It is not usable, and will be if it is wanted.
    pub(super) fn is_coming(self) -> bool {
        matches!(self, Self::OnItsWay | Self::CalledBack | Self::Asleep(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_soonest_comes_first() {
        let soonest = [
            Coming::Here,
            Coming::OnItsWay,
            Coming::CalledBack,
            Coming::Asleep(Span::from_secs(5)),
            Coming::Asleep(Span::from_secs(240)),
            Coming::No,
        ];
        assert!(soonest.is_sorted());
        assert!(soonest[1..5].iter().all(|coming| coming.is_coming()) && !Coming::No.is_coming());
    }
}
