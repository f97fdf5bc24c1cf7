//! An HTTP request, understood: which resource, which object, which verb, which options.

use super::{
    error::ApiError,
    registry::{Registry, Resource},
};
use http::{HeaderMap, Method, Uri};
use std::{collections::BTreeMap, sync::Arc};

/// What a request wants to do, named as in RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read many.
    List,
    /// Follow changes.
    Watch,
    /// Make an object.
    Create,
    /// Replace an object.
    Update,
    /// Change parts of an object.
    Patch,
    /// Remove an object.
    Delete,
    /// Remove many objects.
    DeleteCollection,
}

impl Verb {
    /// The verb as in RBAC.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Whether it can change anything.
    #[must_use]
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// `/version`, `/api`, `/apis`, `/apis/GROUP/VERSION`: the path's segments.
    Discovery(Vec<String>),
    /// A resource or one of its objects.
    Resource { resource: Arc<Resource>, namespace: String, name: String, subresource: String },
}

/// The query's parameters.
pub(crate) type Query = BTreeMap<String, String>;

/// Reads the query string; the first value of a repeated parameter counts, as in the API server.
pub(crate) fn parse_query(uri: &Uri) -> Query {
    let mut query = Query::new();
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        query.entry(percent_decode(key)).or_insert_with(|| percent_decode(value));
    }
    query
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |at: usize| text.get(at + 1..at + 3).and_then(|two| u8::from_str_radix(two, 16).ok());
        match bytes[at] {
            b'+' => decoded.push(b' '),
            b'%' => match hex(at) {
                Some(byte) => {
                    decoded.push(byte);
                    at += 2;
                }
                None => decoded.push(b'%'),
            },
            byte => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Finds what a path names.
pub(crate) fn parse_target(registry: &Registry, path: &str) -> Result<Target, ApiError> {
    let segments: Vec<String> =
        path.split('/').filter(|s| !s.is_empty()).map(|s| percent_decode(&s.replace('+', "%2B"))).collect();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["version"] | ["api"] | ["apis"] | ["apis", _] | ["api", _] | ["apis", _, _] => {
            return Ok(Target::Discovery(segments));
        }
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Err(ApiError::page_not_found()),
    };
    let no_such_path = || registry.no_such_path(group);
    let find = |plural: &str| registry.find(group, version, plural).cloned().ok_or_else(no_such_path);
    let target = |plural: &str, namespace: &str, name: &str, subresource: &str| {
        let resource = find(plural)?;
        if resource.namespaced == namespace.is_empty() && !(name.is_empty() && resource.namespaced) {
            return Err(no_such_path());
        }
        Ok(Target::Resource {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
        })
    };
    match *rest {
        // A namespace is itself an object below /namespaces.
        ["namespaces", name] => target("namespaces", "", name, ""),
        ["namespaces", name, subresource @ ("status" | "finalize")] => target("namespaces", "", name, subresource),
        ["namespaces", namespace, plural] => target(plural, namespace, "", ""),
        ["namespaces", namespace, plural, name] => target(plural, namespace, name, ""),
        ["namespaces", namespace, plural, name, subresource] => target(plural, namespace, name, subresource),
        [plural] => target(plural, "", "", ""),
        [plural, name] => target(plural, "", name, ""),
        [plural, name, subresource] => target(plural, "", name, subresource),
        _ => Err(no_such_path()),
    }
}

/// The verb of a request for a resource.
pub(crate) fn verb_of(method: &Method, name: &str, query: &Query) -> Result<Verb, ApiError> {
    let watches = query.get("watch").is_some_and(|value| value == "true" || value == "1");
    Ok(match *method {
        Method::GET if name.is_empty() && watches => Verb::Watch,
        Method::GET if name.is_empty() => Verb::List,
        Method::GET => Verb::Get,
        Method::POST => Verb::Create,
        Method::PUT if !name.is_empty() => Verb::Update,
        Method::PATCH if !name.is_empty() => Verb::Patch,
        Method::DELETE if name.is_empty() => Verb::DeleteCollection,
        Method::DELETE => Verb::Delete,
        _ => return Err(ApiError::method_not_allowed()),
    })
}

/// Options that writes share.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    /// Who owns the fields that this request writes.
    pub(crate) field_manager: String,
    pub(crate) force: bool,
    /// `fieldValidation=Strict`: unknown fields are refused instead of dropped.
    pub(crate) strict: bool,
}

impl WriteOptions {
    pub(crate) fn parse(query: &Query, headers: &HeaderMap) -> Result<Self, ApiError> {
        let dry_run = match query.get("dryRun").map(String::as_str) {
            None | Some("") => false,
            Some("All") => true,
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "dryRun: Unsupported value: {other:?}: supported values: \"All\""
                )));
            }
        };
        // Without a fieldManager the server takes the user agent up to its first slash; kube sends none.
        let agent = headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok());
        let field_manager = match query.get("fieldManager").filter(|manager| !manager.is_empty()) {
            Some(manager) => manager.clone(),
            None => agent.map_or("unknown", |agent| agent.split('/').next().unwrap_or(agent)).to_owned(),
        };
        Ok(Self {
            dry_run,
            field_manager,
            force: query.get("force").is_some_and(|value| value == "true" || value == "1"),
            strict: query.get("fieldValidation").is_some_and(|value| value == "Strict"),
        })
    }
}
