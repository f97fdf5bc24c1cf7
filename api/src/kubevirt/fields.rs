//! The fields of KubeVirt's kinds, as facts, and CRDs made from them: for stands and tests where KubeVirt's own CRDs
//! are not at hand.
//!
//! `fields.txt` lists what Miyako or its stand-in for KubeVirt reads or writes, with types. A CRD made from it checks
//! those types and keeps whatever else an object holds.

use serde_json::{Map, Value, json};

const FIELDS: &str = include_str!("fields.txt");

/// One of KubeVirt's kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// For example `kubevirt.io`.
    pub group: &'static str,
    /// The version that is stored.
    pub version: &'static str,
    /// For example `VirtualMachineInstance`.
    pub kind: &'static str,
    /// For example `virtualmachineinstances`.
    pub plural: &'static str,
    /// `Namespaced` or `Cluster`.
    pub scope: &'static str,
    /// Whether the status is a subresource.
    pub has_status: bool,
    /// Paths from the object's root, such as `spec.volumes[].name`, with their types; parents come before children.
    pub fields: Vec<(&'static str, &'static str)>,
}

/// KubeVirt's kinds with their fields.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for line in FIELDS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        match (words.as_slice(), kinds.last_mut()) {
            ([path, kind], Some(last)) => last.fields.push((path, kind)),
            ([api_version, kind, plural, scope, rest @ ..], _) => {
                let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
                let has_status = rest.contains(&"status");
                kinds.push(Kind { group, version, kind, plural, scope, has_status, fields: Vec::new() });
            }
            _ => {}
        }
    }
    kinds
}

impl Kind {
    /// A CustomResourceDefinition of this kind.
    #[must_use]
    pub fn crd(&self) -> Value {
        let mut root = json!({"type": "object", "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
        }});
        for (path, kind) in &self.fields {
            *place(&mut root, path) = schema(kind);
        }
        let mut version = json!({
            "name": self.version, "served": true, "storage": true, "schema": {"openAPIV3Schema": root},
        });
        if self.has_status {
            version["subresources"] = json!({"status": {}});
        }
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{}.{}", self.plural, self.group)},
            "spec": {
                "group": self.group, "scope": self.scope, "versions": [version],
                "names": {
                    "kind": self.kind, "listKind": format!("{}List", self.kind), "plural": self.plural,
                    "singular": self.kind.to_lowercase(),
                },
            },
        })
    }
}

/// The place of a field's schema below that of the object.
fn place<'a>(root: &'a mut Value, path: &str) -> &'a mut Value {
    let mut schema = root;
    for name in path.split('.') {
        let (name, items) = name.split_once("[]").map_or((name, false), |(name, _)| (name, true));
        schema = if name == "*" { &mut schema["additionalProperties"] } else { &mut schema["properties"][name] };
        if items {
            schema = &mut schema["items"];
        }
    }
    schema
}

fn schema(word: &str) -> Value {
    let (word, nullable) = word.strip_suffix('?').map_or((word, false), |word| (word, true));
    let mut schema = match word {
        "object" => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {}}),
        "map" => json!({"type": "object"}),
        "time" => json!({"type": "string", "format": "date-time"}),
        "int-or-string" => json!({"x-kubernetes-int-or-string": true}),
        "any" => json!({"x-kubernetes-preserve-unknown-fields": true}),
        kind => Value::Object(Map::from_iter([("type".to_owned(), kind.into())])),
    };
    if nullable {
        schema["nullable"] = true.into();
    }
    schema
}
