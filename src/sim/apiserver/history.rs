//! What a collection remembers of its changes, for watches to read on in.

use super::store::{Key, Stored};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::time::Instant;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// One entry of the history.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) kind: ChangeKind,
    pub(crate) key: Key,
    /// The object after the change; when it was deleted, its last state under the deletion's version.
    pub(crate) object: Arc<Stored>,
    /// The object before the change.
    pub(crate) before: Option<Arc<Stored>>,
    /// When it happened, for watches that are made to lag.
    pub(crate) at: Instant,
}

/// How much of the past each collection remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimit {
    /// At most so many changes.
    pub changes: usize,
    /// At most so many bytes of the changed objects' JSON text. The newest change stays whatever its size.
    pub bytes: usize,
}

impl Default for HistoryLimit {
    /// 10 000 changes, 1 MiB: an hour and more of a small cluster. A watch reads on within a second of simulated time.
    fn default() -> Self {
        Self { changes: 10_000, bytes: 1 << 20 }
    }
}

/// The newest changes of one collection, bounded in number and in bytes.
#[derive(Debug)]
pub(crate) struct History {
    changes: VecDeque<Change>,
    bytes: usize,
    /// The version of the newest change that is no longer remembered.
    forgotten: u64,
}

impl History {
    /// A history that remembers nothing up to this version.
    pub(crate) fn from(forgotten: u64) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, forgotten }
    }

    /// Takes in a change, and forgets the oldest ones beyond the limit.
    pub(crate) fn push(&mut self, change: Change, limit: HistoryLimit) {
        self.bytes += change.object.json().len();
        self.changes.push_back(change);
        while self.changes.len() > limit.changes || (self.bytes > limit.bytes && self.changes.len() > 1) {
            let Some(old) = self.changes.pop_front() else { break };
            self.bytes -= old.object.json().len();
            self.forgotten = old.version;
        }
    }

    /// Forgets all up to this version.
    pub(crate) fn forget(&mut self, version: u64) {
        *self = Self::from(version);
    }

    /// The version of the newest change that is no longer remembered: a watch from an older one gets 410.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The changes after this version, oldest first.
    pub(crate) fn after(&self, version: u64) -> impl ExactSizeIterator<Item = &Change> {
        self.changes.range(self.changes.partition_point(|change| change.version <= version)..)
    }

    /// How many changes are remembered.
    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    /// The bytes of their objects' JSON text.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(version: u64, text: &str) -> Change {
        let object = Arc::new(Stored::new(json!(text), version));
        let key = (String::new(), "one".to_owned());
        Change { version, kind: ChangeKind::Modified, key, object, before: None, at: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_changes_go_beyond_either_limit() {
        let limit = HistoryLimit { changes: 3, bytes: 20 };
        let mut history = History::from(0);
        for version in 1..=4 {
            history.push(change(version, "ab"), limit);
        }
        assert_eq!((history.len(), history.bytes(), history.forgotten()), (3, 12, 1), "by number");
        history.push(change(5, "twelve bytes"), limit);
        assert_eq!((history.len(), history.bytes(), history.forgotten()), (2, 18, 3), "by bytes");
        history.push(change(6, "one that is larger than all may be together"), limit);
        assert_eq!((history.len(), history.forgotten()), (1, 5), "the newest stays");
        assert_eq!(history.after(5).len(), 1);
        assert_eq!(history.after(6).len(), 0);
        history.forget(9);
        assert_eq!((history.len(), history.bytes(), history.forgotten()), (0, 0, 9));
    }
}
