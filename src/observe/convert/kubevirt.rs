//! The KubeVirt CR and the DaemonSets of virt-handler.

use super::{Converted, Problems};
use k8s_openapi::api::apps::v1::DaemonSet;
use miyako_api::{kubevirt::KubeVirt as KubeVirtObject, names::kubevirt};
use miyako_core::model::{KubeVirt, KubeVirtProblem};

/// Converts the KubeVirt CR.
#[must_use]
pub fn convert(object: &KubeVirtObject) -> Converted<KubeVirt> {
    let mut problems = Problems::default();
    let status = object.status.clone().unwrap_or_default();
    let migrations = object.spec.configuration.migrations.clone().unwrap_or_default();
    let mut limit = |given: Option<u32>, default: u32, field: &str| match given {
        Some(0) => {
            problems.note(format!("spec.configuration.migrations.{field}"), "0 lets nothing migrate; taken as it is");
            0
        }
        given => given.unwrap_or(default),
    };
    let parallel_per_cluster = limit(
        migrations.parallel_migrations_per_cluster,
        kubevirt::PARALLEL_MIGRATIONS_PER_CLUSTER,
        "parallelMigrationsPerCluster",
    );
    let outbound_per_node = limit(
        migrations.parallel_outbound_migrations_per_node,
        kubevirt::PARALLEL_OUTBOUND_MIGRATIONS_PER_NODE,
        "parallelOutboundMigrationsPerNode",
    );
    let observed = status.observed_kube_virt_version.as_deref().filter(|version| !version.is_empty());
    let target = status.target_kube_virt_version.as_deref().filter(|version| !version.is_empty());
    let phase = status.phase.as_deref().unwrap_or("Unknown");
    let upgrading = observed.is_some() && target.is_some() && observed != target;
    let updating = status.conditions.iter().any(|condition| {
        let busy = condition.kind == "Progressing" && condition.is_true();
        busy && condition.reason.as_deref().is_none_or(|reason| reason != "AllComponentsReady")
    });
    let problem = match observed {
        Some(version) if is_too_old(version) => Some(KubeVirtProblem::TooOld { found: version.to_owned() }),
        // While an upgrade runs the phase may say Deploying, and migrations still work: that is `rolling_out`.
        _ if phase == "Deployed" || (upgrading && phase == "Deploying") => None,
        _ => Some(KubeVirtProblem::NotDeployed { phase: phase.to_owned() }),
    };
    let developer = object.spec.configuration.developer_configuration.clone().unwrap_or_default();
    let converted = KubeVirt {
        problem,
        parallel_per_cluster,
        outbound_per_node,
        rolling_out: upgrading || updating,
        node_selectors: developer.node_selectors,
        cpu_allocation_ratio: developer.cpu_allocation_ratio.unwrap_or(10).max(1),
    };
    Converted::new(converted, problems)
}

/// Older than the first version with `addedNodeSelector`. What is no version at all (a development build) is not
/// called old: the CRD refuses the field if it doesn't know it.
fn is_too_old(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split(['.', '-', '+']).map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < kubevirt::MIN_VERSION,
        _ => false,
    }
}

/// How far a virt-handler DaemonSet is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rollout {
    /// Nodes that are to run it.
    pub desired: u32,
    /// Nodes with the newest pod.
    pub updated: u32,
    /// Its controller has not looked at the newest template yet.
    pub unseen: bool,
}

/// How far a virt-handler DaemonSet is; none if this is another DaemonSet.
#[must_use]
pub fn handler_rollout(daemon_set: &DaemonSet) -> Option<Rollout> {
    let template = daemon_set.spec.as_ref()?.template.metadata.as_ref()?;
    let app = template.labels.as_ref()?.get(kubevirt::APP)?;
    if app != kubevirt::HANDLER {
        return None;
    }
    let unseen = daemon_set.metadata.generation;
    let Some(status) = &daemon_set.status else { return Some(Rollout { unseen: true, ..Rollout::default() }) };
    let count = |number: i32| u32::try_from(number).unwrap_or_default();
    Some(Rollout {
        desired: count(status.desired_number_scheduled),
        updated: count(status.updated_number_scheduled.unwrap_or(0)),
        unseen: status.observed_generation.zip(unseen).is_some_and(|(observed, generation)| observed < generation),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn kubevirt(spec: Value, status: Value) -> KubeVirt {
        convert(&from_value(json!({"metadata": {"name": "kubevirt"}, "spec": spec, "status": status})).unwrap()).value
    }

    #[test]
    fn limits_are_kubevirts_own_where_the_cr_is_silent() {
        let deployed =
            json!({"phase": "Deployed", "observedKubeVirtVersion": "v1.9.0", "targetKubeVirtVersion": "v1.9.0"});
        assert_eq!(kubevirt(json!({}), deployed.clone()), KubeVirt::default());
        let spec = json!({"configuration": {"migrations": {"parallelMigrationsPerCluster": 12}}});
        let set = kubevirt(spec, deployed);
        assert_eq!((set.parallel_per_cluster, set.outbound_per_node), (12, 2));
    }

    #[test]
    fn versions_before_added_node_selector_are_too_old() {
        let problem = |version: &str| {
            kubevirt(json!({}), json!({"phase": "Deployed", "observedKubeVirtVersion": version})).problem
        };
        assert_eq!(problem("v1.5.3"), Some(KubeVirtProblem::TooOld { found: "v1.5.3".into() }));
        assert_eq!(problem("v0.59.0"), Some(KubeVirtProblem::TooOld { found: "v0.59.0".into() }));
        assert_eq!(
            [problem("v1.6.0"), problem("1.10.0-rc.1"), problem("v2.0.0"), problem("devel")],
            [const { None }; 4]
        );
        assert_eq!(
            kubevirt(json!({}), json!({"phase": "Deploying"})).problem,
            Some(KubeVirtProblem::NotDeployed { phase: "Deploying".into() })
        );
    }

    #[test]
    fn an_upgrade_is_a_rollout() {
        let status =
            json!({"phase": "Deploying", "observedKubeVirtVersion": "v1.8.0", "targetKubeVirtVersion": "v1.9.0"});
        let upgrading = kubevirt(json!({}), status);
        assert!(upgrading.rolling_out && upgrading.problem.is_none());
    }

    #[test]
    fn virt_handler_tells_how_far_it_is() {
        let daemon_set = |app: &str, updated: i32, observed: i64| -> DaemonSet {
            from_value(json!({"metadata": {"name": "virt-handler", "generation": 2},
                "spec": {"selector": {}, "template": {"metadata": {"labels": {"kubevirt.io": app}}}},
                "status": {"desiredNumberScheduled": 3, "updatedNumberScheduled": updated, "observedGeneration": observed,
                    "currentNumberScheduled": 3, "numberMisscheduled": 0, "numberReady": 3}}))
            .unwrap()
        };
        let rollout = |updated, unseen| Some(Rollout { desired: 3, updated, unseen });
        assert_eq!(handler_rollout(&daemon_set("virt-handler", 3, 2)), rollout(3, false));
        assert_eq!(handler_rollout(&daemon_set("virt-handler", 2, 2)), rollout(2, false));
        assert_eq!(handler_rollout(&daemon_set("virt-handler", 3, 1)), rollout(3, true));
        assert_eq!(handler_rollout(&daemon_set("other", 0, 1)), None);
    }
}
