//! What can go wrong with a write, by what to do about it.

use super::fenced::{FenceDown, TooLate};
use thiserror::Error;

/// What to do about an error (the class decides, not the text).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Try again later; nothing is known to be wrong with the wish.
    Transient,
    /// The world has changed: look again.
    Conflict,
    /// The API server or an admission webhook says no to this very wish.
    Refused,
    /// We are not (safely) leading: another one writes.
    NotLeading,
}

impl Class {
    /// The class's name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "Transient",
            Self::Conflict => "Conflict",
            Self::Refused => "Refused",
            Self::NotLeading => "NotLeading",
        }
    }
}

/// A write that did not happen, or of which we do not know whether it did.
#[derive(Debug, Error)]
pub enum ActError {
    /// The fence is down.
    #[error("the leader's lease is not safely held")]
    NotLeading,
    /// The pass took too long: the write was not begun, or its answer did not come in time.
    #[error("the pass's time is over")]
    OutOfTime,
    /// The object is not the one that was meant, or not any more.
    #[error("{0}")]
    Changed(String),
    /// The API server's answer, or none.
    #[error("{what}")]
    Api {
        /// What was attempted.
        what: String,
        /// The answer.
        #[source]
        source: kube::Error,
    },
}

impl ActError {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        let source = match self {
            Self::NotLeading => return Class::NotLeading,
            Self::OutOfTime => return Class::Transient,
            Self::Changed(_) => return Class::Conflict,
            Self::Api { source, .. } => source,
        };
        match source {
            kube::Error::Api(status) => match status.code {
                404 | 409 | 410 => Class::Conflict,
                408 | 429 => Class::Transient,
                400..=499 => Class::Refused,
                _ => Class::Transient,
            },
            _ => Class::Transient,
        }
    }

    /// Nobody answered in time: whether it was carried out is not known.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        match self {
            Self::OutOfTime => true,
            Self::Api { source: kube::Error::Service(inner), .. } => inner.is::<TooLate>(),
            _ => false,
        }
    }

    /// The API server's own words, if it answered.
    #[must_use]
    pub fn answer(&self) -> String {
        match self {
            Self::Api { source: kube::Error::Api(status), .. } => status.message.clone(),
            other => crate::error_chain(other),
        }
    }
}

/// Says what was attempted when it fails.
pub(super) trait Attempt<T> {
    /// Names the attempt.
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, ActError>;
}

impl<T> Attempt<T> for Result<T, kube::Error> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, ActError> {
        self.map_err(|source| match source {
            kube::Error::Service(inner) if inner.is::<FenceDown>() => ActError::NotLeading,
            source => ActError::Api { what: what(), source },
        })
    }
}
