//! One way to wake one node, as it was when the node was ordered to sleep.

use crate::node_power_class::{WakeDriver, WakeProtocol, WakeTls, secret_reference};
use crate::wake::{Node, Template, Way, address_of, own, pattern_of};
use k8s_openapi::api::core::v1::SecretReference;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One way to wake this node. Of a Secret only the place is kept. The address is kept as the class wrote it, with the
/// values that it was filled in with: which hosts may see an account depends on where they come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordedWay {
    /// The protocol.
    pub driver: WakeProtocol,
    /// Where this node's BMC or network card is spoken to, as its class wrote it for this node.
    #[schemars(length(min = 1, max = 253))]
    pub address: String,
    /// The node's labels that the address holds, with their values at that time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "label_values")]
    pub labels: BTreeMap<String, String>,
    /// The Secret with the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "secret_reference")]
    pub secret_ref: Option<SecretReference>,
    /// Whose certificates are trusted, the node's own among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<WakeTls>,
    /// Where wol sends its packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 21))]
    pub broadcast: Option<String>,
}

fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": { "type": "string", "maxLength": 63 },
    })
}

impl RecordedWay {
    /// What is to be kept of a way to wake `node`.
    #[must_use]
    pub fn of(way: &Way, node: Node<'_>) -> Self {
        let mut tls = way.spec.tls.clone();
        if let Some(pin) = own(&way.spec, node).and_then(|own| own.certificate_sha256.clone()) {
            let pins = &mut tls.get_or_insert_default().certificate_sha256;
            if !pins.contains(&pin) {
                pins.push(pin);
            }
        }
        let address = pattern_of(&way.spec, node).to_owned();
        // What an address can't be read from it does not hold; such a way was never found.
        let template = Template::parse(&address).ok();
        let held = template.iter().flat_map(Template::labels);
        let held = held.filter_map(|key| Some((key.to_owned(), node.labels.get(key)?.clone())));
        Self {
            driver: way.spec.driver,
            labels: held.collect(),
            address,
            secret_ref: way.spec.secret_ref.clone(),
            tls,
            broadcast: way.spec.broadcast.clone(),
        }
    }

    /// The way itself to the node of this name, as if a class had written it for it alone; nothing if it was not written by
    /// an operator.
    #[must_use]
    pub fn way(&self, name: &str) -> Option<Way> {
        let spec = WakeDriver {
            driver: self.driver,
            address: self.address.clone(),
            secret_ref: self.secret_ref.clone(),
            nodes: Vec::new(),
            tls: self.tls.clone(),
            broadcast: self.broadcast.clone(),
        };
        let address = address_of(&spec, Node { name, labels: &self.labels }).ok()?;
        Some(Way { spec, address, labels: self.labels.clone(), recorded: true })
    }
}
