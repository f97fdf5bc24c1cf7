//! MigrationPolicies: users' own, matched to VMs as KubeVirt does, and our two, which must say what we mean and nothing
//! else (`docs/design/0001-kubevirt-facts.md`, "MigrationPolicy").

use super::objects;
use kube::api::ObjectMeta;
use miyako_api::{
    kubevirt::{MigrationPolicy, MigrationPolicySpec, Selectors},
    names::ours,
};
use miyako_core::model::{Labels, MigrationMode};
use std::{cmp::Reverse, collections::BTreeMap};

/// The earliest switch to post-copy that KubeVirt has, in seconds per GiB; 0 would disable it
/// (`docs/design/0001-kubevirt-facts.md`, "Post-copy").
const EARLIEST_SWITCH: i64 = 1;

/// The value of the mode label.
#[must_use]
pub fn mode_label(mode: MigrationMode) -> &'static str {
    match mode {
        MigrationMode::PostCopy => ours::POST_COPY,
        MigrationMode::PreCopy => ours::PRE_COPY,
    }
}

/// Our MigrationPolicy of a mode, as it must be.
#[must_use]
pub fn wanted(mode: MigrationMode) -> MigrationPolicy {
    let (name, post_copy) = match mode {
        MigrationMode::PostCopy => (ours::POST_COPY_POLICY, true),
        MigrationMode::PreCopy => (ours::PRE_COPY_POLICY, false),
    };
    let selector = BTreeMap::from([(ours::MIGRATION_MODE.into(), mode_label(mode).into())]);
    MigrationPolicy {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(BTreeMap::from([(ours::MANAGED_BY.into(), ours::MIYAKO.into())])),
            ..ObjectMeta::default()
        },
        spec: MigrationPolicySpec {
            selectors: Selectors { virtual_machine_instance_selector: selector, ..Selectors::default() },
            allow_post_copy: Some(post_copy),
            completion_timeout_per_gib: post_copy.then_some(EARLIEST_SWITCH),
            ..MigrationPolicySpec::default()
        },
    }
}

/// Whether a policy of ours says what it must, and nothing else. Labels and annotations of others do no harm.
#[must_use]
pub fn is_as_wanted(found: &MigrationPolicy, mode: MigrationMode) -> bool {
    let labels = found.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(ours::MANAGED_BY)).is_some_and(|by| by == ours::MIYAKO)
        && found.spec == wanted(mode).spec
}

/// A MigrationPolicy as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservedPolicy {
    /// A user's own.
    Users(UserMigrationPolicy),
    /// Ours for this mode.
    Ours {
        /// The mode.
        mode: MigrationMode,
        /// Somebody changed it.
        drifted: bool,
    },
}

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

/// Converts a MigrationPolicy. Ours are told by their names: a hand that changes one may take its labels as well.
#[must_use]
pub fn convert(policy: &MigrationPolicy) -> ObservedPolicy {
    let name = objects::name(&policy.metadata);
    let ours = match name.as_str() {
        ours::POST_COPY_POLICY => Some(MigrationMode::PostCopy),
        ours::PRE_COPY_POLICY => Some(MigrationMode::PreCopy),
        _ => None,
    };
    if let Some(mode) = ours {
        return ObservedPolicy::Ours { mode, drifted: !is_as_wanted(policy, mode) };
    }
    let selectors = &policy.spec.selectors;
    ObservedPolicy::Users(UserMigrationPolicy {
        name: name.to_string(),
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

/// Those that match as well as the one that KubeVirt would apply: it comes first by its name alone.
pub fn equals<'a>(
    best: &UserMigrationPolicy,
    policies: impl IntoIterator<Item = &'a UserMigrationPolicy>,
    vm: &Labels,
    namespace: &Labels,
) -> Vec<&'a UserMigrationPolicy> {
    let weight = |policy: &UserMigrationPolicy| (policy.vm.len() + policy.namespace.len(), policy.vm.len());
    let alike = |policy: &&UserMigrationPolicy| {
        policy.name != best.name && weight(policy) == weight(best) && policy.matches(vm, namespace)
    };
    policies.into_iter().filter(alike).collect()
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
    fn a_hand_that_changed_ours_is_seen_and_a_copy_of_it_is_its_owners() {
        let seen = |change: fn(&mut serde_json::Value)| {
            let mut object = serde_json::to_value(wanted(MigrationMode::PreCopy)).unwrap();
            change(&mut object);
            convert(&serde_json::from_value(object).unwrap())
        };
        let ours = |drifted| ObservedPolicy::Ours { mode: MigrationMode::PreCopy, drifted };
        assert_eq!(seen(|_| {}), ours(false));
        let annotated = |it: &mut serde_json::Value| it["metadata"]["annotations"] = serde_json::json!({"a": "b"});
        assert_eq!(seen(annotated), ours(false), "that does no harm");
        let hands: [fn(&mut serde_json::Value); 6] = [
            |it| it["spec"]["allowPostCopy"] = true.into(),
            |it| it["spec"]["selectors"]["virtualMachineInstanceSelector"]["tier"] = "db".into(),
            |it| it["spec"]["selectors"]["namespaceSelector"] = serde_json::json!({"team": "a"}),
            |it| it["spec"]["bandwidthPerMigration"] = "1Mi".into(),
            |it| it["spec"]["somethingNew"] = 1.into(),
            |it| it["metadata"]["labels"] = serde_json::json!({}),
        ];
        for hand in hands {
            assert_eq!(seen(hand), ours(true));
        }
        assert!(matches!(seen(|it| it["metadata"]["name"] = "a-copy".into()), ObservedPolicy::Users(_)));
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
        let all = [mixed.clone(), one.clone(), twin.clone()];
        let alike: Vec<_> = equals(&twin, &all, &vm, &namespace).into_iter().map(|policy| &*policy.name).collect();
        assert_eq!(alike, ["mixed"]);
        assert_eq!(equals(&one, &all, &vm, &namespace), Vec::<&UserMigrationPolicy>::new());
        assert_eq!(applied(&[mixed, twin]).as_deref(), Some("a-twin"));
        assert_eq!(applied(&[policy("none", &[], &[]), policy("other", &[("os", "bsd")], &[])]), None);
        assert_eq!(applied(&[policy("half", &[("os", "linux"), ("gone", "x")], &[]), one]).as_deref(), Some("one"));
    }
}
