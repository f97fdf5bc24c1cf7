//! Pods by the labels that constraints ask about.

use super::occupancy::Placed;
use crate::model::{ByName, Name, Operator, Selector};
use std::collections::HashMap;

/// Pods by a label's value. It owns its keys, so that an [`super::Occupancy`] can be used where a shorter-lived one is
/// asked for.
#[derive(Default)]
pub(super) struct ByValue(HashMap<String, Vec<usize>, ByName>);

impl ByValue {
    /// The pods with this value.
    pub(super) fn with(&self, value: &str) -> &[usize] {
        self.0.get(value).map_or(&[], Vec::as_slice)
    }
}

/// Which values a label has on the pods of one namespace, or of all.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LabelQuestion {
    pub(super) namespace: Option<Name>,
    pub(super) key: String,
}

impl LabelQuestion {
    /// The label's value, if the pod is asked about and carries it.
    fn answer<'p>(&self, pod: &Placed<'p>) -> Option<&'p str> {
        let asked = self.namespace.as_ref().is_none_or(|namespace| namespace == pod.namespace);
        pod.labels.get(&self.key).filter(|_| asked).map(String::as_str)
    }

    /// Notes a pod, if it is asked about.
    pub(super) fn add(&self, pod: &Placed<'_>, index: usize, to: &mut ByValue) {
        let Some(value) = self.answer(pod) else { return };
        match to.0.get_mut(value) {
            Some(pods) => pods.push(index),
            None => {
                to.0.insert(value.to_owned(), vec![index]);
            }
        }
    }

    /// Forgets a pod that was noted.
    pub(super) fn remove(&self, pod: &Placed<'_>, index: usize, from: &mut ByValue) {
        if let Some(pods) = self.answer(pod).and_then(|value| from.0.get_mut(value)) {
            pods.retain(|&other| other != index);
        }
    }
}

/// A label that everything the selector matches carries: its key and the values it may have.
pub(super) fn narrow(selector: &Selector) -> Option<(&str, impl Iterator<Item = &str> + Clone)> {
    let requirement = selector.requirements.iter().find(|requirement| requirement.operator == Operator::In)?;
    Some((requirement.key.as_str(), requirement.values.iter().map(String::as_str)))
}
