//! Objects that may be unreadable: one odd object must not hide all the others of a list.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;
use std::borrow::Cow;

/// An object with its metadata, or why the rest of it can't be read.
#[derive(Debug, Clone)]
pub(crate) struct Lenient<K> {
    pub(crate) metadata: ObjectMeta,
    pub(crate) object: Result<K, String>,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let metadata = value.get("metadata").map(read_metadata).unwrap_or_default();
        let object = serde_json::from_value(value).map_err(|error| error.to_string());
        Ok(Self { metadata, object })
    }
}

/// Of metadata that can't be read as a whole the parts that identify the object are taken.
fn read_metadata(value: &Value) -> ObjectMeta {
    ObjectMeta::deserialize(value).unwrap_or_else(|_| {
        let text = |field: &str| value.get(field).and_then(Value::as_str).map(ToOwned::to_owned);
        ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        }
    })
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    #[test]
    fn an_unreadable_object_keeps_its_name_and_says_why() {
        let text = r#"[{"metadata": {"name": "a", "resourceVersion": "5"}, "spec": {"containers": 3}},
            {"metadata": {"name": "b", "labels": 7}}, {"metadata": {"name": "c"}}, {}]"#;
        let pods: Vec<Lenient<Pod>> = serde_json::from_str(text).unwrap();
        let names: Vec<_> = pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap_or("?")).collect();
        assert_eq!(names, ["a", "b", "c", "?"]);
        assert_eq!(pods.iter().map(|pod| pod.object.is_ok()).collect::<Vec<_>>(), [false, false, true, true]);
        assert_eq!(pods[0].metadata.resource_version.as_deref(), Some("5"));
    }
}
