//! Who asked the API server for what: the audit log's answer to "does it stay within its rights and its budget?".

use anyhow::Context as _;
use serde::Deserialize;
use std::path::Path;

/// One finished request of a service account.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `patch`, …
    pub verb: String,
    /// The path and query.
    #[serde(rename = "requestURI")]
    pub uri: String,
    /// Who asked.
    pub user: User,
    /// What for; none for paths such as `/version`.
    pub object_ref: Option<Object>,
    /// How it ended.
    pub response_status: Option<Status>,
    /// `ResponseStarted` (a watch begins), `ResponseComplete`, `Panic`.
    pub stage: String,
}

/// The user of a [`Request`].
#[derive(Debug, Clone, Deserialize)]
pub struct User {
    /// The user's name, `system:serviceaccount:<namespace>:<name>`.
    pub username: String,
}

/// The object of a [`Request`].
#[derive(Debug, Clone, Deserialize)]
pub struct Object {
    /// The plural.
    pub resource: Option<String>,
    /// `status`, `token`, …
    pub subresource: Option<String>,
    /// The namespace, if it has one.
    pub namespace: Option<String>,
    /// The name, unless it is a list or the server makes it up.
    pub name: Option<String>,
}

/// The answer of a [`Request`].
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The HTTP status.
    pub code: Option<u16>,
}

impl Request {
    /// Whether RBAC (or admission) said no.
    #[must_use]
    pub fn forbidden(&self) -> bool {
        self.response_status.as_ref().and_then(|status| status.code) == Some(403)
    }

    /// Whether it meant to change something.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

/// The log at one moment.
#[derive(Debug, Clone, Default)]
pub struct Log {
    requests: Vec<Request>,
}

impl Log {
    /// Reads the log as it is now. The API server writes it with a small delay and may be in the middle of a line.
    ///
    /// # Errors
    /// When the file can't be read or holds something else.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let requests = complete
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("not an audit event: {line}")))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { requests })
    }

    /// How many requests the log has, for the `skip` of a later [`Self::of`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether nobody has asked for anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// The completed requests of a service account, after the first `skip` requests of the log.
    pub fn of(&self, namespace: &str, account: &str, skip: usize) -> impl Iterator<Item = &Request> {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        self.requests
            .iter()
            .skip(skip)
            .filter(move |request| request.user.username == user && request.stage == "ResponseComplete")
    }
}
