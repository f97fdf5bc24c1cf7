//! What decides where a pod may run, and which of it we do not understand.

use super::{Problems, requests, selector};
use k8s_openapi::{
    api::core::v1::{self as core, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use miyako_core::model::{
    Name, NodeSelector, PodAffinityTerm, Scheduling, SpreadConstraint, TaintEffect, Toleration, TolerationOperator,
    Unsupported,
};
use std::collections::BTreeMap;

/// The constraints of a pod, and those of them that the model has no word for.
///
/// A constraint without a word is left out of the value: for a VM's launcher the caller leaves the whole VM alone,
/// for any other pod it only makes a prediction about *that* pod coarser.
pub fn of(
    spec: &PodSpec,
    status: Option<&PodStatus>,
    namespace: &str,
    problems: &mut Problems,
) -> (Scheduling, Vec<Unsupported>) {
    let mut unknown = Unknown::default();
    let node = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let pods = spec.affinity.as_ref().and_then(|affinity| affinity.pod_affinity.as_ref());
    let anti = spec.affinity.as_ref().and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let mut terms = |list: Option<&Vec<core::PodAffinityTerm>>, kind: &str, problems: &mut Problems| {
        let field = format!("spec.affinity.{kind}.{required}");
        let list = list.into_iter().flatten().enumerate();
        list.map(|(index, term)| affinity(term, namespace, &format!("{field}[{index}]"), &mut unknown, problems))
            .collect::<Vec<_>>()
    };
    let affinity = terms(
        pods.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
        "podAffinity",
        problems,
    );
    let anti_affinity = terms(
        anti.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
        "podAntiAffinity",
        problems,
    );
    let node_affinity = node
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())
        .map(|required_nodes| {
            selector::nodes(required_nodes, &format!("spec.affinity.nodeAffinity.{required}"), problems)
        });
    let scheduling = Scheduling {
        requests: requests::of(spec, status, problems),
        limits: requests::limits(spec, problems),
        node_selector: spec.node_selector.clone().unwrap_or_default(),
        node_affinity,
        tolerations: spec.tolerations.iter().flatten().map(|one| toleration(one, &mut unknown)).collect(),
        affinity,
        anti_affinity,
        spread: spread(spec, &mut unknown, problems),
        host_ports: host_ports(spec),
        // What volumes ask for stands in other objects.
        volume_topology: Vec::<NodeSelector>::new(),
        csi_volumes: BTreeMap::new(),
        same_cpu: None,
    };
    if spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        unknown.field("spec.schedulingGates");
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        unknown.field("spec.resourceClaims");
    }
    if spec.scheduler_name.as_deref().is_some_and(|name| !matches!(name, "" | "default-scheduler")) {
        unknown.field("spec.schedulerName");
    }
    (scheduling, unknown.0)
}

/// Constraints that the model has no word for.
#[derive(Default)]
struct Unknown(Vec<Unsupported>);

impl Unknown {
    fn field(&mut self, field: impl Into<String>) {
        self.0.push(Unsupported { field: field.into() });
    }
}

fn affinity(
    term: &core::PodAffinityTerm,
    namespace: &str,
    field: &str,
    unknown: &mut Unknown,
    problems: &mut Problems,
) -> PodAffinityTerm {
    let any = |keys: &Option<Vec<String>>| keys.as_ref().is_some_and(|keys| !keys.is_empty());
    if any(&term.match_label_keys) {
        unknown.field(format!("{field}.matchLabelKeys"));
    }
    if any(&term.mismatch_label_keys) {
        unknown.field(format!("{field}.mismatchLabelKeys"));
    }
    let mut namespaces: Vec<_> = term.namespaces.iter().flatten().map(|name| Name::from(name.as_str())).collect();
    let all_namespaces = term.namespace_selector.is_some();
    if term.namespace_selector.as_ref().is_some_and(|selector| *selector != LabelSelector::default()) {
        // Read as "all namespaces": an anti-affinity then forbids rather too much than too little.
        unknown.field(format!("{field}.namespaceSelector"));
    }
    if namespaces.is_empty() && !all_namespaces {
        namespaces.push(Name::from(namespace));
    }
    PodAffinityTerm {
        selector: selector::labels(term.label_selector.as_ref(), &format!("{field}.labelSelector"), problems),
        namespaces,
        all_namespaces,
        topology_key: term.topology_key.clone(),
    }
}

fn spread(spec: &PodSpec, unknown: &mut Unknown, problems: &mut Problems) -> Vec<SpreadConstraint> {
    let mut constraints = Vec::new();
    for (index, constraint) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        if constraint.when_unsatisfiable != "DoNotSchedule" {
            continue;
        }
        let field = format!("spec.topologySpreadConstraints[{index}]");
        if constraint.match_label_keys.as_ref().is_some_and(|keys| !keys.is_empty()) {
            unknown.field(format!("{field}.matchLabelKeys"));
        }
        if constraint.node_affinity_policy.as_deref().is_some_and(|policy| policy != "Honor") {
            unknown.field(format!("{field}.nodeAffinityPolicy"));
        }
        if constraint.node_taints_policy.as_deref().is_some_and(|policy| policy != "Ignore") {
            unknown.field(format!("{field}.nodeTaintsPolicy"));
        }
        let max_skew = u32::try_from(constraint.max_skew).unwrap_or_else(|_| {
            problems.note(format!("{field}.maxSkew"), "must be 1 or more");
            0
        });
        constraints.push(SpreadConstraint {
            max_skew: max_skew.max(1),
            topology_key: constraint.topology_key.clone(),
            selector: selector::labels(constraint.label_selector.as_ref(), &format!("{field}.labelSelector"), problems),
            min_domains: constraint.min_domains.and_then(|least| u32::try_from(least).ok()),
        });
    }
    constraints
}

fn toleration(toleration: &core::Toleration, unknown: &mut Unknown) -> Toleration {
    let operator = match toleration.operator.as_deref() {
        Some("Exists") => TolerationOperator::Exists,
        None | Some("" | "Equal") => TolerationOperator::Equal,
        // Kubernetes 1.35 compares numbers too (Gt, Lt); read as a value that no taint has.
        Some(_) => {
            unknown.field("spec.tolerations");
            return Toleration {
                key: toleration.key.clone(),
                operator: TolerationOperator::Equal,
                value: "\0".into(),
                effect: toleration.effect.as_deref().and_then(effect),
            };
        }
    };
    Toleration {
        key: toleration.key.clone().filter(|key| !key.is_empty()),
        operator,
        value: toleration.value.clone().unwrap_or_default(),
        effect: toleration.effect.as_deref().and_then(effect),
    }
}

/// A taint's effect by name.
#[must_use]
pub fn effect(name: &str) -> Option<TaintEffect> {
    match name {
        "NoSchedule" => Some(TaintEffect::NoSchedule),
        "PreferNoSchedule" => Some(TaintEffect::PreferNoSchedule),
        "NoExecute" => Some(TaintEffect::NoExecute),
        _ => None,
    }
}

fn host_ports(spec: &PodSpec) -> Vec<(String, u16)> {
    let host_network = spec.host_network == Some(true);
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let mut taken: Vec<_> = ports
        .filter_map(|port| {
            let number = port.host_port.or(host_network.then_some(port.container_port))?;
            let number = u16::try_from(number).ok().filter(|&number| number > 0)?;
            Some((port.protocol.clone().unwrap_or_else(|| "TCP".into()), number))
        })
        .collect();
    taken.sort();
    taken.dedup();
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn convert(spec: Value) -> (Scheduling, Option<Unsupported>) {
        let mut problems = Problems::default();
        let mut spec = spec;
        spec["containers"] = json!([]);
        let (scheduling, unknown) = of(&from_value(spec).unwrap(), None, "shop", &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        (scheduling, unknown.into_iter().next())
    }

    fn spread(extra: &Value) -> Value {
        let mut constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "db"}}});
        constraint.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"topologySpreadConstraints": [constraint]})
    }

    #[test]
    fn fields_without_a_word_in_the_model_are_named() {
        let term = |extra: Value| {
            let mut term = json!({"topologyKey": "zone", "labelSelector": {}});
            term.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
        };
        let cases = [
            (spread(&json!({"matchLabelKeys": ["rev"]})), "spec.topologySpreadConstraints[0].matchLabelKeys"),
            (spread(&json!({"nodeTaintsPolicy": "Honor"})), "spec.topologySpreadConstraints[0].nodeTaintsPolicy"),
            (spread(&json!({"nodeAffinityPolicy": "Ignore"})), "spec.topologySpreadConstraints[0].nodeAffinityPolicy"),
            (json!({"schedulingGates": [{"name": "wait"}]}), "spec.schedulingGates"),
            (json!({"resourceClaims": [{"name": "gpu"}]}), "spec.resourceClaims"),
            (json!({"schedulerName": "other"}), "spec.schedulerName"),
            (
                term(json!({"matchLabelKeys": ["rev"]})),
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys",
            ),
            (
                term(json!({"namespaceSelector": {"matchLabels": {"team": "a"}}})),
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespaceSelector",
            ),
            (json!({"tolerations": [{"key": "a", "operator": "Gt", "value": "5"}]}), "spec.tolerations"),
        ];
        for (spec, field) in cases {
            assert_eq!(convert(spec).1, Some(Unsupported { field: field.into() }));
        }
    }

    #[test]
    fn what_the_scheduler_takes_for_granted_is_supported() {
        let spec = spread(&json!({"nodeTaintsPolicy": "Ignore", "nodeAffinityPolicy": "Honor", "minDomains": 2}));
        let (scheduling, unsupported) = convert(spec);
        assert_eq!(unsupported, None);
        assert_eq!(scheduling.spread[0].min_domains, Some(2));
        let spec = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {}},
            {"topologyKey": "zone", "labelSelector": {}, "namespaceSelector": {}}]}}});
        let (scheduling, unsupported) = convert(spec);
        assert_eq!(unsupported, None);
        assert_eq!(scheduling.affinity[0].namespaces, [Name::from("shop")]);
        assert!(scheduling.affinity[1].all_namespaces && scheduling.affinity[1].namespaces.is_empty());
    }
}
