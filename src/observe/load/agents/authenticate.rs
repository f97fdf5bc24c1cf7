//! Who an agent is.

use futures::future::BoxFuture;
use miyako_core::model::NodeName;
use tonic::{Status, metadata::MetadataMap};

/// Longer tokens than this are nobody's: projected ServiceAccount tokens are about 1 KiB.
const LONGEST_TOKEN: usize = 16 * 1024;

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// The node of its pod: for it an agent may speak.
    pub node: NodeName,
    /// Its pod, where the API server tells.
    pub pod: Option<String>,
}

/// Tells which node an agent may speak for, or on which node a waker runs.
pub trait Authenticate: Send + Sync + 'static {
    /// Who the bearer of `token` is, and so which node it may speak for.
    ///
    /// # Errors
    /// Why it may speak for none.
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Speaker, AuthenticationError>>;
}

/// Why an agent may not speak.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthenticationError {
    /// It showed nothing.
    #[error("no bearer token; send metadata `authorization: Bearer <projected ServiceAccount token>`")]
    NoToken,
    /// The API server does not know the token, or it is expired or for another audience.
    #[error("the API server refused the token: {0}")]
    Refused(String),
    /// The token belongs to somebody who is no agent.
    #[error("{got:?} may not speak here; expected {expected:?}")]
    WrongAccount {
        /// Whose token it is.
        got: String,
        /// Whose it must be.
        expected: String,
    },
    /// The token is bound to no pod that was on a node.
    #[error(
        "the token names no node; use a projected token of a pod (`serviceAccountToken` volume) on Kubernetes 1.32 or newer"
    )]
    NoNode,
    /// The API server could not be asked; worth trying again.
    #[error("the API server did not answer the TokenReview: {0}")]
    Unavailable(String),
}

impl AuthenticationError {
    /// The name for metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "NoToken",
            Self::Refused(_) => "TokenRefused",
            Self::WrongAccount { .. } => "WrongAccount",
            Self::NoNode => "NoNode",
            Self::Unavailable(_) => "TokenReviewUnavailable",
        }
    }
}

impl From<&AuthenticationError> for Status {
    fn from(error: &AuthenticationError) -> Self {
        let text = error.to_string();
        match error {
            AuthenticationError::NoToken | AuthenticationError::Refused(_) => Self::unauthenticated(text),
            AuthenticationError::WrongAccount { .. } | AuthenticationError::NoNode => Self::permission_denied(text),
            AuthenticationError::Unavailable(_) => Self::unavailable(text),
        }
    }
}

/// The bearer token of a call.
pub(super) fn bearer(metadata: &MetadataMap) -> Result<&str, AuthenticationError> {
    let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer ")).map(str::trim);
    match token {
        Some(token) if !token.is_empty() && token.len() <= LONGEST_TOKEN => Ok(token),
        _ => Err(AuthenticationError::NoToken),
    }
}
