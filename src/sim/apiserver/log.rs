//! Which requests were made, by whom: for API budgets and for comparing runs.

use super::{faults::RequestInfo, request::Verb};
use std::collections::BTreeMap;

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestKind {
    /// Who asked.
    pub actor: String,
    /// What was asked.
    pub verb: Verb,
    /// `plural.group`, or just the plural for the core group, with `/subresource` where there is one.
    pub resource: String,
}

/// One finished request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    /// When, since the Unix epoch by the server's clock, in milliseconds.
    pub at_millis: i64,
    /// Who asked for what.
    pub kind: RequestKind,
    /// `namespace/name`, or the name alone.
    pub object: String,
    /// The HTTP status code; 0 when the request or its answer was lost.
    pub code: u16,
    /// Whether anything was stored.
    pub changed: bool,
}

/// The counters and, if it was asked for, the journal.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    counts: BTreeMap<RequestKind, u64>,
    numbers: BTreeMap<String, u64>,
    /// The most objects that one answer to a list held, by actor and resource.
    longest_lists: BTreeMap<(String, String), usize>,
    journal: Option<Vec<LoggedRequest>>,
}

impl RequestLog {
    pub(crate) fn with_journal(journal: bool) -> Self {
        Self { journal: journal.then(Vec::new), ..Self::default() }
    }

    /// Counts a request; gives its number among the actor's.
    pub(crate) fn count(&mut self, kind: &RequestKind) -> u64 {
        match self.counts.get_mut(kind) {
            Some(count) => *count += 1,
            None => {
                self.counts.insert(kind.clone(), 1);
            }
        }
        let number = self.numbers.entry(kind.actor.clone()).or_insert(0);
        *number += 1;
        *number
    }

    pub(crate) fn listed(&mut self, actor: &str, resource: &str, length: usize) {
        let longest = self.longest_lists.entry((actor.to_owned(), resource.to_owned())).or_insert(0);
        *longest = length.max(*longest);
    }

    pub(crate) fn longest_list(&self, actor: &str, resource: &str) -> usize {
        self.longest_lists.get(&(actor.to_owned(), resource.to_owned())).copied().unwrap_or(0)
    }

    pub(crate) fn finish(&mut self, at_millis: i64, request: &RequestInfo, code: u16, changed: bool) {
        if let Some(journal) = &mut self.journal {
            let object = match request.namespace.as_str() {
                "" => request.name.clone(),
                namespace => format!("{namespace}/{}", request.name),
            };
            journal.push(LoggedRequest { at_millis, kind: kind_of(request), object, code, changed });
        }
    }

    pub(crate) fn counts(&self) -> &BTreeMap<RequestKind, u64> {
        &self.counts
    }

    pub(crate) fn reset(&mut self) {
        self.counts.clear();
        self.longest_lists.clear();
    }

    pub(crate) fn journal(&self) -> &[LoggedRequest] {
        self.journal.as_deref().unwrap_or_default()
    }
}

pub(crate) fn kind_of(request: &RequestInfo) -> RequestKind {
    let resource = match request.subresource.as_str() {
        "" => request.resource.clone(),
        subresource => format!("{}/{subresource}", request.resource),
    };
    RequestKind { actor: request.actor.to_string(), verb: request.verb, resource }
}
