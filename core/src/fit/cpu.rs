//! Which processors are the same: a VM whose CPU model is `host-passthrough` sees its host's own, and may crash after a
//! migration to another one. KubeVirt asks for the vendor only.

use super::Misfit;
use crate::model::{Labels, Node, Scheduling};

/// Prefixes of the labels in which KubeVirt says what a node's own processor is.
const OF_KUBEVIRT: [&str; 2] = ["host-model-cpu.node.kubevirt.io/", "host-model-required-features.node.kubevirt.io/"];

/// A person's word on it, for processors that KubeVirt does not describe (arm64): nodes with the same value have the same.
pub const OF_PEOPLE: &str = "miyako.dev/cpu";

/// What tells a node's processor apart. None if nothing does.
#[must_use]
pub fn identity(node: &Labels) -> Option<Labels> {
    let told = |prefix: &str| node.keys().any(|key| key.starts_with(prefix));
    // Features alone are those of many processors.
    let known = told(OF_KUBEVIRT[0]) || node.contains_key(OF_PEOPLE);
    known.then(|| labels(node).map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn labels(node: &Labels) -> impl Iterator<Item = (&String, &String)> {
    node.iter().filter(|(key, _)| *key == OF_PEOPLE || OF_KUBEVIRT.iter().any(|prefix| key.starts_with(prefix)))
}

/// The node's processor is the one that the pod needs.
pub(super) fn same(pod: &Scheduling, node: &Node) -> Result<(), Misfit> {
    let Some(wanted) = &pod.same_cpu else { return Ok(()) };
    let differs = |one: &Labels, other: &Labels| {
        labels(one).find(|(key, value)| other.get(*key) != Some(*value)).map(|(key, _)| key.clone())
    };
    match differs(wanted, &node.labels).or_else(|| differs(&node.labels, wanted)) {
        Some(label) => Err(Misfit::OtherCpu { label }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Resources;

    const MODEL: &str = "host-model-cpu.node.kubevirt.io/Skylake-Server";
    const FEATURE: &str = "host-model-required-features.node.kubevirt.io/avx512f";

    fn labelled(keys: &[(&str, &str)]) -> Labels {
        keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_processor_is_the_same_when_all_that_is_said_of_both_is() {
        let source = labelled(&[(MODEL, "true"), (FEATURE, "true"), ("disk", "fast")]);
        let pod = Scheduling { same_cpu: identity(&source), ..Scheduling::default() };
        let judge = |keys: &[(&str, &str)]| {
            let mut node = Node::new("n", Resources::default());
            node.labels = labelled(keys);
            same(&pod, &node)
        };
        let other = |label: &str| Err(Misfit::OtherCpu { label: label.into() });
        assert_eq!(judge(&[(MODEL, "true"), (FEATURE, "true"), ("disk", "slow")]), Ok(()));
        assert_eq!(judge(&[(FEATURE, "true")]), other(MODEL));
        assert_eq!(judge(&[(MODEL, "true")]), other(FEATURE), "the guest may use what is missing there");
        let more = "host-model-required-features.node.kubevirt.io/amx-tile";
        assert_eq!(judge(&[(MODEL, "true"), (FEATURE, "true"), (more, "true")]), other(more));
        assert_eq!(judge(&[(MODEL, "true"), (FEATURE, "true"), (OF_PEOPLE, "b")]), other(OF_PEOPLE));
    }

    #[test]
    fn people_may_say_it_where_kubevirt_does_not() {
        assert_eq!(identity(&labelled(&[("kubernetes.io/arch", "arm64"), (FEATURE, "true")])), None);
        assert_eq!(identity(&labelled(&[(OF_PEOPLE, "neoverse-n1")])), Some(labelled(&[(OF_PEOPLE, "neoverse-n1")])));
    }
}
