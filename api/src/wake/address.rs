//! Addresses of many nodes in one line: `{node}.bmc.example.org`, `{label:example.org/mac}`.

use super::{EndpointError, MacAddressError};
use std::collections::BTreeMap;
use thiserror::Error;

/// Labels whose key has a prefix of this domain are the API server's to give: a kubelet may not set them on its own node
/// (admission plugin NodeRestriction).
const KUBELETS_MAY_NOT_SET: &str = "node-restriction.kubernetes.io";

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
    /// Filled in, it is no address of a BMC.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Filled in, it is no network card's address.
    #[error(transparent)]
    Mac(#[from] MacAddressError),
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

    /// The labels by which a node could choose any host: those in the host's place that no domain follows, and that
    /// kubelets may set on their own nodes. `{label:x}.bmc.example.org` stays below that domain; `{label:x}` does not.
    #[must_use]
    pub fn steering_labels(&self) -> Vec<&str> {
        let mut keys = Vec::new();
        let text: String = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Label(key) if !kubelets_may_not_set(key) => {
                    keys.push(key.as_str());
                    STEERING.to_string()
                }
                Part::Label(_) | Part::Node => PLACEHOLDER.to_string(),
            })
            .collect();
        let rest = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, bounded) = match authority.strip_prefix('[') {
            Some(inside) => {
                let host = inside.split(']').next().unwrap_or_default();
                // A label's value holds no colon: it can't leave the network that stands before it.
                let before = host.split(STEERING).next().unwrap_or_default();
                (host, before.contains("::") || before.matches(':').count() >= 4)
            }
            None => {
                let host = authority.split(':').next().unwrap_or_default();
                (host, is_domain(host.rsplit([STEERING, PLACEHOLDER]).next().unwrap_or_default()))
            }
        };
        let within = host.matches(STEERING).count();
        keys.truncate(if bounded { 0 } else { within });
        keys
    }

    /// What the template may become: `node` stands for every node's name, each of `values` in turn for each label.
    pub(super) fn samples<'a>(&'a self, node: &'a str, values: &'a [&'a str]) -> impl Iterator<Item = String> + 'a {
        let labels = self.parts.iter().filter(|part| matches!(part, Part::Label(_))).count().min(MOST_SAMPLED);
        let most = values.len().pow(u32::try_from(labels).unwrap_or(0));
        (0..most).map(move |mut choice| {
            let part = |part: &Part| match part {
                Part::Text(text) => text.clone(),
                Part::Node => node.to_owned(),
                Part::Label(_) => {
                    let value = values.get(choice % values.len()).copied().unwrap_or_default();
                    choice /= values.len();
                    value.to_owned()
                }
            };
            self.parts.iter().map(part).collect()
        })
    }

    /// The labels of a node whose values the address holds.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Label(key) => Some(key.as_str()),
            Part::Text(_) | Part::Node => None,
        })
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

/// So many labels of a template are tried with different values; an address has hardly more than two.
const MOST_SAMPLED: usize = 4;

/// What stands for a label that a kubelet may set, and for any other placeholder. Neither can be part of an address.
const STEERING: char = '\u{1}';
const PLACEHOLDER: char = '\u{2}';

/// Whether a label is the API server's to give.
fn kubelets_may_not_set(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    prefix == KUBELETS_MAY_NOT_SET || prefix.strip_suffix(KUBELETS_MAY_NOT_SET).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether what follows a placeholder is a domain of at least two parts, as `.example.org` is.
fn is_domain(text: &str) -> bool {
    let parts: Vec<_> = text.strip_prefix('.').unwrap_or_default().split('.').filter(|part| !part.is_empty()).collect();
    parts.len() >= 2 && parts.last().is_some_and(|last| last.bytes().any(|byte| byte.is_ascii_alphabetic()))
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

    #[test]
    fn a_label_in_the_hosts_place_steers_unless_a_domain_holds_it() {
        for (text, steering) in [
            ("{label:bmc}", &["bmc"][..]),
            ("https://{label:bmc}:443/redfish/v1/Systems/{label:id}", &["bmc"]),
            ("https://10.0.0.{label:last}", &["last"]),
            ("https://{label:a}.{label:b}.org", &["a", "b"]),
            ("https://bmc-{label:a}.org", &["a"]),
            ("https://[{label:net}::1]", &["net"]),
            ("https://{label:rack}.bmc.example.org", &[]),
            ("https://{node}.{label:rack}.bmc.example.org:8443", &[]),
            ("https://[fd00::{label:last}]", &[]),
            ("{node}.bmc:{label:port}", &[]),
            ("https://bmc/{label:id}", &[]),
            ("{label:example.org.node-restriction.kubernetes.io/bmc}", &[]),
            ("{label:node-restriction.kubernetes.io/bmc}", &[]),
            ("{label:evil-node-restriction.kubernetes.io/bmc}", &["evil-node-restriction.kubernetes.io/bmc"]),
        ] {
            assert_eq!(Template::parse(text).unwrap().steering_labels(), steering, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_an_error(text in "\\PC*", braces in "[{}a:b]{0,12}") {
            for text in [text, braces] {
                if let Ok(template) = Template::parse(&text) {
                    let _ = (template.expand("n", &BTreeMap::new()), template.steering_labels());
                }
            }
        }
    }
}
