//! Events as KubeVirt's recorders write them, with names that depend on nothing but what happened.

use super::names::NAMESPACE;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use sha2::{Digest, Sha256};

/// The severity of an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Normal,
    Warning,
}

/// Writes Events of one component.
pub(super) struct Recorder {
    client: Client,
    component: &'static str,
    count: u64,
}

impl Recorder {
    pub(super) fn new(client: Client, component: &'static str) -> Self {
        Self { client, component, count: 0 }
    }

    /// Tells about an object. That an Event got lost is no reason to stop.
    pub(super) async fn tell<K>(&mut self, about: &K, severity: Severity, reason: &str, message: String, now: Timestamp)
    where
        K: Resource<DynamicType = ()>,
    {
        self.count += 1;
        let uid = about.uid().unwrap_or_default();
        let seed = format!("{}/{uid}/{reason}/{}/{}", self.component, now.as_nanosecond(), self.count);
        let digest: [u8; 32] = Sha256::digest(seed).into();
        let suffix: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let namespace = about.namespace().unwrap_or_else(|| NAMESPACE.into());
        let time = super::time(now);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{suffix}", about.name_any())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(K::api_version(&()).into_owned()),
                kind: Some(K::kind(&()).into_owned()),
                name: Some(about.name_any()),
                namespace: about.namespace(),
                uid: about.uid(),
                resource_version: about.resource_version(),
                ..ObjectReference::default()
            },
            type_: Some(format!("{severity:?}")),
            reason: Some(reason.into()),
            message: Some(message),
            count: Some(1),
            first_timestamp: Some(time.clone()),
            last_timestamp: Some(time),
            source: Some(EventSource { component: Some(self.component.into()), host: None }),
            reporting_component: Some(self.component.into()),
            reporting_instance: Some(String::new()),
            ..Event::default()
        };
        if let Err(error) =
            Api::namespaced(self.client.clone(), &namespace).create(&PostParams::default(), &event).await
        {
            tracing::debug!(%error, reason, "an Event of KubeVirt got lost");
        }
    }
}
