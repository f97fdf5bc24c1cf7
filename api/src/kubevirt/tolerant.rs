//! Deserializers for fields whose shape is not ours to promise.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

/// Reads a field, or its default when its shape is not what we expect.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// Reads a list and leaves out the elements whose shape is not what we expect; no list at all reads as empty.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    match Value::deserialize(deserializer)? {
        Value::Array(items) => Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect()),
        _ => Ok(Vec::new()),
    }
}

/// Reads a quantity. KubeVirt's schemas call it int-or-string, so the API server also keeps bare numbers.
pub(super) fn quantity<'de, D>(deserializer: D) -> Result<Option<Quantity>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(quantity_of(Value::deserialize(deserializer)?))
}

/// Reads a map of quantities, such as resource requests.
pub(super) fn quantities<'de, D>(deserializer: D) -> Result<std::collections::BTreeMap<String, Quantity>, D::Error>
where
    D: Deserializer<'de>,
{
    match Value::deserialize(deserializer)? {
        Value::Object(entries) => {
            Ok(entries.into_iter().filter_map(|(key, value)| Some((key, quantity_of(value)?))).collect())
        }
        _ => Ok(std::collections::BTreeMap::new()),
    }
}

fn quantity_of(value: Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Some(Quantity(text)),
        Value::Number(number) => Some(Quantity(number.to_string())),
        _ => None,
    }
}
