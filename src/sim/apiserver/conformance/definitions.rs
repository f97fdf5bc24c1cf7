//! The script's own custom resources.

use super::GROUP;
use serde_json::{Value, json};

/// Two CustomResourceDefinitions: `widgets` with everything a schema can do, and `gadgets`, which like
/// VirtualMachineInstance has no status subresource and keeps unknown fields.
#[must_use]
pub fn crds() -> Vec<Value> {
    let widget = json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "x-kubernetes-validations": [
                    {"rule": "self.size != 13", "message": "13 brings bad luck: write 12 or 14"},
                    {"rule": "!has(oldSelf.serial) || (has(self.serial) && self.serial == oldSelf.serial)", "message": "serial never changes"},
                ],
                "properties": {
                    "size": {"type": "integer", "format": "int64", "minimum": 1, "maximum": 100},
                    "ratio": {"type": "number", "exclusiveMinimum": true, "minimum": 0},
                    "colour": {"type": "string", "default": "red", "enum": ["red", "blue"]},
                    "serial": {"type": "string", "maxLength": 8, "pattern": "^[a-z]+$"},
                    "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "whole": {
                        "type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"},
                    },
                    "notes": {"type": "array", "maxItems": 3, "items": {"type": "string"}},
                    "tags": {"type": "array", "maxItems": 8, "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "parts": {
                        "type": "array", "maxItems": 8,
                        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                        "items": {
                            "type": "object", "required": ["name"],
                            "properties": {
                                "name": {"type": "string"},
                                "count": {"type": "integer", "default": 1},
                                "kind": {"type": "string"},
                            },
                        },
                    },
                    "nested": {
                        "type": "object", "default": {},
                        "properties": {"depth": {"type": "integer", "default": 3}, "note": {"type": "string"}},
                    },
                },
            },
            "status": {
                "type": "object",
                "properties": {
                    "phase": {"type": "string"},
                    "conditions": {
                        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                        "items": {
                            "type": "object", "required": ["type", "status"],
                            "properties": {"type": {"type": "string"}, "status": {"type": "string"}},
                        },
                    },
                },
            },
        },
    });
    let gadget = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    vec![
        definition("widgets", "Widget", widget, json!({"status": {}})),
        definition("gadgets", "Gadget", gadget, Value::Null),
    ]
}

fn definition(plural: &str, kind: &str, schema: Value, subresources: Value) -> Value {
    let mut version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    if !subresources.is_null() {
        version["subresources"] = subresources;
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
            "versions": [version],
        },
    })
}
