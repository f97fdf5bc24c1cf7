//! Own writes that the watches do not show yet: expected, not forgotten.
//!
//! A plan that was just written is in the next Snapshot although its watch event is still on the way, and an event
//! that is older than the write does not undo it. What does not show up in time is read directly.

use crate::observe::seen::{Kind, ObjectKey, Version};
use miyako_core::model::{Span, Timestamp, Uid};
use std::collections::BTreeMap;

/// How long an own write may take to come back through the watch. Watches lag by milliseconds; after this long
/// something is wrong, and a direct read tells what.
pub const EXPECTED_WITHIN: Span = Span::from_secs(10);

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Written {
    /// An object, up to this version.
    Object(Version),
    /// The deletion of the object with this uid.
    Deletion(Uid),
}

#[derive(Debug, Clone)]
struct Expectation {
    written: Written,
    until: Timestamp,
}

/// The own writes that are still expected.
#[derive(Debug, Default)]
pub(super) struct Expectations(BTreeMap<(Kind, ObjectKey), Expectation>);

impl Expectations {
    /// An object was written and came back with this version.
    pub(super) fn written(&mut self, kind: Kind, key: ObjectKey, version: Version, now: Timestamp) {
        let expectation = Expectation { written: Written::Object(version), until: now + EXPECTED_WITHIN };
        self.0.insert((kind, key), expectation);
    }

    /// An object was deleted for good.
    pub(super) fn deleted(&mut self, kind: Kind, key: ObjectKey, uid: Uid, now: Timestamp) {
        let expectation = Expectation { written: Written::Deletion(uid), until: now + EXPECTED_WITHIN };
        self.0.insert((kind, key), expectation);
    }

    /// Whether the news that an object is as told may be believed, or is older than what we wrote.
    pub(super) fn admits(&mut self, kind: Kind, key: &ObjectKey, uid: &Uid, version: Version) -> bool {
        let id = (kind, key.clone());
        let news_is_newer = match self.0.get(&id).map(|expectation| &expectation.written) {
            None => return true,
            Some(Written::Object(written)) => version >= *written,
            Some(Written::Deletion(deleted)) => uid != deleted,
        };
        if news_is_newer {
            self.0.remove(&id);
        }
        news_is_newer
    }

    /// Whether the news that an object is gone may be believed.
    pub(super) fn admits_gone(&mut self, kind: Kind, key: &ObjectKey, uid: &Uid, version: Version) -> bool {
        let id = (kind, key.clone());
        let news_is_newer = match self.0.get(&id).map(|expectation| &expectation.written) {
            None => return true,
            Some(Written::Object(written)) => version >= *written,
            Some(Written::Deletion(deleted)) => uid == deleted,
        };
        if news_is_newer {
            self.0.remove(&id);
        }
        news_is_newer
    }

    /// Whether a list of this version that does not hold the object tells that it is gone.
    pub(super) fn admits_absence(&mut self, kind: Kind, key: &ObjectKey, version: Version) -> bool {
        let id = (kind, key.clone());
        match self.0.get(&id).map(|expectation| &expectation.written) {
            Some(Written::Object(written)) if version < *written => false,
            _ => {
                self.0.remove(&id);
                true
            }
        }
    }

    /// A direct read answered: whatever it said, it is newer than the write.
    pub(super) fn settled(&mut self, kind: Kind, key: &ObjectKey) {
        self.0.remove(&(kind, key.clone()));
    }

    /// Those that are overdue; each is told again after another while.
    pub(super) fn overdue(&mut self, now: Timestamp) -> Vec<(Kind, ObjectKey)> {
        let mut overdue = Vec::new();
        for (id, expectation) in &mut self.0 {
            // A clock that was set back must not keep an expectation alive for hours.
            let far_ahead = expectation.until > now + EXPECTED_WITHIN + EXPECTED_WITHIN;
            if expectation.until <= now || far_ahead {
                expectation.until = now + EXPECTED_WITHIN;
                overdue.push(id.clone());
            }
        }
        overdue
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
