//! Addresses of many nodes in one line: `{node}.bmc.example.org`, `{label:example.org/mac}`.

use std::collections::BTreeMap;
use thiserror::Error;

/// An address with placeholders: `{node}` is the node's name, `{label:KEY}` the value of one of its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Node,
    Label(String),
}

/// What is wrong with a template, or with a node for it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// Nothing there.
    #[error("the address is empty: write one such as {{node}}.bmc.example.org")]
    Empty,
    /// No closing brace.
    #[error("`{{{0}` has no closing brace: write {{node}} or {{label:KEY}}")]
    Unclosed(String),
    /// A brace that closes nothing.
    #[error("there is a `}}` without its `{{`: write {{node}} or {{label:KEY}}")]
    Unopened,
    /// Neither `node` nor `label:KEY`.
    #[error("`{{{0}}}` is no placeholder: write {{node}} or {{label:KEY}}")]
    Unknown(String),
    /// `{label:}`.
    #[error("`{{label:}}` names no label: write {{label:KEY}}, such as {{label:example.org/mac}}")]
    NoKey,
    /// The node has no such label.
    #[error("node {node} has no label {key}, which the address needs: label the node, or list its address")]
    NoLabel {
        /// The node.
        node: String,
        /// The label's key.
        key: String,
    },
    /// The node's label is empty.
    #[error("label {key} of node {node} is empty, and the address needs it")]
    EmptyLabel {
        /// The node.
        node: String,
        /// The label's key.
        key: String,
    },
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// An empty text or a bad placeholder.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let brace = rest.find(['{', '}']).unwrap_or(rest.len());
            let (before, from) = rest.split_at(brace);
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            if from.is_empty() {
                break;
            }
            let Some(inner) = from.strip_prefix('{') else { return Err(TemplateError::Unopened) };
            let Some((name, after)) = inner.split_once('}') else {
                return Err(TemplateError::Unclosed(inner.to_owned()));
            };
            parts.push(match name.split_once(':') {
                None if name == "node" => Part::Node,
                Some(("label", "")) => return Err(TemplateError::NoKey),
                Some(("label", key)) => Part::Label(key.to_owned()),
                _ => return Err(TemplateError::Unknown(name.to_owned())),
            });
            rest = after;
        }
        Ok(Self { parts })
    }

    /// The address of one node.
    ///
    /// # Errors
    ///
    /// A label that the node lacks.
    pub fn expand(&self, node: &str, labels: &BTreeMap<String, String>) -> Result<String, TemplateError> {
        let mut address = String::new();
        for part in &self.parts {
            address.push_str(match part {
                Part::Text(text) => text,
                Part::Node => node,
                Part::Label(key) => match labels.get(key) {
                    None => return Err(TemplateError::NoLabel { node: node.to_owned(), key: key.clone() }),
                    Some(value) if value.is_empty() => {
                        return Err(TemplateError::EmptyLabel { node: node.to_owned(), key: key.clone() });
                    }
                    Some(value) => value,
                },
            });
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_template_is_filled_from_the_nodes_name_and_labels() {
        let labels =
            BTreeMap::from([("example.org/rack".to_owned(), "r7".to_owned()), ("empty".to_owned(), String::new())]);
        let expand = |text: &str| Template::parse(text).and_then(|template| template.expand("n1", &labels));
        assert_eq!(expand("https://{node}.{label:example.org/rack}.bmc:8443").unwrap(), "https://n1.r7.bmc:8443");
        assert_eq!(expand("10.0.0.7").unwrap(), "10.0.0.7");
        assert_eq!(expand("[fd00::7]:623").unwrap(), "[fd00::7]:623");
        for (text, message) in [
            ("", "the address is empty: write one such as {node}.bmc.example.org"),
            ("{node", "`{node` has no closing brace: write {node} or {label:KEY}"),
            ("node}", "there is a `}` without its `{`: write {node} or {label:KEY}"),
            ("{name}.bmc", "`{name}` is no placeholder: write {node} or {label:KEY}"),
            ("{label:}", "`{label:}` names no label: write {label:KEY}, such as {label:example.org/mac}"),
            ("{label:mac}", "node n1 has no label mac, which the address needs: label the node, or list its address"),
            ("{label:empty}", "label empty of node n1 is empty, and the address needs it"),
        ] {
            assert_eq!(expand(text).unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_an_error(text in "\\PC*", braces in "[{}a:b]{0,12}") {
            for text in [text, braces] {
                if let Ok(template) = Template::parse(&text) {
                    let _ = template.expand("n", &BTreeMap::new());
                }
            }
        }
    }
}
