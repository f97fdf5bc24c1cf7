//! Watches. Each watch keeps a cursor into the history and reads on from there, so that no event waits in a queue of its
//! own and all watches share one copy of each object's text.

use super::{
    error::ApiError,
    history::{Change, ChangeKind},
    read::{View, not_a_version},
    registry::Resource,
    request::Query,
    selectors::Selection,
    server::{Incarnation, Shared},
    signal::Listener,
    store::{Key, Stored},
};
use bytes::Bytes;
use futures::Stream;
use http_body::Frame;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How often a watch is told the newest version when nothing it sees has changed, as in the real server.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// How many events are read from the history under one lock.
const BATCH: usize = 256;

pub(crate) struct Watch {
    shared: Arc<Shared>,
    incarnation: Arc<Incarnation>,
    actor: Arc<str>,
    resource: Arc<Resource>,
    namespace: String,
    selection: Selection,
    view: View,
    cursor: u64,
    bookmarks: bool,
    deadline: Option<Instant>,
    next_bookmark: Instant,
    told: u64,
    newest: Listener,
    /// How often the actor's watches had been cut when this one began.
    cut: u64,
    ready: VecDeque<Bytes>,
    over: bool,
}

/// What a watch waits for next.
enum Next {
    Look,
    Wait(Option<Instant>),
}

impl Watch {
    /// Starts a watch.
    ///
    /// # Errors
    /// When a query parameter makes no sense.
    pub(crate) fn start(
        shared: Arc<Shared>,
        incarnation: Arc<Incarnation>,
        actor: Arc<str>,
        resource: Arc<Resource>,
        namespace: String,
        query: &Query,
        view: View,
    ) -> Result<Self, ApiError> {
        let text = |key: &str| query.get(key).map(String::as_str).filter(|text| !text.is_empty());
        let selection = Selection::parse(&resource, text("labelSelector"), text("fieldSelector"))?;
        let is_on = |key: &str| text(key).is_some_and(|text| text == "true" || text == "1");
        let bookmarks = is_on("allowWatchBookmarks");
        let streams_list = is_on("sendInitialEvents");
        if streams_list && text("resourceVersionMatch") != Some("NotOlderThan") {
            return Err(ApiError::invalid_list_options(
                "resourceVersionMatch",
                "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        let version = text("resourceVersion").unwrap_or("0");
        let version: u64 = version.parse().map_err(|_| ApiError::internal_plain(&not_a_version(version)))?;
        let timeout = text("timeoutSeconds").and_then(|text| text.parse::<u64>().ok()).filter(|&seconds| seconds > 0);
        let now = Instant::now();
        let cut = shared.faults.lock().unwrap_or_else(PoisonError::into_inner).cuts(&actor).0;
        let (newest, cursor, initial) = {
            let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = state.collection_mut(&resource.storage).newest.listen();
            let from_scratch = version == 0 || streams_list;
            let initial: Vec<Arc<Stored>> = if from_scratch {
                let all = state.objects(&resource.storage, &namespace);
                all.filter(|(_, stored)| selection.matches(&stored.value)).map(|(_, stored)| stored.clone()).collect()
            } else {
                vec![]
            };
            (newest, if from_scratch { state.version } else { version }, initial)
        };
        let mut watch = Self {
            shared,
            incarnation,
            actor,
            resource,
            namespace,
            selection,
            view,
            cursor,
            bookmarks,
            deadline: timeout.map(|seconds| now + Duration::from_secs(seconds)),
            next_bookmark: now + BOOKMARK_EVERY,
            told: cursor,
            newest,
            cut,
            ready: VecDeque::new(),
            over: false,
        };
        for stored in initial {
            let text = watch.view.text(&watch.resource, &stored);
            watch.push("ADDED", text);
        }
        if streams_list && bookmarks {
            watch.push_bookmark(true);
        }
        Ok(watch)
    }

    /// The events, as lines of JSON.
    pub(crate) fn into_stream(
        self,
    ) -> impl Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> + Send + 'static {
        futures::stream::unfold(self, |mut watch| async move {
            let line = watch.next().await?;
            Some((Ok(Frame::data(line)), watch))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.incarnation.is_dead() {
                // A crashed process reads nothing more; whoever drives it drops this stream.
                std::future::pending::<()>().await;
            }
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.over {
                return None;
            }
            let mut control = self.shared.control.listen();
            if let Next::Wait(until) = self.look() {
                let wake = [until, self.deadline, self.bookmarks.then_some(self.next_bookmark)];
                let wake = wake.into_iter().flatten().min();
                let sleep = async {
                    match wake {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = self.newest.heard() => {}
                    () = control.heard() => {}
                    () = sleep => self.on_time(),
                }
            }
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.over = true;
        }
        if self.bookmarks && now >= self.next_bookmark {
            self.next_bookmark = now + BOOKMARK_EVERY;
            // The real one tells the same version again. A watch that lags tells nothing at all.
            let faults = self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
            let lags = !faults.lag(&self.actor).is_zero();
            drop(faults);
            if self.told < self.cursor || !lags {
                self.push_bookmark(false);
            }
        }
    }

    /// Reads on in the history.
    fn look(&mut self) -> Next {
        let (cuts, gone, lag) = {
            let faults = self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
            let (cuts, gone) = faults.cuts(&self.actor);
            (cuts, gone, faults.lag(&self.actor))
        };
        if cuts != self.cut {
            self.over = true;
            if gone {
                self.push_error(&ApiError::expired("The resourceVersion for the provided watch is too old."));
            }
            return Next::Look;
        }
        let shared = self.shared.clone();
        let state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = state.version;
        self.newest.catch_up();
        let Some(collection) = state.collection(&self.resource.storage) else { return Next::Wait(None) };
        if self.cursor < collection.history.forgotten() {
            let message = format!("too old resource version: {} ({})", self.cursor, collection.history.forgotten());
            drop(state);
            self.push_error(&ApiError::expired(message));
            self.over = true;
            return Next::Look;
        }
        let ahead = collection.history.after(self.cursor);
        let all = ahead.len();
        let visible_until = Instant::now();
        let mut batch = vec![];
        let mut wake = None;
        for change in ahead.take(BATCH) {
            if change.at + lag > visible_until {
                wake = Some(change.at + lag);
                break;
            }
            batch.push(change.clone());
        }
        let caught_up = wake.is_none() && batch.len() == all;
        drop(state);
        let found = !batch.is_empty();
        for change in &batch {
            self.cursor = change.version;
            self.push_change(change);
        }
        if caught_up && lag.is_zero() {
            self.cursor = self.cursor.max(newest);
        }
        if found { Next::Look } else { Next::Wait(wake) }
    }

    fn shows(&self, key: &Key, value: &Value) -> bool {
        (self.namespace.is_empty() || key.0 == self.namespace) && self.selection.matches(value)
    }

    /// Tells of a change as this watch's selectors see it: an object that stops matching is gone.
    fn push_change(&mut self, change: &Change) {
        let before = change.before.as_ref().filter(|before| self.shows(&change.key, &before.value));
        let after = match change.kind {
            ChangeKind::Deleted => None,
            ChangeKind::Added | ChangeKind::Modified => {
                Some(&change.object).filter(|object| self.shows(&change.key, &object.value))
            }
        };
        let (kind, text) = match (before, after) {
            (None, None) => return,
            (None, Some(object)) => ("ADDED", self.view.text(&self.resource, object)),
            (Some(_), Some(object)) => ("MODIFIED", self.view.text(&self.resource, object)),
            (Some(_), None) if change.kind == ChangeKind::Deleted => {
                ("DELETED", self.view.text(&self.resource, &change.object))
            }
            (Some(before), None) => {
                let mut value = before.value.clone();
                value["metadata"]["resourceVersion"] = change.version.to_string().into();
                ("DELETED", self.view.text(&self.resource, &Stored::new(value, change.version)))
            }
        };
        self.told = change.version;
        self.push(kind, text);
    }

    fn push(&mut self, kind: &str, object: Bytes) {
        let mut line = Vec::with_capacity(object.len() + 32);
        line.extend_from_slice(b"{\"type\":\"");
        line.extend_from_slice(kind.as_bytes());
        line.extend_from_slice(b"\",\"object\":");
        line.extend_from_slice(&object);
        line.extend_from_slice(b"}\n");
        self.ready.push_back(Bytes::from(line));
    }

    fn push_error(&mut self, error: &ApiError) {
        self.push("ERROR", Bytes::from(error.status().to_string()));
    }

    fn push_bookmark(&mut self, ends_initial_events: bool) {
        self.told = self.cursor;
        let (kind, api_version) = match self.view {
            View::Full => (self.resource.kind.as_str(), self.resource.api_version()),
            View::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
        };
        let mut metadata = json!({ "resourceVersion": self.cursor.to_string(), "creationTimestamp": null });
        if ends_initial_events {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata });
        self.push("BOOKMARK", Bytes::from(object.to_string()));
    }
}
