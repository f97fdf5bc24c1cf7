//! NodeHealthChecks.

use super::{Converted, Problems, selector};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use miyako_api::node_health_check::NodeHealthCheck;
use miyako_core::model::{HealthCheck, RepairsWhile, Share};

/// medik8s' own default.
const MIN_HEALTHY: Share = Share::Percent(51);

/// Converts a NodeHealthCheck. A bound that can't be read counts as the default.
#[must_use]
pub fn convert(check: &NodeHealthCheck) -> Converted<HealthCheck> {
    let mut problems = Problems::default();
    let spec = &check.spec;
    let mut share = |given: &Option<IntOrString>, field: &str| {
        let read = read(given.as_ref()?);
        if read.is_none() {
            problems.note(field, "is neither a number of nodes nor a percentage such as 51%");
        }
        read
    };
    let healthy = share(&spec.min_healthy, "spec.minHealthy");
    let repairs = match share(&spec.max_unhealthy, "spec.maxUnhealthy") {
        Some(share) if healthy.is_none() => RepairsWhile::Unhealthy(share),
        _ => RepairsWhile::Healthy(healthy.unwrap_or(MIN_HEALTHY)),
    };
    let nodes = selector::labels(Some(&spec.selector), "spec.selector", &mut problems);
    Converted::new(HealthCheck { nodes, repairs }, problems)
}

fn read(share: &IntOrString) -> Option<Share> {
    match share {
        IntOrString::Int(count) => u32::try_from(*count).ok().map(Share::Count),
        IntOrString::String(text) => match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|percent| *percent <= 100).map(Share::Percent),
            None => text.parse().ok().map(Share::Count),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn converted(spec: Value) -> Converted<HealthCheck> {
        let object = json!({
            "apiVersion": "remediation.medik8s.io/v1alpha1", "kind": "NodeHealthCheck",
            "metadata": {"name": "workers"}, "spec": spec,
        });
        convert(&from_value(object).expect("a NodeHealthCheck"))
    }

    #[test]
    fn bounds_are_numbers_or_shares_and_the_default_is_medik8s_own() {
        let repairs = |spec| converted(spec).value.repairs;
        assert_eq!(repairs(json!({})), RepairsWhile::Healthy(Share::Percent(51)));
        assert_eq!(repairs(json!({"minHealthy": "75%"})), RepairsWhile::Healthy(Share::Percent(75)));
        assert_eq!(repairs(json!({"minHealthy": 3})), RepairsWhile::Healthy(Share::Count(3)));
        assert_eq!(repairs(json!({"maxUnhealthy": "2"})), RepairsWhile::Unhealthy(Share::Count(2)));
        let odd = converted(json!({"maxUnhealthy": "many", "minHealthy": "101%"}));
        assert_eq!(odd.value.repairs, RepairsWhile::Healthy(Share::Percent(51)));
        assert_eq!(odd.problems.len(), 2);
    }

    #[test]
    fn an_empty_selector_watches_every_node() {
        assert!(converted(json!({"selector": {}})).value.nodes.matches(&Default::default()));
    }
}
