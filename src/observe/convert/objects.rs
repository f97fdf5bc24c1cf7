//! What every object has: names, uids, times, owners.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use miyako_core::model::{Name, Timestamp, Uid};

/// A moment.
#[must_use]
pub fn timestamp(time: &Time) -> Timestamp {
    Timestamp::from_millis(time.0.as_millisecond())
}

/// When the object was created; the epoch if it does not say.
#[must_use]
pub fn created(metadata: &ObjectMeta) -> Timestamp {
    metadata.creation_timestamp.as_ref().map(timestamp).unwrap_or_default()
}

/// The object's uid; empty if it has none.
#[must_use]
pub fn uid(metadata: &ObjectMeta) -> Uid {
    Uid::new(metadata.uid.as_deref().unwrap_or_default())
}

/// The object's name; empty if it has none.
#[must_use]
pub fn name(metadata: &ObjectMeta) -> Name {
    Name::from(metadata.name.as_deref().unwrap_or_default())
}

/// An annotation.
#[must_use]
pub fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// A label or, failing that, an annotation: people use either.
#[must_use]
pub fn mark<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    label.or_else(|| annotation(metadata, key))
}

/// The name of the controlling owner, if it is of this kind.
#[must_use]
pub fn controller<'a>(metadata: &'a ObjectMeta, kind: &str) -> Option<&'a str> {
    let mut owners = metadata.owner_references.iter().flatten();
    owners.find(|owner| owner.kind == kind && owner.controller == Some(true)).map(|owner| owner.name.as_str())
}
