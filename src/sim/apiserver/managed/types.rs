//! How each field of an object merges: by a CRD's schema, by a table for built-in types, or as deduced.

use crate::sim::apiserver::{
    registry::Resource,
    schema::{ListType, Node},
};
use serde_json::{Map, Value};

/// The type of one value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Type<'a> {
    /// A custom resource with its schema.
    Root(&'a Node),
    /// A custom resource without a schema.
    FreeRoot,
    /// Below a CRD's schema.
    Schema(&'a Node),
    /// A built-in struct or list, by the name of its field and of the field above.
    BuiltIn { above: &'a str, field: &'a str },
    /// Known to nobody: maps merge by key, lists are one value.
    Deduced,
    /// A map from free keys to plain values (labels and the like).
    PlainMap,
}

/// The fields of built-in types that are maps with free keys.
const PLAIN_MAPS: &[&str] = &[
    "labels",
    "annotations",
    "matchLabels",
    "limits",
    "requests",
    "capacity",
    "allocatable",
    "allocatedResources",
    "hard",
    "used",
    "data",
    "binaryData",
    "stringData",
    "parameters",
    "overhead",
    "disruptedPods",
    "volumeAttributes",
];

/// The structs and maps of built-in types that have one owner as a whole.
const ATOMIC_MAPS: &[&str] = &[
    "selector",
    "labelSelector",
    "namespaceSelector",
    "nodeSelector",
    "secretRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fieldRef",
    "resourceFieldRef",
    "involvedObject",
    "regarding",
    "related",
    "scopeSelector",
    "dataSource",
    "target",
    "requiredDuringSchedulingIgnoredDuringExecution",
    "configMapRef",
];

impl<'a> Type<'a> {
    pub(crate) fn of(resource: &'a Resource) -> Self {
        match (&resource.schema, resource.custom) {
            (Some(schema), _) => Self::Root(&schema.root),
            (None, true) => Self::FreeRoot,
            (None, false) => Self::BuiltIn { above: "", field: "" },
        }
    }

    /// A field's type, and whether the type of the struct names it (a map's free key does not count).
    pub(crate) fn field(self, name: &'a str) -> (Self, bool) {
        match self {
            Self::Root(_) | Self::FreeRoot if matches!(name, "metadata" | "apiVersion" | "kind") => {
                (Self::BuiltIn { above: "", field: name }, true)
            }
            Self::Root(node) | Self::Schema(node) => match (node.properties.get(name), node.additional.as_deref()) {
                (Some(node), _) => (Self::Schema(node), true),
                (None, Some(node)) if !node.preserve_unknown || !node.types.is_empty() => (Self::Schema(node), false),
                _ => (Self::Deduced, false),
            },
            Self::BuiltIn { field, .. } => (Self::built_in(field, name), true),
            Self::FreeRoot | Self::Deduced => (Self::Deduced, false),
            Self::PlainMap => (Self::Deduced, false),
        }
    }

    fn built_in(above: &'a str, field: &'a str) -> Self {
        if PLAIN_MAPS.contains(&field) { Self::PlainMap } else { Self::BuiltIn { above, field } }
    }

    /// The type of a list's items.
    pub(crate) fn item(self) -> Self {
        match self {
            Self::Schema(node) => node.items.as_deref().map_or(Self::Deduced, Self::Schema),
            Self::BuiltIn { field, .. } => Self::BuiltIn { above: field, field },
            _ => Self::Deduced,
        }
    }

    /// The kind of value a CRD's schema asks for here; empty where anything goes.
    pub(crate) fn expected(self) -> &'a str {
        match self {
            Self::Root(_) => "object",
            Self::Schema(node) if !node.int_or_string => &node.types,
            _ => "",
        }
    }

    /// Whether a CRD's schema declares a field, or lets undeclared ones be.
    pub(crate) fn declares(self, name: &str) -> bool {
        match self {
            Self::Root(node) | Self::Schema(node) => {
                node.preserve_unknown
                    || node.field(name).is_some()
                    || (matches!(self, Self::Root(_)) && matches!(name, "metadata" | "apiVersion" | "kind"))
            }
            _ => true,
        }
    }

    /// Whether a map or struct of this type has one owner as a whole.
    pub(crate) fn is_atomic_map(self) -> bool {
        match self {
            Self::Schema(node) => node.atomic_map,
            // A Service's selector is atomic too; ResourceQuota's `hard` and the like are not.
            Self::BuiltIn { field, .. } => ATOMIC_MAPS.contains(&field),
            _ => false,
        }
    }

    pub(crate) fn list_type(self) -> ListType {
        let map = |keys: &[&str]| ListType::Map(keys.iter().map(|&key| key.to_owned()).collect());
        match self {
            Self::Schema(node) => node.list_type.clone(),
            Self::BuiltIn { above, field } => match field {
                "conditions" | "addresses" => map(&["type"]),
                "containers"
                | "initContainers"
                | "ephemeralContainers"
                | "volumes"
                | "env"
                | "imagePullSecrets"
                | "secrets"
                | "resourceClaims"
                | "claims" => map(&["name"]),
                "ports" if matches!(above, "containers" | "initContainers") => map(&["containerPort", "protocol"]),
                "ports" => map(&["port", "protocol"]),
                "volumeMounts" => map(&["mountPath"]),
                "volumeDevices" => map(&["devicePath"]),
                "topologySpreadConstraints" => map(&["topologyKey", "whenUnsatisfiable"]),
                "ownerReferences" => map(&["uid"]),
                "podIPs" | "hostAliases" => map(&["ip"]),
                "finalizers" | "podCIDRs" => ListType::Set,
                _ => ListType::Atomic,
            },
            _ => ListType::Atomic,
        }
    }

    /// The step that finds an item in a list of this type; `None` where its keys are missing.
    pub(crate) fn step_of(self, list: &ListType, item: &Value) -> Option<String> {
        match list {
            ListType::Atomic => None,
            ListType::Set => Some(format!("v:{item}")),
            ListType::Map(keys) => {
                let mut found = Map::new();
                let mut sorted: Vec<&String> = keys.iter().collect();
                sorted.sort();
                for key in sorted {
                    if let Some(value) = item.get(key).cloned().or_else(|| self.item().key_default(key)) {
                        found.insert(key.clone(), value);
                    }
                }
                if found.is_empty() {
                    return None;
                }
                Some(format!("k:{}", Value::Object(found)))
            }
        }
    }

    fn key_default(self, key: &str) -> Option<Value> {
        match self {
            Self::Schema(node) => node.properties.get(key)?.default.clone(),
            Self::BuiltIn { .. } if key == "protocol" => Some("TCP".into()),
            _ => None,
        }
    }

    /// The type at a step of a field set.
    pub(crate) fn at_step(self, step: &'a str) -> (Self, bool) {
        match step.strip_prefix("f:") {
            Some(name) => self.field(name),
            None => (self.item(), false),
        }
    }
}
