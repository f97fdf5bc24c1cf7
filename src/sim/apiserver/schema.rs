//! A CRD's structural schema: how lists and maps merge, which fields have defaults, which are kept.

mod prepare;
mod validate;

use serde_json::Value;
use std::{collections::BTreeMap, fmt};

/// A structural schema, read once.
#[derive(Clone)]
pub struct Schema {
    pub(crate) root: Node,
    /// Compiled CEL rules; `None` where the schema has none.
    rules: Option<std::sync::Arc<kube_cel::CompiledSchema>>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("root", &self.root).finish_non_exhaustive()
    }
}

/// How a list merges under server-side apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListType {
    /// The whole list has one owner.
    #[default]
    Atomic,
    /// Each value has its owners.
    Set,
    /// Each item, found by these keys, has its owners.
    Map(Vec<String>),
}

/// One level of a structural schema.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) types: String,
    pub(crate) nullable: bool,
    pub(crate) properties: BTreeMap<String, Node>,
    pub(crate) additional: Option<Box<Node>>,
    pub(crate) items: Option<Box<Node>>,
    pub(crate) required: Vec<String>,
    pub(crate) default: Option<Value>,
    pub(crate) preserve_unknown: bool,
    pub(crate) int_or_string: bool,
    pub(crate) embedded_resource: bool,
    pub(crate) list_type: ListType,
    pub(crate) atomic_map: bool,
    pub(crate) limits: Limits,
}

/// What a value must satisfy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) values: Vec<Value>,
    pub(crate) minimum: Option<f64>,
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) exclusive_maximum: bool,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) format: Option<String>,
    pub(crate) all_of: Vec<Node>,
    pub(crate) any_of: Vec<Node>,
    pub(crate) one_of: Vec<Node>,
    pub(crate) not: Option<Box<Node>>,
}

/// A regular expression and its text.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(pub(crate) regex::Regex);

impl Schema {
    /// Reads `openAPIV3Schema`.
    ///
    /// # Errors
    /// When a pattern or CEL rule does not compile.
    pub fn parse(schema: &Value) -> Result<Self, String> {
        let rules = if has_rules(schema) {
            let compiled = kube_cel::compile_schema(schema);
            Some(std::sync::Arc::new(compiled))
        } else {
            None
        };
        Ok(Self { root: Node::parse(schema)?, rules })
    }
}

fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.contains_key("x-kubernetes-validations") || fields.values().any(has_rules),
        Value::Array(items) => items.iter().any(has_rules),
        _ => false,
    }
}

impl Node {
    fn parse(schema: &Value) -> Result<Self, String> {
        let flag = |key: &str| schema.get(key) == Some(&Value::Bool(true));
        let list = |key: &str| -> Result<Vec<Self>, String> {
            schema.get(key).and_then(Value::as_array).into_iter().flatten().map(Self::parse).collect()
        };
        let texts = |key: &str| -> Vec<String> {
            let items = schema.get(key).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let mut properties = BTreeMap::new();
        for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            properties.insert(name.clone(), Self::parse(inner)?);
        }
        let boxed = |key: &str| -> Result<Option<Box<Self>>, String> {
            match schema.get(key) {
                Some(inner @ Value::Object(_)) => Ok(Some(Box::new(Self::parse(inner)?))),
                _ => Ok(None),
            }
        };
        let additional = match schema.get("additionalProperties") {
            Some(Value::Bool(true)) => Some(Box::new(Self { preserve_unknown: true, ..Self::default() })),
            _ => boxed("additionalProperties")?,
        };
        let list_type = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map(texts("x-kubernetes-list-map-keys")),
            _ => ListType::Atomic,
        };
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        let count = |key: &str| schema.get(key).and_then(Value::as_u64);
        let pattern = match schema.get("pattern").and_then(Value::as_str) {
            Some(text) => Some(Pattern(regex::Regex::new(text).map_err(|e| format!("pattern {text:?}: {e}"))?)),
            None => None,
        };
        Ok(Self {
            types: schema.get("type").and_then(Value::as_str).unwrap_or_default().to_owned(),
            nullable: flag("nullable"),
            properties,
            additional,
            items: boxed("items")?,
            required: texts("required"),
            default: schema.get("default").cloned(),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            embedded_resource: flag("x-kubernetes-embedded-resource"),
            list_type,
            atomic_map: schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic"),
            limits: Limits {
                values: schema.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
                minimum: number("minimum"),
                maximum: number("maximum"),
                exclusive_minimum: flag("exclusiveMinimum"),
                exclusive_maximum: flag("exclusiveMaximum"),
                min_length: count("minLength"),
                max_length: count("maxLength"),
                min_items: count("minItems"),
                max_items: count("maxItems"),
                min_properties: count("minProperties"),
                max_properties: count("maxProperties"),
                pattern,
                format: schema.get("format").and_then(Value::as_str).map(str::to_owned),
                all_of: list("allOf")?,
                any_of: list("anyOf")?,
                one_of: list("oneOf")?,
                not: boxed("not")?,
            },
        })
    }

    /// The schema of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(self.additional.as_deref())
    }
}
