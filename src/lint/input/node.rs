//! A value that knows the lines it was written on.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The longest path whose line is kept: a key of a megabyte over many values would take their product.
const LONGEST_PATH: usize = 512;

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    line: usize,
    content: Content,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    Scalar(Value),
    Sequence(Vec<Node>),
    Mapping(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn scalar(line: usize, value: Value) -> Self {
        Self { line, content: Content::Scalar(value) }
    }

    pub(super) fn sequence(line: usize, items: Vec<Self>) -> Self {
        Self { line, content: Content::Sequence(items) }
    }

    pub(super) fn mapping(line: usize, entries: Vec<(String, Self)>) -> Self {
        Self { line, content: Content::Mapping(entries) }
    }

    /// The line it begins on, from 1; a field begins at its name.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    pub(super) fn set_line(&mut self, line: usize) {
        self.line = line;
    }

    pub(super) fn is_null(&self) -> bool {
        self.content == Content::Scalar(Value::Null)
    }

    /// The field of a mapping.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        match &self.content {
            Content::Mapping(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The items of a sequence.
    #[must_use]
    pub fn items(&self) -> Option<&[Self]> {
        match &self.content {
            Content::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// A mapping's key, as kubectl turns it into the key of a JSON object.
    pub(super) fn as_key(&self) -> Option<String> {
        match &self.content {
            Content::Scalar(Value::String(text)) => Some(text.clone()),
            Content::Scalar(Value::Bool(value)) => Some(value.to_string()),
            Content::Scalar(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        }
    }

    /// The entries that `<<` brings into a mapping.
    pub(super) fn merge_sources(self) -> Vec<(String, Self)> {
        match self.content {
            Content::Mapping(entries) => entries,
            Content::Sequence(items) => items.into_iter().flat_map(Self::merge_sources).collect(),
            Content::Scalar(_) => Vec::new(),
        }
    }

    /// How many values it comes to.
    pub(super) fn size(&self) -> usize {
        1 + match &self.content {
            Content::Scalar(_) => 0,
            Content::Sequence(items) => items.iter().map(Self::size).sum(),
            Content::Mapping(entries) => entries.iter().map(|(_, value)| value.size()).sum(),
        }
    }

    /// How deeply it nests.
    pub(super) fn depth(&self) -> usize {
        1 + match &self.content {
            Content::Scalar(_) => 0,
            Content::Sequence(items) => items.iter().map(Self::depth).max().unwrap_or(0),
            Content::Mapping(entries) => entries.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
        }
    }

    /// The value without its lines.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::Sequence(items) => items.iter().map(Self::to_value).collect(),
            Content::Mapping(entries) => {
                Value::Object(entries.iter().map(|(key, value)| (key.clone(), value.to_value())).collect::<Map<_, _>>())
            }
        }
    }

    /// The line of every field, by its path as the API server writes it (`spec.wake[0].driver`).
    pub(super) fn lines(&self) -> BTreeMap<String, usize> {
        let mut lines = BTreeMap::new();
        self.note_lines("", &mut lines);
        lines
    }

    /// Longer paths than [`LONGEST_PATH`] are junk; their values get the line of what surrounds them.
    fn note_lines(&self, path: &str, lines: &mut BTreeMap<String, usize>) {
        if path.len() > LONGEST_PATH {
            return;
        }
        if !path.is_empty() {
            lines.insert(path.to_owned(), self.line);
        }
        match &self.content {
            Content::Scalar(_) => {}
            Content::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.note_lines(&format!("{path}[{index}]"), lines);
                }
            }
            Content::Mapping(entries) => {
                for (key, value) in entries {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    value.note_lines(&path, lines);
                }
            }
        }
    }
}
