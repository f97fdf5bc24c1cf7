//! Namespaces and ResourceQuotas.

use super::{Converted, Problems, objects, quantity};
use k8s_openapi::{
    api::core::v1::{Namespace as KubeNamespace, ResourceQuota},
    apimachinery::pkg::api::resource::Quantity,
};
use miyako_api::names::kubernetes;
use miyako_core::model::{Namespace, Quota};
use std::collections::BTreeMap;

/// Annotations by which a namespace's pods get a node selector at admission: the API server's PodNodeSelector, and
/// OpenShift's projects. Written as `key=value,key=value`.
const NODE_SELECTORS: [&str; 2] = ["scheduler.alpha.kubernetes.io/node-selector", "openshift.io/node-selector"];

/// A namespace's labels, and what admission makes its pods ask of nodes. Its quotas are joined later.
#[must_use]
pub fn convert(namespace: &KubeNamespace) -> Namespace {
    let name = objects::name(&namespace.metadata);
    let mut labels = namespace.metadata.labels.clone().unwrap_or_default();
    // The API server sets it on every namespace.
    labels.entry(kubernetes::NAMESPACE_NAME.into()).or_insert_with(|| name.to_string());
    let annotations = NODE_SELECTORS.iter().filter_map(|key| objects::annotation(&namespace.metadata, key));
    let pairs = annotations.flat_map(|text| text.split(',')).filter_map(|pair| pair.split_once('='));
    let pairs = pairs.map(|(key, value)| (key.trim().to_owned(), value.trim_matches(['=', ' ']).to_owned()));
    Namespace { labels, node_selector: pairs.collect(), quotas: Vec::new() }
}

/// A quota, or none if its scopes exempt launcher pods.
#[must_use]
pub fn quota(quota: &ResourceQuota) -> Converted<Option<Quota>> {
    let mut problems = Problems::default();
    let spec = quota.spec.as_ref();
    let status = quota.status.as_ref();
    // Launchers run until their VM stops and ask for CPU and memory, so these two scopes never count them. All other
    // scopes (priority classes) are taken to count them: then we rather stay below too much than too little.
    let exempt = spec
        .and_then(|spec| spec.scopes.as_ref())
        .is_some_and(|scopes| scopes.iter().any(|scope| scope == "BestEffort" || scope == "Terminating"));
    if exempt {
        return Converted::new(None, problems);
    }
    let hard = status.and_then(|status| status.hard.as_ref()).or_else(|| spec.and_then(|spec| spec.hard.as_ref()));
    let converted = Quota {
        name: objects::name(&quota.metadata).to_string(),
        hard: amounts(hard, "status.hard", &mut problems),
        used: amounts(status.and_then(|status| status.used.as_ref()), "status.used", &mut problems),
    };
    Converted::new(Some(converted), problems)
}

fn amounts(list: Option<&BTreeMap<String, Quantity>>, field: &str, problems: &mut Problems) -> BTreeMap<String, u128> {
    let list = list.into_iter().flatten();
    list.map(|(name, quantity)| {
        (name.clone(), problems.or_default(&format!("{field}.{name}"), quantity::thousandths(&quantity.0)))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn a_quota_counts_in_thousandths_and_exempts_by_scope() {
        let object = |scopes: &[&str]| {
            let object = json!({"metadata": {"name": "q"}, "spec": {"scopes": scopes},
                "status": {"hard": {"requests.cpu": "1500m", "pods": "4"}, "used": {"requests.cpu": "1"}}});
            quota(&from_value(object).unwrap()).value
        };
        let counted = object(&["NotTerminating"]).unwrap();
        assert_eq!(counted.hard["requests.cpu"], 1500);
        assert_eq!((counted.hard["pods"], counted.used["requests.cpu"]), (4000, 1000));
        assert_eq!(object(&["BestEffort"]), None);
    }

    #[test]
    fn what_admission_adds_to_pods_stands_in_annotations() {
        let object = json!({"metadata": {"name": "shop", "annotations": {
            "scheduler.alpha.kubernetes.io/node-selector": "tier=web, disk = ssd", "openshift.io/node-selector": ""}}});
        let namespace = convert(&from_value(object).unwrap());
        let pairs: Vec<_> = namespace.node_selector.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("disk", "ssd"), ("tier", "web")]);
        assert_eq!(namespace.labels["kubernetes.io/metadata.name"], "shop");
    }

    #[test]
    fn an_unreadable_limit_lets_nothing_in() {
        let object = json!({"metadata": {"name": "q"}, "status": {"hard": {"pods": "many"}}});
        let converted = quota(&from_value(object).unwrap());
        assert_eq!(converted.value.unwrap().hard["pods"], 0);
        assert_eq!(converted.problems[0].field, "status.hard.pods");
    }
}
