//! All accepted objects of the input, as the operator would see them.

use super::{Accepted, Advice};
use crate::{
    lint::{Finding, input::Object},
    observe::convert,
};
use miyako_api::{ConsolidationPolicy, NodePowerClass};
use miyako_core::model::{Labels, NodeClass, Policies, Policy, Thresholds};
use serde_json::Value;

/// The kinds that say what selectors match.
pub(super) const CONTEXT: [(&str, &str); 3] =
    [("v1", "Node"), ("v1", "Namespace"), ("kubevirt.io/v1", "VirtualMachineInstance")];

/// A policy, where it was written, and as the operator reads it.
pub(super) struct GivenPolicy<'a> {
    pub(super) object: &'a Object,
    pub(super) written: ConsolidationPolicy,
    pub(super) read: Policy,
}

/// A class, where it was written, and as the operator reads it.
pub(super) struct GivenClass<'a> {
    pub(super) object: &'a Object,
    pub(super) written: NodePowerClass,
    pub(super) read: NodeClass,
}

/// A Node, Namespace or VM.
pub(super) struct Labelled {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) labels: Labels,
}

/// All accepted objects.
#[derive(Default)]
pub(super) struct World<'a> {
    pub(super) policies: Vec<GivenPolicy<'a>>,
    pub(super) classes: Vec<GivenClass<'a>>,
    pub(super) nodes: Vec<Labelled>,
    pub(super) namespaces: Vec<Labelled>,
    pub(super) vms: Vec<Labelled>,
    /// The policies and classes for the operator's own rules.
    pub(super) ruled: Policies,
}

impl<'a> World<'a> {
    /// Reads the objects as the operator does; what it would refuse is found wrong.
    pub(super) fn new(objects: &[Accepted<'a>], findings: &mut Vec<Finding>) -> Self {
        let mut world = Self::default();
        for (object, stored) in objects {
            match object.kind() {
                "ConsolidationPolicy" => world.add_policy(object, stored, findings),
                "NodePowerClass" => world.add_class(object, stored, findings),
                "Node" => world.nodes.push(labelled(object)),
                "Namespace" => world.namespaces.push(labelled(object)),
                "VirtualMachineInstance" => world.vms.push(labelled(object)),
                _ => {}
            }
        }
        world
    }

    fn add_policy(&mut self, object: &'a Object, stored: &Value, findings: &mut Vec<Finding>) {
        let mut advice = Advice::on(object);
        match serde_json::from_value::<ConsolidationPolicy>(stored.clone()) {
            Ok(written) => {
                let converted = convert::policy::resolve(object.name(), &written.spec);
                for problem in converted.problems {
                    advice.refuse(&problem.field, &problem.message);
                }
                let read = converted.value.policy;
                self.ruled.policies.insert(read.name.clone(), read.clone());
                self.policies.push(GivenPolicy { object, written, read });
            }
            Err(error) => advice.refuse("spec", &format!("the operator can't read it: {error}")),
        }
        findings.append(&mut advice.findings);
    }

    fn add_class(&mut self, object: &'a Object, stored: &Value, findings: &mut Vec<Finding>) {
        let mut advice = Advice::on(object);
        match serde_json::from_value::<NodePowerClass>(stored.clone()) {
            Ok(written) => {
                let converted = convert::class::convert(object.name(), &written.spec);
                for problem in converted.problems {
                    advice.refuse(&problem.field, &problem.message);
                }
                let read = converted.value;
                self.ruled.classes.insert(read.name.clone(), read.clone());
                self.classes.push(GivenClass { object, written, read });
            }
            Err(error) => advice.refuse("spec", &format!("the operator can't read it: {error}")),
        }
        findings.append(&mut advice.findings);
    }

    /// The nodes that a class selects.
    pub(super) fn nodes_of(&self, class: &NodeClass) -> impl Iterator<Item = &Labelled> {
        self.nodes.iter().filter(|node| class.nodes.matches(&node.labels))
    }

    /// The classes that a policy names and that are given.
    pub(super) fn classes_of(&self, policy: &Policy) -> impl Iterator<Item = &GivenClass<'a>> {
        self.classes.iter().filter(|class| policy.classes.contains(&class.read.name))
    }

    /// The labels of a namespace; one that is not given has at least its name.
    pub(super) fn namespace_labels(&self, name: &str) -> Labels {
        let given = self.namespaces.iter().find(|namespace| namespace.name == name);
        let mut labels = given.map(|namespace| namespace.labels.clone()).unwrap_or_default();
        labels.insert(miyako_api::names::kubernetes::NAMESPACE_NAME.to_owned(), name.to_owned());
        labels
    }
}

impl GivenPolicy<'_> {
    /// The thresholds that count: what is written, else the profile's.
    pub(super) fn thresholds(&self) -> &Thresholds {
        &self.read.thresholds
    }
}

fn labelled(object: &Object) -> Labelled {
    let text = |pointer: &str| object.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let labels = object.value.pointer("/metadata/labels").and_then(Value::as_object);
    Labelled {
        name: text("/metadata/name"),
        namespace: text("/metadata/namespace"),
        labels: labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
    }
}
