//! MachineHealthChecks and Machines.

use super::{Converted, Problems, objects, selector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use miyako_api::machine_health_check::{MachineStatus, UnhealthyCondition};
use miyako_core::model::{Labels, NodeName, Selector};

/// Whoever carries this annotation is not reconciled, so a check that does repairs nothing.
const PAUSED: &str = "cluster.x-k8s.io/paused";
/// A machine of Cluster API with this annotation is never replaced by a check.
const SKIP_REMEDIATION: &str = "cluster.x-k8s.io/skip-remediation";

/// A check that would replace the machine of a sleeping node.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineCheck {
    /// The machines that it watches, by their labels.
    pub machines: Selector,
    /// The cluster whose machines it watches; none where there is but one.
    pub cluster: Option<String>,
}

/// A machine that a check may replace.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Its labels.
    pub labels: Labels,
    /// The cluster that it belongs to, where there are several.
    pub cluster: Option<String>,
    /// Its node.
    pub node: NodeName,
}

fn has(metadata: &ObjectMeta, annotation: &str) -> bool {
    objects::annotation(metadata, annotation).is_some()
}

/// Converts a check; none if it is paused or does not mind whether a node is ready. The kubelet of a sleeping node is
/// silent, so its node's condition Ready is Unknown, or False for a while where it was shut down.
#[must_use]
pub fn check(
    metadata: &ObjectMeta,
    machines: &LabelSelector,
    cluster: Option<&str>,
    unhealthy: &[UnhealthyCondition],
) -> Converted<Option<MachineCheck>> {
    let mut problems = Problems::default();
    let minds = unhealthy.iter().any(|one| one.type_ == "Ready" && one.status != "True");
    if has(metadata, PAUSED) || !minds {
        return Converted::new(None, problems);
    }
    let machines = selector::labels(Some(machines), "spec.selector", &mut problems);
    Converted::new(Some(MachineCheck { machines, cluster: cluster.map(str::to_owned) }), problems)
}

/// Converts a machine; none if it is no node, or if no check may replace it.
#[must_use]
pub fn machine(metadata: &ObjectMeta, cluster: Option<&str>, status: Option<&MachineStatus>) -> Option<Machine> {
    let node = status.and_then(|status| status.node_ref.as_ref()).filter(|node| !node.name.is_empty())?;
    // OpenShift knows neither annotation on a machine.
    let left_alone = cluster.is_some() && (has(metadata, PAUSED) || has(metadata, SKIP_REMEDIATION));
    (!left_alone).then(|| Machine {
        labels: metadata.labels.clone().unwrap_or_default(),
        cluster: cluster.map(str::to_owned),
        node: NodeName::new(&node.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::seen::Watched;
    use crate::observe::watch::Lenient;
    use miyako_api::machine_health_check::{
        ClusterApiMachine, ClusterApiMachineHealthCheck, OldClusterApiMachineHealthCheck, OpenShiftMachine,
        OpenShiftMachineHealthCheck,
    };
    use proptest::prelude::*;
    use serde_json::{Value, from_value, json};

    fn checked(annotations: Value, conditions: Value) -> Option<MachineCheck> {
        let object: OpenShiftMachineHealthCheck = from_value(json!({
            "apiVersion": "machine.openshift.io/v1beta1", "kind": "MachineHealthCheck",
            "metadata": {"name": "workers", "namespace": "openshift-machine-api", "annotations": annotations},
            "spec": {"selector": {"matchLabels": {"role": "worker"}}, "unhealthyConditions": conditions},
        }))
        .expect("a MachineHealthCheck");
        check(&object.metadata, &object.spec.selector, None, &object.spec.unhealthy_conditions).value
    }

    #[test]
    fn only_a_check_that_acts_on_nodes_that_do_not_answer_matters() {
        let ready = |status: &str| json!([{"type": "Ready", "status": status, "timeout": "300s"}]);
        assert!(checked(json!({}), ready("Unknown")).is_some());
        assert!(checked(json!({}), ready("False")).is_some());
        assert_eq!(checked(json!({PAUSED: ""}), ready("Unknown")), None);
        assert_eq!(checked(json!({}), json!([{"type": "DiskPressure", "status": "True"}])), None);
        assert_eq!(checked(json!({}), json!([])), None);
    }

    #[test]
    fn both_versions_of_cluster_api_say_the_same() {
        let metadata = json!({"name": "workers", "namespace": "default"});
        let conditions = json!([{"type": "Ready", "status": "Unknown", "timeoutSeconds": 300}]);
        let new: ClusterApiMachineHealthCheck = from_value(json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "MachineHealthCheck", "metadata": metadata,
            "spec": {"clusterName": "a", "selector": {}, "checks": {"unhealthyNodeConditions": conditions}},
        }))
        .expect("a MachineHealthCheck");
        let old: OldClusterApiMachineHealthCheck = from_value(json!({
            "apiVersion": "cluster.x-k8s.io/v1beta1", "kind": "MachineHealthCheck", "metadata": metadata,
            "spec": {"clusterName": "a", "selector": {}, "unhealthyConditions": conditions},
        }))
        .expect("a MachineHealthCheck");
        let seen = |object: crate::observe::seen::Object| format!("{object:?}").replace("OldCluster", "Cluster");
        assert_eq!(seen(new.prune().value), seen(old.prune().value));
    }

    #[test]
    fn a_machine_that_no_check_may_replace_is_left_out() {
        let machine = |annotation: &str| -> Option<Machine> {
            let machine: ClusterApiMachine = from_value(json!({
                "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine",
                "metadata": {"name": "m", "namespace": "default", "annotations": {annotation: ""}},
                "spec": {"clusterName": "a"}, "status": {"nodeRef": {"name": "node-a"}},
            }))
            .expect("a Machine");
            super::machine(&machine.metadata, Some("a"), machine.status.as_ref())
        };
        assert_eq!(machine("a").map(|machine| machine.node), Some(NodeName::new("node-a")));
        assert_eq!([machine(PAUSED), machine(SKIP_REMEDIATION)], [None, None]);
        let unborn: OpenShiftMachine = from_value(json!({"metadata": {"name": "m"}, "spec": {}})).expect("a Machine");
        assert_eq!(super::machine(&unborn.metadata, None, unborn.status.as_ref()), None);
    }

    fn junk() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            Just(json!(-1)),
            Just(json!(1e300)),
            Just(json!(true)),
            Just(json!("Ready")),
            Just(json!("Unknown")),
            Just(json!("")),
            ".{0,12}".prop_map(Value::String),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            let key = prop_oneof![
                Just("matchLabels".to_owned()),
                Just("matchExpressions".to_owned()),
                Just("name".to_owned()),
                Just("type".to_owned()),
                Just("operator".to_owned()),
                Just("nodeRef".to_owned()),
                ".{0,6}",
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map(key, inner, 0..4).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    fn read<K: Watched>(object: &Value) {
        if let Ok(lenient) = serde_json::from_value::<Lenient<K>>(object.clone()) {
            let _ = K::seen(&lenient.metadata, lenient.object.as_ref().map_err(String::as_str));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_that_others_write_panics(
            selector in junk(), conditions in junk(), cluster in junk(), status in junk(), annotations in junk()
        ) {
            let metadata = |annotations: Value| json!({"name": "x", "namespace": "y", "annotations": annotations});
            for annotations in [annotations, json!({})] {
                let object = json!({
                    "metadata": metadata(annotations),
                    "spec": {
                        "selector": selector, "unhealthyConditions": conditions, "clusterName": cluster,
                        "checks": {"unhealthyNodeConditions": conditions},
                    },
                    "status": status,
                });
                read::<OpenShiftMachineHealthCheck>(&object);
                read::<ClusterApiMachineHealthCheck>(&object);
                read::<OldClusterApiMachineHealthCheck>(&object);
                read::<OpenShiftMachine>(&object);
                read::<ClusterApiMachine>(&object);
            }
        }
    }
}
