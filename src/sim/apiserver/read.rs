//! Get and list.

use super::{
    error::ApiError,
    registry::Resource,
    request::Query,
    selectors::Selection,
    store::{State, Stored},
};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;

/// How the client wants to see objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// As they are.
    Full,
    /// Only their metadata (`as=PartialObjectMetadata` or `…List`).
    Metadata,
}

impl View {
    pub(crate) fn of(accept: Option<&str>) -> Self {
        if accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata")) {
            Self::Metadata
        } else {
            Self::Full
        }
    }

    /// The object's JSON text in this view, as this resource shows it.
    pub(crate) fn text(self, resource: &Resource, stored: &Stored) -> Bytes {
        match self {
            Self::Metadata => Bytes::from(
                json!({
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": stored.value["metadata"],
                })
                .to_string(),
            ),
            Self::Full if resource.group == "events.k8s.io" => {
                Bytes::from(super::events::to_events_group(&stored.value).to_string())
            }
            Self::Full => stored.json().clone(),
        }
    }
}

/// One page of a list.
pub(crate) struct Page {
    pub(crate) body: Vec<u8>,
    /// How many objects it holds.
    pub(crate) length: usize,
}

impl State {
    /// Lists a resource's objects in a namespace or, where it is empty, in all.
    pub(crate) fn list(
        &mut self,
        resource: &Resource,
        namespace: &str,
        query: &Query,
        view: View,
    ) -> Result<Page, ApiError> {
        let text = |key: &str| query.get(key).map(String::as_str).filter(|text| !text.is_empty());
        let selection = Selection::parse(resource, text("labelSelector"), text("fieldSelector"))?;
        let limit = match text("limit") {
            Some(text) => {
                text.parse::<usize>().map_err(|_| ApiError::bad_request(format!("limit: {text:?} is not a number")))?
            }
            None => 0,
        };
        let exact = self.check_version(text("resourceVersion"), text("resourceVersionMatch"))?;
        let (version, all, from) = match text("continue") {
            Some(token) => {
                let (version, from) = read_token(token)?;
                let all =
                    self.snapshot(&resource.storage, version).ok_or_else(|| ApiError::expired(CONTINUE_EXPIRED))?;
                (version, all, from)
            }
            None => (exact.unwrap_or(self.version), Arc::new(vec![]), 0),
        };
        let paged: Vec<Arc<Stored>>;
        let (shown, next) = if text("continue").is_some() || limit > 0 {
            let all = if text("continue").is_some() {
                all
            } else {
                let all: Vec<_> = self
                    .objects(&resource.storage, namespace)
                    .filter(|(_, stored)| selection.matches(&stored.value))
                    .map(|(_, stored)| stored.clone())
                    .collect();
                Arc::new(all)
            };
            let end = if limit == 0 { all.len() } else { all.len().min(from + limit) };
            paged = all.get(from..end).unwrap_or_default().to_vec();
            let next = (end < all.len()).then_some((end, all.len() - end));
            if next.is_some() {
                self.keep_snapshot(&resource.storage, version, all);
            }
            (paged, next)
        } else {
            let all = self.objects(&resource.storage, namespace).filter(|(_, stored)| selection.matches(&stored.value));
            (all.map(|(_, stored)| stored.clone()).collect(), None)
        };
        let mut metadata = json!({ "resourceVersion": version.to_string() });
        if resource.custom && view == View::Full {
            metadata["continue"] = "".into();
        }
        if let Some((from, left)) = next {
            metadata["continue"] = write_token(version, from).into();
            if selection.is_empty() {
                metadata["remainingItemCount"] = left.into();
            }
        }
        Ok(Page { body: list_body(resource, view, &metadata, &shown), length: shown.len() })
    }

    /// A list may ask for a version: `Exact` only works for the newest, anything else that is not newer is fine.
    fn check_version(&self, version: Option<&str>, matching: Option<&str>) -> Result<Option<u64>, ApiError> {
        let Some(text) = version else {
            return match matching {
                Some(_) => Err(ApiError::invalid_list_options(
                    "resourceVersionMatch",
                    "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
                )),
                None => Ok(None),
            };
        };
        let wanted: u64 = text
            .parse()
            .map_err(|_| ApiError::bad_request(format!("invalid resource version: {}", not_a_version(text))))?;
        if wanted > self.version {
            return Err(ApiError::too_large_version(wanted, self.version));
        }
        match matching {
            Some("Exact") if wanted == 0 => Err(ApiError::invalid_list_options(
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
            )),
            Some("Exact") if wanted != self.version => {
                Err(ApiError::expired("The resourceVersion for the provided list is too old."))
            }
            Some("Exact") => Ok(Some(wanted)),
            _ => Ok(None),
        }
    }
}

/// What the real server says of a resourceVersion that is no number.
pub(crate) fn not_a_version(text: &str) -> String {
    format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax")
}

const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// A continue token: opaque to clients.
fn write_token(version: u64, from: usize) -> String {
    format!("v{version}-{from}")
}

fn read_token(token: &str) -> Result<(u64, usize), ApiError> {
    let parts = token.strip_prefix('v').and_then(|rest| rest.split_once('-'));
    let parsed = parts.and_then(|(version, from)| Some((version.parse().ok()?, from.parse().ok()?)));
    parsed.ok_or_else(|| {
        ApiError::bad_request("invalid continue token: continue key is not valid: illegal base64 data at input byte 0")
    })
}

fn list_body(resource: &Resource, view: View, metadata: &Value, objects: &[Arc<Stored>]) -> Vec<u8> {
    let (kind, api_version) = match view {
        View::Full => (format!("{}List", resource.kind), resource.api_version()),
        View::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
    };
    let mut body =
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":[")
            .into_bytes();
    // Items of built-in lists don't repeat their kind and apiVersion, which stand first in the text.
    let head = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",", resource.kind, resource.api_version());
    for (at, stored) in objects.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        let text = view.text(resource, stored);
        match text.strip_prefix(head.as_bytes()).filter(|_| !resource.custom) {
            Some(rest) => {
                body.push(b'{');
                body.extend_from_slice(rest);
            }
            None => body.extend_from_slice(&text),
        }
    }
    body.extend_from_slice(b"]}");
    body
}
