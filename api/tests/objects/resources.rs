//! Our own resources as Rust values and as the API server stores them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use miyako_api::{
    ConsolidationPolicy, NodePowerClass,
    consolidation_policy::{ConsolidationPolicySpec, HoldReason, Mode},
    crds,
    node_power_class::Power,
};
use serde_json::{Value, json};

fn spec_schema(kind: &str) -> JSONSchemaProps {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind).expect("the kind");
    let schema = crd.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.clone());
    schema.and_then(|schema| schema.properties).and_then(|properties| properties.get("spec").cloned()).expect("a spec")
}

/// What the API server fills in.
fn defaulted(mut value: Value, schema: &JSONSchemaProps) -> Value {
    if let Some(fields) = value.as_object_mut() {
        for (name, property) in schema.properties.iter().flatten() {
            let default = property.default.as_ref().map(|default| default.0.clone());
            if let Some(found) = fields.get(name).cloned().or(default) {
                fields.insert(name.clone(), defaulted(found, property));
            }
        }
    }
    value
}

/// The operator writes nothing into a policy, and a GitOps tool compares what it applied with what is stored: both need
/// the same defaults in the schema and in the code.
#[test]
fn the_schema_and_the_code_fill_in_the_same_defaults() {
    let schema = spec_schema("ConsolidationPolicy");
    let smallest = json!({"nodeClasses": ["shared"]});
    let stored: ConsolidationPolicySpec =
        serde_json::from_value(defaulted(smallest.clone(), &schema)).expect("it reads");
    let read: ConsolidationPolicySpec = serde_json::from_value(smallest).expect("it reads");
    let built = ConsolidationPolicySpec::over(["shared"]);
    assert_eq!((&stored, &read), (&built, &built));
    assert_eq!((built.mode, built.min_awake, built.hold_when.clone()), (Mode::Recommend, 1, HoldReason::all()));
    // What the code writes is what would be stored: an apply of it changes nothing.
    let written = serde_json::to_value(&built).expect("it writes");
    assert_eq!(written, defaulted(written.clone(), &schema));
}

/// Sub-objects of which only a part is written get the rest.
#[test]
fn partly_written_fields_get_the_rest() {
    let policy = json!({"nodeClasses": ["shared"], "budgets": {"movesPerVMPerDay": 5}, "keepAwake": {"failures": 1}, "migration": {}});
    let policy = defaulted(policy, &spec_schema("ConsolidationPolicy"));
    assert_eq!(
        policy["budgets"],
        json!({"movesPerVMPerDay": 5, "concurrentPerSharedNode": 1, "reservedMigrations": 2})
    );
    assert_eq!(policy["keepAwake"], json!({"failures": 1, "per": "topology.kubernetes.io/zone"}));
    assert_eq!(policy["migration"], json!({"mode": "Auto"}));
    let class = json!({"role": "Shared", "nodeSelector": {"matchLabels": {"a": "b"}}, "power": {"idleWatts": 60}});
    let class = defaulted(class, &spec_schema("NodePowerClass"));
    let power: Power = serde_json::from_value(class["power"].clone()).expect("it reads");
    assert_eq!(power, Power { idle_watts: 60, ..Power::default() });
}

#[test]
fn quantities_of_a_class_come_with_and_without_quotes() {
    let class: NodePowerClass = serde_json::from_value(json!({
        "apiVersion": "miyako.dev/v1alpha1", "kind": "NodePowerClass", "metadata": {"name": "c"},
        "spec": {"role": "Shared", "nodeSelector": {}, "capacity": {"cpu": 12, "memory": "96Gi"}},
    }))
    .expect("it reads");
    let text =
        |quantity: Option<k8s_openapi::apimachinery::pkg::api::resource::Quantity>| quantity.map(|quantity| quantity.0);
    let capacity = class.spec.capacity;
    assert_eq!((text(capacity.cpu), text(capacity.memory)), (Some("12".to_owned()), Some("96Gi".to_owned())));
}

#[test]
fn fields_of_a_newer_version_do_not_keep_a_policy_from_being_read() {
    let policy: Result<ConsolidationPolicy, _> = serde_json::from_value(json!({
        "apiVersion": "miyako.dev/v1alpha1", "kind": "ConsolidationPolicy", "metadata": {"name": "p"},
        "spec": {"nodeClasses": ["a"], "candidateRule": "Cheapest"}, "status": {"mood": "good"},
    }));
    assert!(policy.is_ok());
}
