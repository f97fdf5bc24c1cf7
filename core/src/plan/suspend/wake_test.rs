//! Whether a node has shown that it wakes, and who tests it when.
//!
//! A node that came back from a sleep because it was asked to has shown it, whatever it slept for: in a cluster whose
//! nodes come and go, few sleep for a test alone. A node that never did, or long ago, or that failed since, sleeps for
//! a test first: short, watched, and only while nothing needs it.

use crate::model::{ClassName, Node, NodeClass, NodeName, Policy, PowerState, Purpose, Span, SuspendReason, Timestamp};
use crate::plan::AwakeBecause;
use crate::plan::draft::{Draft, Place};
use std::collections::BTreeMap;

/// A node that failed to wake is not tested again before this time, if its class does not test more often: somebody
/// is to look at it first.
const RESTS: Span = Span::from_secs(24 * 3600);

/// The node's proof is missing or too old.
pub(super) fn is_due(node: &Node, class: &NodeClass, now: Timestamp) -> bool {
    node.wake_tested.is_none_or(|tested| now.since(tested) >= class.sleep.wake_tests.every)
}

/// The nodes of a policy that are being tested, or are to be by a plan: one of each class and rack, because what keeps
/// one from waking may keep all of them.
#[derive(Default)]
pub(super) struct UnderTest<'a>(BTreeMap<(&'a ClassName, Option<&'a str>), &'a NodeName>);

impl<'a> UnderTest<'a> {
    /// Notes a node if it is tested.
    pub(super) fn note(&mut self, draft: &Draft<'a>, policy: &Policy, number: usize) {
        let place = &draft.places[number];
        let record = draft.snapshot.powers.get(&place.node.name);
        let purpose = record.and_then(|record| record.purpose.as_ref());
        let away = !matches!(place.node.power, PowerState::Awake | PowerState::Quarantined);
        if draft.tested.contains(&number) || (away && purpose.is_some_and(Purpose::is_wake_test)) {
            self.0.extend(beside(place, policy).map(|beside| (beside, &place.node.name)));
        }
    }
}

/// The class and rack of a node.
fn beside<'a>(place: &Place<'a>, policy: &Policy) -> Option<(&'a ClassName, Option<&'a str>)> {
    Some((&place.class?.name, place.node.labels.get(&policy.sleep.rack).map(String::as_str)))
}

/// What the node would be suspended for now.
///
/// # Errors
/// It is to be tested first, and not now.
pub(super) fn reason_to_sleep(
    draft: &Draft<'_>,
    policy: &Policy,
    tested: &UnderTest<'_>,
    number: usize,
) -> Result<SuspendReason, AwakeBecause> {
    let place = &draft.places[number];
    let Some(class) = place.class else { return Err(AwakeBecause::NoWakeDriver) };
    if !is_due(place.node, class, draft.now) {
        return Ok(SuspendReason::Empty);
    }
    let tests = class.sleep.wake_tests;
    if !tests.by_policy {
        return Err(AwakeBecause::TestedByPeople { tested: place.node.wake_tested });
    }
    let failed = draft.snapshot.powers.get(&place.node.name).and_then(|record| record.wake_failed);
    if let Some(at) = failed {
        let until = at + RESTS.min(tests.every);
        if draft.now < until {
            return Err(AwakeBecause::FailedToWake { at, until });
        }
    }
    match beside(place, policy).and_then(|beside| tested.0.get(&beside)) {
        Some(&other) => Err(AwakeBecause::TestedAfter { other: other.clone() }),
        None => Ok(SuspendReason::WakeTest),
    }
}
