//! MigrationPolicies of users, matched to VMs as KubeVirt does (`KUBEVIRT.md`, "MigrationPolicy").

use super::objects;
use miyako_api::{kubevirt::MigrationPolicy, names::ours};
use miyako_core::model::Labels;
use std::cmp::Reverse;

/// Which VMs a user's MigrationPolicy matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserMigrationPolicy {
    /// Its name.
    pub name: String,
    /// Labels the VMI must bear.
    pub vm: Labels,
    /// Labels the namespace must bear.
    pub namespace: Labels,
}

/// Converts a MigrationPolicy; none if it is one of ours.
#[must_use]
pub fn convert(policy: &MigrationPolicy) -> Option<UserMigrationPolicy> {
    let labels = policy.metadata.labels.as_ref();
    if labels.and_then(|labels| labels.get(ours::MANAGED_BY)).is_some_and(|by| by == ours::MIYAKO) {
        return None;
    }
    let selectors = &policy.spec.selectors;
    Some(UserMigrationPolicy {
        name: objects::name(&policy.metadata).to_string(),
        vm: selectors.virtual_machine_instance_selector.clone(),
        namespace: selectors.namespace_selector.clone(),
    })
}

impl UserMigrationPolicy {
    fn matches(&self, vm: &Labels, namespace: &Labels) -> bool {
        let all = |wanted: &Labels, labels: &Labels| wanted.iter().all(|(key, value)| labels.get(key) == Some(value));
        // KubeVirt counts matching labels and ignores a policy that names none.
        self.vm.len() + self.namespace.len() > 0 && all(&self.vm, vm) && all(&self.namespace, namespace)
    }
}

/// The policy that KubeVirt would apply: most matching labels, then more labels of the VMI, then the first name.
pub fn matching<'a>(
    policies: impl IntoIterator<Item = &'a UserMigrationPolicy>,
    vm: &Labels,
    namespace: &Labels,
) -> Option<&'a UserMigrationPolicy> {
    let matching = policies.into_iter().filter(|policy| policy.matches(vm, namespace));
    matching.max_by_key(|policy| (policy.vm.len() + policy.namespace.len(), policy.vm.len(), Reverse(&policy.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn policy(name: &str, vm: &[(&str, &str)], namespace: &[(&str, &str)]) -> UserMigrationPolicy {
        UserMigrationPolicy { name: name.into(), vm: labels(vm), namespace: labels(namespace) }
    }

    #[test]
    fn the_most_labels_win_then_the_vms_own_then_the_name() {
        let vm = labels(&[("os", "linux"), ("tier", "db")]);
        let namespace = labels(&[("team", "a"), ("env", "prod")]);
        let applied =
            |policies: &[UserMigrationPolicy]| matching(policies, &vm, &namespace).map(|policy| policy.name.clone());
        let one = policy("one", &[("os", "linux")], &[]);
        let two = policy("two", &[], &[("team", "a"), ("env", "prod")]);
        let mixed = policy("mixed", &[("tier", "db")], &[("team", "a")]);
        assert_eq!(applied(&[one.clone(), two.clone()]).as_deref(), Some("two"));
        assert_eq!(applied(&[mixed.clone(), two]).as_deref(), Some("mixed"));
        let twin = UserMigrationPolicy { name: "a-twin".into(), ..mixed.clone() };
        assert_eq!(applied(&[mixed, twin]).as_deref(), Some("a-twin"));
        assert_eq!(applied(&[policy("none", &[], &[]), policy("other", &[("os", "bsd")], &[])]), None);
        assert_eq!(applied(&[policy("half", &[("os", "linux"), ("gone", "x")], &[]), one]).as_deref(), Some("one"));
    }
}
