//! Pruning and defaulting, as the API server does to every custom resource it decodes.

use super::{Node, Schema};
use serde_json::Value;

impl Schema {
    /// Drops fields that the schema does not know; gives their paths.
    pub(crate) fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut dropped = vec![];
        self.root.prune(object, "", true, &mut dropped);
        dropped
    }

    /// Fills in defaults.
    pub(crate) fn apply_defaults(&self, object: &mut Value) {
        self.root.apply_defaults(object);
    }
}

impl Node {
    fn prune(&self, value: &mut Value, path: &str, is_root: bool, dropped: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                let is_resource = is_root || self.embedded_resource;
                let known = |name: &str| {
                    self.field(name).is_some() || (is_resource && matches!(name, "apiVersion" | "kind" | "metadata"))
                };
                if !self.preserve_unknown {
                    let unknown: Vec<String> = fields.keys().filter(|name| !known(name)).cloned().collect();
                    for name in unknown {
                        fields.shift_remove(&name);
                        dropped.push(join(path, &name));
                    }
                }
                for (name, inner) in fields {
                    if is_resource && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                        continue;
                    }
                    if let Some(node) = self.field(name) {
                        node.prune(inner, &join(path, name), false, dropped);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(node) = &self.items {
                    for (at, item) in items.iter_mut().enumerate() {
                        node.prune(item, &format!("{path}[{at}]"), false, dropped);
                    }
                }
            }
            _ => {}
        }
    }

    fn apply_defaults(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, node) in &self.properties {
                    let Some(default) = &node.default else { continue };
                    // An explicit null where null is not allowed counts as absent.
                    let absent = match fields.get(name) {
                        None => true,
                        Some(Value::Null) => !node.nullable,
                        Some(_) => false,
                    };
                    if absent {
                        fields.insert(name.clone(), default.clone());
                    }
                }
                for (name, inner) in fields {
                    if let Some(node) = self.field(name) {
                        node.apply_defaults(inner);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(node) = &self.items {
                    items.iter_mut().for_each(|item| node.apply_defaults(item));
                }
            }
            _ => {}
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
