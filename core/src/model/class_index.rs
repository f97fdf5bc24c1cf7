//! Which class selects a node, for who asks about every node: a cluster may have thousands of both.

use super::{ClassName, Labels, Lookup, Node, NodeClass, Operator, Policies, Policy};
use std::collections::BTreeMap;

/// The classes by a label that each of them asks for: only a node that carries it needs a closer look.
pub(crate) struct ClassIndex<'a> {
    by_label: BTreeMap<&'a str, Lookup<'a, Vec<&'a NodeClass>>>,
    /// Those that ask for no label's value.
    others: Vec<&'a NodeClass>,
}

impl<'a> ClassIndex<'a> {
    /// Indexes all classes.
    pub(crate) fn new(policies: &'a Policies) -> Self {
        let mut asked: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for label in policies.classes.values().flat_map(labels) {
            *asked.entry(label).or_default() += 1;
        }
        let mut index = Self { by_label: BTreeMap::new(), others: Vec::new() };
        for class in policies.classes.values() {
            // Of several labels the one that the fewest classes ask for.
            match labels(class).min_by_key(|label| asked[label]) {
                Some((key, value)) => index.by_label.entry(key).or_default().at(value).push(class),
                None => index.others.push(class),
            }
        }
        index
    }

    /// The class of a node, as [`Policies::class_of`] says.
    ///
    /// # Errors
    /// The names of all classes that select it, when there are several.
    pub(crate) fn class_of(&self, node: &Node) -> Result<Option<&'a NodeClass>, Vec<ClassName>> {
        let mut selecting: Vec<_> =
            self.candidates(&node.labels).filter(|class| class.nodes.matches(&node.labels)).collect();
        match selecting[..] {
            [] => Ok(None),
            [class] => Ok(Some(class)),
            _ => {
                selecting.sort_by(|a, b| a.name.cmp(&b.name));
                Err(selecting.into_iter().map(|class| class.name.clone()).collect())
            }
        }
    }

    fn candidates(&self, labels: &Labels) -> impl Iterator<Item = &'a NodeClass> {
        let asked = self.by_label.iter().filter_map(|(key, classes)| classes.get(labels.get(*key)?));
        asked.flatten().chain(&self.others).copied()
    }
}

/// The labels that a class asks for with one value each.
fn labels(class: &NodeClass) -> impl Iterator<Item = (&str, &str)> {
    class.nodes.requirements.iter().filter_map(|requirement| match &requirement.values[..] {
        [value] if requirement.operator == Operator::In => Some((requirement.key.as_str(), value.as_str())),
        _ => None,
    })
}

/// The policy that each class belongs to, as [`Policies::ruling`] says.
pub(crate) fn rulers(policies: &Policies) -> BTreeMap<&ClassName, &Policy> {
    let mut rulers: BTreeMap<&ClassName, &Policy> = BTreeMap::new();
    // By name, so that of equals the first stays.
    for policy in policies.policies.values() {
        for class in &policy.classes {
            let ruler = rulers.entry(class).or_insert(policy);
            if policy.priority > ruler.priority {
                *ruler = policy;
            }
        }
    }
    rulers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Resources, Role, Selector};

    #[test]
    fn the_index_says_what_a_walk_through_all_classes_says() {
        let class = |name: &str, labels: &[(&str, &str)]| NodeClass {
            name: ClassName::new(name),
            nodes: Selector {
                requirements: labels.iter().flat_map(|(key, value)| Selector::label(key, value).requirements).collect(),
            },
            role: Role::Shared,
            capacity: Default::default(),
            max_vms: None,
            sleeping_daemon_sets: Default::default(),
            sleeping_static_pods: Default::default(),
            passing_taints: Default::default(),
            power: Default::default(),
            meter: Default::default(),
            sleep: Default::default(),
            invalid: None,
        };
        let mut several = class("e-several", &[("pool", "a")]);
        several.nodes.requirements[0].values.push("c".into());
        let classes = [
            class("d-a-shared", &[("role", "shared"), ("pool", "a")]),
            class("c-b-shared", &[("role", "shared"), ("pool", "b")]),
            class("b-dedicated", &[("role", "dedicated")]),
            several,
        ];
        let mut policies = Policies::default();
        policies.classes.extend(classes.into_iter().map(|class| (class.name.clone(), class)));
        for everything in [false, true] {
            if everything {
                let class = class("a-everything", &[]);
                policies.classes.insert(class.name.clone(), class);
            }
            let index = ClassIndex::new(&policies);
            for role in ["shared", "dedicated", "neither"] {
                for pool in ["a", "b", "c", "d"] {
                    let mut node = Node::new("n", Resources::default());
                    node.labels.extend([("role", role), ("pool", pool)].map(|(key, value)| (key.into(), value.into())));
                    assert_eq!(index.class_of(&node), policies.class_of(&node), "{role} {pool}");
                }
            }
        }
    }
}
