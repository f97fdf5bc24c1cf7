//! Events on transitions. Each is named by a digest of what it tells, so that telling it twice is telling it once;
//! its time comes from our own clock, so that a simulation gives the same Events each time.

use super::error::Attempt as _;
use super::{ActError, Actor};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as ApiEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use miyako_api::names::{manager, ours};
use miyako_core::model::Uid;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The longest note that the API server takes.
const LONGEST_NOTE: usize = 1000;

/// Normal or Warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// What an Event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// The namespace; none for cluster-scoped objects.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The uid, if known.
    pub uid: Option<Uid>,
}

/// An Event to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub subject: Subject,
    /// Normal or Warning.
    pub kind: Kind,
    /// Why, in PascalCase.
    pub reason: &'static str,
    /// What was done, in PascalCase.
    pub action: &'static str,
    /// For people.
    pub note: String,
    /// What happened once and is told once: equal keys make equal names.
    pub once: String,
}

impl Actor {
    /// Tells an Event, unless it was told already.
    ///
    /// # Errors
    /// See [`ActError::class`].
    pub async fn tell(&self, event: &Event) -> Result<(), ActError> {
        let namespace = event.subject.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<ApiEvent> = Api::namespaced(self.writer()?, &namespace);
        let object = self.event_object(event, &namespace);
        match api.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            created => {
                created.attempt(|| format!("tell the Event {} about {}", event.reason, event.subject.name))?;
                Ok(())
            }
        }
    }

    fn event_object(&self, event: &Event, namespace: &str) -> ApiEvent {
        let mut hasher = Sha256::new();
        for part in [&event.subject.kind, &event.subject.name, event.reason, &event.once] {
            hasher.update(part.len().to_be_bytes());
            hasher.update(part);
        }
        let digest = hasher.finalize()[..8].iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let subject: String = event.subject.name.chars().take(200).collect();
        let mut note = event.note.clone();
        if note.len() > LONGEST_NOTE {
            let end = (0..=LONGEST_NOTE).rev().find(|&end| note.is_char_boundary(end)).unwrap_or(0);
            note.truncate(end);
        }
        ApiEvent {
            metadata: ObjectMeta {
                name: Some(format!("{subject}.{digest}")),
                namespace: Some(namespace.to_owned()),
                labels: Some(BTreeMap::from([(ours::MANAGED_BY.into(), ours::MIYAKO.into())])),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(crate::time::to_api(self.clock.now()).0)),
            reporting_controller: Some(manager::EVENTS.into()),
            reporting_instance: Some(self.identity.clone()),
            type_: Some(if event.kind == Kind::Normal { "Normal" } else { "Warning" }.into()),
            reason: Some(event.reason.into()),
            action: Some(event.action.into()),
            note: Some(note),
            regarding: Some(ObjectReference {
                api_version: Some(event.subject.api_version.clone()),
                kind: Some(event.subject.kind.clone()),
                namespace: event.subject.namespace.clone(),
                name: Some(event.subject.name.clone()),
                uid: event.subject.uid.as_ref().map(Uid::to_string),
                ..ObjectReference::default()
            }),
            ..ApiEvent::default()
        }
    }
}
