//! Label selectors and node selectors, evaluated as Kubernetes does.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// How a requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// The value is one of the values.
    In,
    /// The value is none of the values; an absent key passes.
    NotIn,
    /// The key is there.
    Exists,
    /// The key is not there.
    DoesNotExist,
    /// The value is an integer greater than the one value. Node selectors only.
    Gt,
    /// The value is an integer less than the one value. Node selectors only.
    Lt,
}

/// One condition on one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The label's key (or the field's name).
    pub key: String,
    /// The comparison.
    pub operator: Operator,
    /// What it compares with.
    pub values: Vec<String>,
}

impl Requirement {
    /// Whether labels meet this requirement.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let as_integer = |text: &String| text.parse::<i64>().ok();
        let compare = |wanted: fn(&i64, &i64) -> bool| {
            let bound = self.values.first().and_then(as_integer);
            value.and_then(as_integer).zip(bound).is_some_and(|(have, bound)| wanted(&have, &bound))
        };
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => compare(i64::gt),
            Operator::Lt => compare(i64::lt),
        }
    }
}

/// A label selector: all requirements hold. An empty one selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// The requirements; `matchLabels` become `In` with one value.
    pub requirements: Vec<Requirement>,
}

impl Selector {
    /// Selects objects that carry this label.
    #[must_use]
    pub fn label(key: &str, value: &str) -> Self {
        let requirement = Requirement { key: key.into(), operator: Operator::In, values: vec![value.into()] };
        Self { requirements: vec![requirement] }
    }

    /// Whether all requirements hold.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

/// One alternative of a node selector: labels and fields (`metadata.name`) must all match. An empty term matches
/// no node, as in Kubernetes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSelectorTerm {
    /// Conditions on the node's labels.
    pub labels: Vec<Requirement>,
    /// Conditions on the node's name.
    pub names: Vec<Requirement>,
}

impl NodeSelectorTerm {
    fn matches(&self, name: &str, labels: &Labels) -> bool {
        if self.labels.is_empty() && self.names.is_empty() {
            return false;
        }
        let names = || Labels::from([("metadata.name".to_owned(), name.to_owned())]);
        self.labels.iter().all(|requirement| requirement.matches(labels))
            && (self.names.is_empty() || {
                let names = names();
                self.names.iter().all(|requirement| requirement.matches(&names))
            })
    }
}

/// Alternatives, of which one must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSelector {
    /// The alternatives.
    pub terms: Vec<NodeSelectorTerm>,
}

impl NodeSelector {
    /// Whether one term matches this node.
    #[must_use]
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.terms.iter().any(|term| term.matches(name, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(key: &str, operator: Operator, values: &[&str]) -> Requirement {
        Requirement { key: key.into(), operator, values: values.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn requirements_compare_as_in_kubernetes() {
        let labels = Labels::from([("zone".into(), "a".into()), ("cores".into(), "16".into())]);
        let cases = [
            (requirement("zone", Operator::In, &["a", "b"]), true),
            (requirement("zone", Operator::NotIn, &["a"]), false),
            (requirement("rack", Operator::NotIn, &["a"]), true),
            (requirement("rack", Operator::Exists, &[]), false),
            (requirement("rack", Operator::DoesNotExist, &[]), true),
            (requirement("cores", Operator::Gt, &["8"]), true),
            (requirement("cores", Operator::Lt, &["16"]), false),
            (requirement("zone", Operator::Gt, &["8"]), false),
        ];
        for (requirement, expected) in cases {
            assert_eq!(requirement.matches(&labels), expected, "{requirement:?}");
        }
    }

    #[test]
    fn an_empty_selector_selects_all_and_an_empty_term_no_node() {
        assert!(Selector::default().matches(&Labels::new()));
        assert!(!NodeSelector { terms: vec![NodeSelectorTerm::default()] }.matches("n1", &Labels::new()));
        let by_name =
            NodeSelectorTerm { labels: vec![], names: vec![requirement("metadata.name", Operator::In, &["n1"])] };
        assert!(NodeSelector { terms: vec![by_name] }.matches("n1", &Labels::new()));
    }
}
