//! What was said to be wrong, so that it is said once and not every second.

use std::collections::BTreeMap;

/// Subjects with what was last said of each. Bounded by what is read.
#[derive(Debug, Default)]
pub(super) struct Complaints(BTreeMap<String, String>);

impl Complaints {
    /// Logs `text` unless it is what was last said of `subject`.
    pub(super) fn say(&mut self, subject: &str, text: String) {
        if self.0.get(subject) != Some(&text) {
            tracing::warn!("{text}");
            self.0.insert(subject.to_owned(), text);
        }
    }

    /// All is well with `subject`.
    pub(super) fn settle(&mut self, subject: &str) {
        if self.0.remove(subject).is_some() {
            tracing::info!(subject, "can be measured again");
        }
    }

    /// Forgets what was said of subjects that are no more.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|subject, _| is_there(subject));
    }
}
