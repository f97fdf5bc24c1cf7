//! Label selectors and node selectors.

use super::Problems;
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::LabelSelector};
use miyako_core::model::{NodeSelector, NodeSelectorTerm, Operator, Requirement, Selector};

/// A selector that selects nothing: what Kubernetes makes of an absent label selector.
#[must_use]
pub fn nothing() -> Selector {
    Selector { requirements: vec![Requirement { key: String::new(), operator: Operator::In, values: Vec::new() }] }
}

fn operator(text: &str, field: &str, problems: &mut Problems) -> Option<Operator> {
    Some(match text {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        other => {
            problems.note(field, format!("unknown operator {other:?}; write In, NotIn, Exists or DoesNotExist"));
            return None;
        }
    })
}

/// A label selector. One that can't be read selects nothing, and the problem is noted.
pub fn labels(selector: Option<&LabelSelector>, field: &str, problems: &mut Problems) -> Selector {
    let Some(selector) = selector else { return nothing() };
    let equal = selector.match_labels.iter().flatten().map(|(key, value)| Requirement {
        key: key.clone(),
        operator: Operator::In,
        values: vec![value.clone()],
    });
    let mut requirements: Vec<_> = equal.collect();
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let field = format!("{field}.matchExpressions[{index}].operator");
        match operator(&expression.operator, &field, problems) {
            Some(operator) if !matches!(operator, Operator::Gt | Operator::Lt) => requirements.push(Requirement {
                key: expression.key.clone(),
                operator,
                values: expression.values.clone().unwrap_or_default(),
            }),
            Some(_) => {
                problems.note(field, "Gt and Lt are for node selectors only; write In, NotIn, Exists or DoesNotExist");
                return nothing();
            }
            None => return nothing(),
        }
    }
    Selector { requirements }
}

/// A node selector. A term that can't be read matches no node, and the problem is noted.
pub fn nodes(selector: &core::NodeSelector, field: &str, problems: &mut Problems) -> NodeSelector {
    let terms = selector.node_selector_terms.iter().enumerate().map(|(index, term)| {
        let mut read = |list: Option<&Vec<core::NodeSelectorRequirement>>, name: &str| {
            let mut requirements = Vec::new();
            for (at, requirement) in list.into_iter().flatten().enumerate() {
                let field = format!("{field}.nodeSelectorTerms[{index}].{name}[{at}].operator");
                requirements.push(Requirement {
                    key: requirement.key.clone(),
                    operator: operator(&requirement.operator, &field, problems)?,
                    values: requirement.values.clone().unwrap_or_default(),
                });
            }
            Some(requirements)
        };
        let labels = read(term.match_expressions.as_ref(), "matchExpressions");
        let names = read(term.match_fields.as_ref(), "matchFields");
        match (labels, names) {
            (Some(labels), Some(names)) => NodeSelectorTerm { labels, names },
            // An empty term matches no node.
            _ => NodeSelectorTerm::default(),
        }
    });
    NodeSelector { terms: terms.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_core::model::Labels;
    use serde_json::{from_value, json};

    #[test]
    fn an_absent_selector_selects_nothing_and_an_empty_one_everything() {
        let mut problems = Problems::default();
        let labelled = Labels::from([("a".into(), "b".into())]);
        assert!(!labels(None, "s", &mut problems).matches(&labelled));
        assert!(labels(Some(&LabelSelector::default()), "s", &mut problems).matches(&labelled));
        assert!(problems.is_empty());
    }

    #[test]
    fn an_unknown_operator_selects_nothing_and_is_named() {
        let mut problems = Problems::default();
        let selector: LabelSelector =
            from_value(json!({"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]})).unwrap();
        assert!(!labels(Some(&selector), "selector", &mut problems).matches(&Labels::from([("a".into(), "b".into())])));
        let problem = &problems.into_vec()[0];
        assert_eq!(problem.field, "selector.matchExpressions[0].operator");
        assert!(problem.message.contains("Like"));
    }
}
