//! Schemas of fields that several resources share. Everything has a bound: the API server refuses CEL rules whose cost
//! it can't bound, and a megabyte of junk should be refused before it is stored.

use crate::duration;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// The longest name of an object (a DNS subdomain).
const NAME: u32 = 253;
/// The longest label value, and so the longest name that we copy into a label.
const LABEL_VALUE: u32 = 63;
/// The longest label key: a DNS subdomain, a slash and a name.
const LABEL_KEY: u32 = 317;

const NAME_PATTERN: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
const LABEL_KEY_PATTERN: &str = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";

/// A rule and the sentence that says what to write instead.
fn rules(rules: &[(&str, &str)]) -> Value {
    rules.iter().map(|(rule, message)| json!({ "rule": rule, "message": message })).collect()
}

/// A LabelSelector; absent or empty selects everything.
pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    selector(&[])
}

/// A LabelSelector that must select by something.
pub(crate) fn narrowing_label_selector(_: &mut SchemaGenerator) -> Schema {
    selector(&[(
        "(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
        "write matchLabels or matchExpressions: an empty selector would select every node, the control plane too",
    )])
}

fn selector(more: &[(&str, &str)]) -> Schema {
    let mut schema = json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "description": "Labels that must all be there with these values.",
                "type": "object",
                "maxProperties": 16,
                "additionalProperties": { "type": "string", "maxLength": LABEL_VALUE },
            },
            "matchExpressions": {
                "description": "Conditions that must all hold.",
                "type": "array",
                "maxItems": 16,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {
                            "description": "The label.",
                            "type": "string",
                            "minLength": 1,
                            "maxLength": LABEL_KEY,
                        },
                        "operator": {
                            "description": "How the label is compared with the values.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "The values of In and NotIn.",
                            "type": "array",
                            "maxItems": 64,
                            "x-kubernetes-list-type": "atomic",
                            "items": { "type": "string", "maxLength": LABEL_VALUE },
                        },
                    },
                    "x-kubernetes-validations": rules(&[(
                        "(self.operator == 'In' || self.operator == 'NotIn') == (has(self.values) && size(self.values) > 0)",
                        "give values for In and NotIn, and none for Exists and DoesNotExist",
                    )]),
                },
            },
        },
        "x-kubernetes-map-type": "atomic",
    });
    if !more.is_empty() {
        schema.insert("x-kubernetes-validations".to_owned(), rules(more));
    }
    schema
}

/// `status.conditions`, as the API conventions want them.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "message": { "type": "string", "maxLength": 32768 },
                "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0 },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "type": { "type": "string", "minLength": 1, "maxLength": 316 },
            },
        },
    })
}

fn duration(least: &str, most: &str, examples: &str) -> Schema {
    let rule = format!(
        "self.matches('{}') && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')",
        duration::PATTERN
    );
    let message = format!("write a duration between {least} and {most}, such as {examples}");
    json_schema!({
        "type": "string",
        "maxLength": duration::MAX_LENGTH,
        "x-kubernetes-validations": rules(&[(&rule, &message)]),
    })
}

/// The window of an average, or the time between two moves: from a sample's distance to what the history holds.
pub(crate) fn window(_: &mut SchemaGenerator) -> Schema {
    duration("1s", "2h", "5s, 10m or 1h30m")
}

/// How long a proposal or a schedule lasts.
pub(crate) fn stretch(_: &mut SchemaGenerator) -> Schema {
    duration("1m", "168h", "30m or 8h")
}

/// Between two things that are done seldom.
pub(crate) fn interval(_: &mut SchemaGenerator) -> Schema {
    duration("1h", "8760h", "24h or 720h")
}

/// How long a node takes to fall asleep or wake up.
pub(crate) fn transition(_: &mut SchemaGenerator) -> Schema {
    duration("1s", "30m", "5s or 1m30s")
}

/// Names of cluster-scoped objects, each at most once, at least one.
pub(crate) fn names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 32,
        "x-kubernetes-list-type": "set",
        "items": { "type": "string", "minLength": 1, "maxLength": NAME, "pattern": NAME_PATTERN },
    })
}

/// Topology keys, each at most once.
pub(crate) fn topology_keys(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 8,
        "x-kubernetes-list-type": "set",
        "items": label_key(),
    })
}

/// One topology key.
pub(crate) fn topology_key(_: &mut SchemaGenerator) -> Schema {
    label_key()
}

fn label_key() -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": LABEL_KEY,
        "x-kubernetes-validations": rules(&[(
            &format!("self.matches('{LABEL_KEY_PATTERN}')"),
            "write the key of a node label, such as topology.kubernetes.io/zone",
        )]),
    })
}

/// Keys of taints, each at most once.
pub(crate) fn taint_keys(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": LABEL_KEY,
            "x-kubernetes-validations": rules(&[
                (
                    &format!("self.matches('{LABEL_KEY_PATTERN}')"),
                    "write the key of a taint without its value and effect, such as node.cilium.io/agent-not-ready",
                ),
                (
                    "self != 'node.kubernetes.io/unschedulable'",
                    "leave node.kubernetes.io/unschedulable out: it is a person's cordon, and uncordoning takes it away",
                ),
            ]),
        },
    })
}

/// Namespaced objects as `namespace/name`, each at most once.
pub(crate) fn namespaced_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "maxLength": LABEL_VALUE + 1 + NAME,
            "x-kubernetes-validations": rules(&[(
                "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
                "write namespace/name, such as kube-system/kube-proxy",
            )]),
        },
    })
}

/// A text that obeys a rule.
pub(crate) fn text(max_length: usize, rule: &str, message: &str) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": max_length,
        "x-kubernetes-validations": rules(&[(rule, message)]),
    })
}

/// A quantity above zero, with or without quotes.
pub(crate) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "maxLength": 32,
        "x-kubernetes-validations": rules(&[(
            "isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))",
            "write a quantity above zero, such as 4, 500m or 64Gi",
        )]),
    })
}

/// Reads a quantity with or without quotes.
pub(crate) fn read_quantity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Quantity>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => Some(Quantity(text)),
        Value::Number(number) => Some(Quantity(number.to_string())),
        _ => None,
    })
}

/// Takes the default out of a field's schema, where only the reader of an object fills it in.
pub(crate) fn without_default(schema: &mut Schema) {
    schema.remove("default");
}
