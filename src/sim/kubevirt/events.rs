//! Events as KubeVirt's recorders write them, with names that depend on nothing but what happened.

use super::{
    correlator::{Correlator, Told, Written},
    names::NAMESPACE,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use miyako_api::answer::is_absent;
use serde_json::json;
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
    correlator: Correlator,
}

impl Recorder {
    pub(super) fn new(client: Client, component: &'static str) -> Self {
        Self { client, component, count: 0, correlator: Correlator::default() }
    }

    /// The process began anew: nothing is known of what was told before.
    pub(super) fn forget(&mut self) {
        self.correlator = Correlator::default();
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
        let name = format!("{}.{suffix}", about.name_any());
        let told = Told {
            about: [K::kind(&()).into_owned(), namespace.clone(), about.name_any(), uid],
            severity: format!("{severity:?}"),
            reason: reason.to_owned(),
            message,
        };
        let Some(written) = self.correlator.observe(&told, &name, now) else { return };
        let answer = self.write(about, &namespace, name, told, written, now).await;
        if let Err(error) = answer {
            tracing::debug!(%error, reason, "an Event of KubeVirt got lost");
        }
    }

    async fn write<K>(
        &self,
        about: &K,
        namespace: &str,
        name: String,
        told: Told,
        written: Written,
        now: Timestamp,
    ) -> kube::Result<()>
    where
        K: Resource<DynamicType = ()>,
    {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let time = super::time(now);
        if let Some(known) = &written.known {
            let patch = json!({"message": written.message, "count": written.count, "lastTimestamp": time});
            match api.patch(known, &PatchParams::default(), &Patch::Merge(patch)).await {
                // Its life time was over: it is written anew.
                Err(error) if is_absent(&error) => {}
                answer => return answer.map(drop),
            }
        }
        let event = Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() },
            involved_object: ObjectReference {
                api_version: Some(K::api_version(&()).into_owned()),
                kind: Some(K::kind(&()).into_owned()),
                name: Some(about.name_any()),
                namespace: about.namespace(),
                uid: about.uid(),
                resource_version: about.resource_version(),
                ..ObjectReference::default()
            },
            type_: Some(told.severity),
            reason: Some(told.reason),
            message: Some(written.message),
            count: Some(written.count),
            first_timestamp: Some(super::time(written.first)),
            last_timestamp: Some(time),
            source: Some(EventSource { component: Some(self.component.into()), host: None }),
            reporting_component: Some(self.component.into()),
            reporting_instance: Some(String::new()),
            ..Event::default()
        };
        api.create(&PostParams::default(), &event).await.map(drop)
    }
}
