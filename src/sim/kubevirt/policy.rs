//! Which MigrationPolicy applies to a VM, and what comes of it.
//! Source: `pkg/virt-controller/watch/migration/migrationpolicy.go`.

use miyako_api::kubevirt::{KubeVirt, MigrationConfiguration, MigrationPolicy};
use std::collections::BTreeMap;

type Labels = BTreeMap<String, String>;

/// The policy that matches with the most labels; then with the most labels of the VMI; then the first by name.
/// Unless all labels of both selectors are there, a policy does not match.
pub(super) fn best_match<'a>(
    policies: impl Iterator<Item = &'a MigrationPolicy>,
    vmi: &Labels,
    namespace: &Labels,
) -> Option<&'a MigrationPolicy> {
    let holds = |wanted: &Labels, have: &Labels| wanted.iter().all(|(key, value)| have.get(key) == Some(value));
    policies
        .filter(|policy| {
            let selectors = &policy.spec.selectors;
            holds(&selectors.virtual_machine_instance_selector, vmi) && holds(&selectors.namespace_selector, namespace)
        })
        .max_by_key(|policy| {
            let selectors = &policy.spec.selectors;
            let of_vmi = selectors.virtual_machine_instance_selector.len();
            let all = of_vmi + selectors.namespace_selector.len();
            (all, of_vmi, std::cmp::Reverse(policy.metadata.name.clone()))
        })
}

/// The cluster's settings with KubeVirt's defaults filled in (seen live).
pub(super) fn cluster_configuration(kubevirt: Option<&KubeVirt>) -> MigrationConfiguration {
    let own = kubevirt.and_then(|kubevirt| kubevirt.spec.configuration.migrations.clone()).unwrap_or_default();
    MigrationConfiguration {
        parallel_migrations_per_cluster: own.parallel_migrations_per_cluster.or(Some(5)),
        parallel_outbound_migrations_per_node: own.parallel_outbound_migrations_per_node.or(Some(2)),
        completion_timeout_per_gib: own.completion_timeout_per_gib.or(Some(150)),
        progress_timeout: own.progress_timeout.or(Some(150)),
        max_downtime_ms: own.max_downtime_ms.or(Some(900)),
        allow_post_copy: own.allow_post_copy.or(Some(false)),
        allow_auto_converge: own.allow_auto_converge.or(Some(false)),
        allow_workload_disruption: own.allow_workload_disruption.or(own.allow_post_copy).or(Some(false)),
        ..own
    }
}

/// What a VM's migration is carried out with: the cluster's settings, overridden by the policy's.
pub(super) fn configuration(
    cluster: &MigrationConfiguration,
    policy: Option<&MigrationPolicy>,
) -> MigrationConfiguration {
    let Some(spec) = policy.map(|policy| &policy.spec) else { return cluster.clone() };
    let base = cluster.clone();
    MigrationConfiguration {
        allow_auto_converge: spec.allow_auto_converge.or(base.allow_auto_converge),
        bandwidth_per_migration: spec.bandwidth_per_migration.clone().or(base.bandwidth_per_migration),
        completion_timeout_per_gib: spec.completion_timeout_per_gib.or(base.completion_timeout_per_gib),
        allow_post_copy: spec.allow_post_copy.or(base.allow_post_copy),
        allow_workload_disruption: spec
            .allow_workload_disruption
            .or(spec.allow_post_copy)
            .or(base.allow_workload_disruption),
        max_downtime_ms: spec.max_downtime_ms.or(base.max_downtime_ms),
        ..base
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(name: &str, vmi: &[&str], namespace: &[&str]) -> MigrationPolicy {
        let labels = |names: &[&str]| names.iter().map(|name| ((*name).into(), "x".into())).collect();
        let mut policy = MigrationPolicy::new(name, miyako_api::kubevirt::MigrationPolicySpec::default());
        policy.spec.selectors.virtual_machine_instance_selector = labels(vmi);
        policy.spec.selectors.namespace_selector = labels(namespace);
        policy
    }

    fn chosen(policies: &[MigrationPolicy]) -> Option<&str> {
        let labels = |names: [&str; 2]| names.map(|name| (name.to_owned(), "x".to_owned())).into();
        let best = best_match(policies.iter(), &labels(["v1", "v2"]), &labels(["n1", "n2"]));
        best.and_then(|policy| policy.metadata.name.as_deref())
    }

    #[test]
    fn most_labels_win_then_those_of_the_vmi_then_the_name() {
        assert_eq!(chosen(&[policy("a", &["v1"], &[]), policy("b", &["v1", "v2"], &[])]), Some("b"));
        assert_eq!(chosen(&[policy("a", &["v1"], &["n1"]), policy("b", &["v1", "v2"], &[])]), Some("b"));
        assert_eq!(chosen(&[policy("b", &["v2"], &[]), policy("a", &["v1"], &[])]), Some("a"));
        assert_eq!(chosen(&[policy("a", &["v1", "other"], &["n1", "n2"]), policy("b", &[], &["n1"])]), Some("b"));
        assert_eq!(chosen(&[policy("a", &["other"], &[])]), None);
    }

    #[test]
    fn defaults_are_those_seen_live_and_a_policy_overrides_them() {
        let cluster = cluster_configuration(None);
        let seen = json!({
            "parallelMigrationsPerCluster": 5, "parallelOutboundMigrationsPerNode": 2, "progressTimeout": 150,
            "maxDowntimeMs": 900, "completionTimeoutPerGiB": 150,
        });
        for (key, value) in seen.as_object().unwrap() {
            assert_eq!(json!(cluster)[key], *value, "{key}");
        }
        let mut post_copy = policy("p", &[], &[]);
        post_copy.spec.allow_post_copy = Some(true);
        post_copy.spec.completion_timeout_per_gib = Some(1);
        let applied = configuration(&cluster, Some(&post_copy));
        assert_eq!((applied.allow_post_copy, applied.completion_timeout_per_gib), (Some(true), Some(1)));
        assert_eq!(applied.allow_workload_disruption, Some(true));
        assert_eq!(applied.progress_timeout, Some(150));
    }
}
