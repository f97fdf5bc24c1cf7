//! NodePowerClasses.

use super::{Converted, Problems, quantity, selector};
use k8s_openapi::apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector};
use miyako_api::duration::Duration;
use miyako_api::node_power_class::{self as api, NodePowerClassSpec};
use miyako_api::wake;
use miyako_core::model::{
    Capacity, ClassName, ClassSleep, Meter, NodeClass, NodeName, Pace, PowerFigures, Role, SleepMethod, Span,
    WakeAddress, WakeTests, WakeWay,
};
use std::collections::BTreeSet;

/// Converts a NodePowerClass. Whatever contradicts itself makes the class `invalid`.
#[must_use]
pub fn convert(name: &str, spec: &NodePowerClassSpec) -> Converted<NodeClass> {
    let mut problems = Problems::default();
    if spec.node_selector == LabelSelector::default() {
        problems.note(
            "spec.nodeSelector",
            "is empty and would select every node, the control plane too; write matchLabels",
        );
    }
    let method = method(spec.suspend.method);
    let usual = Pace::of(method);
    let class = NodeClass {
        name: ClassName::new(name),
        nodes: selector::labels(Some(&spec.node_selector), "spec.nodeSelector", &mut problems),
        role: match spec.role {
            api::Role::Shared => Role::Shared,
            api::Role::Dedicated => Role::Dedicated,
        },
        capacity: Capacity {
            cpu: amount(spec.capacity.cpu.as_ref(), quantity::cpu, "spec.capacity.cpu", &mut problems),
            memory: amount(spec.capacity.memory.as_ref(), quantity::bytes, "spec.capacity.memory", &mut problems),
        },
        max_vms: spec.max_vms,
        sleeping_daemon_sets: spec.suspend.ignore_daemon_sets.iter().cloned().collect(),
        sleeping_static_pods: spec.suspend.ignore_static_pods.iter().cloned().collect(),
        passing_taints: spec.suspend.ignore_taints.iter().cloned().collect(),
        power: PowerFigures {
            idle: spec.power.idle_watts,
            full: spec.power.full_watts,
            asleep: spec.power.asleep_watts,
        },
        meter: meter(&spec.power.meter),
        sleep: ClassSleep {
            method,
            pace: Pace {
                suspend: transition(
                    spec.power.suspend_time.as_ref(),
                    usual.suspend,
                    "spec.power.suspendTime",
                    &mut problems,
                ),
                resume: transition(
                    spec.power.resume_time.as_ref(),
                    usual.resume,
                    "spec.power.resumeTime",
                    &mut problems,
                ),
            },
            max_nodes_asleep: spec.suspend.max_nodes_asleep,
            max_asleep: span(
                &spec.suspend.max_asleep,
                ClassSleep::default().max_asleep,
                "spec.suspend.maxAsleep",
                &mut problems,
            ),
            can_be_woken: !spec.wake.is_empty(),
            ways: spec.wake.iter().map(wake_way).collect(),
            wake_tests: WakeTests {
                every: span(&spec.wake_test.every, WakeTests::default().every, "spec.wakeTest.every", &mut problems),
                by_policy: spec.wake_test.start == api::WakeTestStart::Policy,
            },
            ready_conditions: spec.ready_when.conditions.iter().cloned().collect(),
            ready_daemon_sets: spec.ready_when.daemon_sets.iter().cloned().collect(),
        },
        invalid: None,
    };
    let mut converted = Converted::new(class, problems);
    let said: Vec<_> = converted.problems.iter().map(ToString::to_string).collect();
    converted.value.invalid = (!said.is_empty()).then(|| said.join("; "));
    converted
}

/// What a way to wake nodes takes from each of them.
fn wake_way(driver: &api::WakeDriver) -> WakeWay {
    let own = driver.nodes.iter().filter_map(|own| Some((NodeName::new(&own.name), own.address.as_deref()?)));
    WakeWay {
        driver: wake::protocol_name(driver.driver).to_owned(),
        address: wake_address(driver.driver, &driver.address),
        own: own.map(|(node, address)| (node, wake_address(driver.driver, address))).collect(),
    }
}

fn wake_address(protocol: api::WakeProtocol, text: &str) -> WakeAddress {
    let template = match wake::Template::parse(text) {
        Ok(template) => template,
        Err(error) => return WakeAddress { wrong: Some(error.to_string()), ..WakeAddress::default() },
    };
    let labels: BTreeSet<String> = template.labels().map(str::to_owned).collect();
    let is_mac = protocol == api::WakeProtocol::Wol && !labels.is_empty();
    let wrong = wake::check_pattern(protocol, text).err().map(|error| error.to_string());
    WakeAddress { labels, is_mac, wrong }
}

/// What measures. Of several, which the schema refuses, the first of these counts.
fn meter(meter: &api::Meter) -> Meter {
    match (&meter.rapl, meter.driver(), &meter.prometheus) {
        (Some(rapl), _, _) => Meter::Rapl { besides: rapl.besides_watts },
        (None, Some(_), _) => Meter::Bmc,
        (None, None, Some(asked)) => {
            Meter::Prometheus { query: asked.query.clone(), node_label: asked.node_label.clone() }
        }
        (None, None, None) => Meter::Modelled,
    }
}

/// What is left of a class whose object can't be read at all: it selects nothing and says why.
#[must_use]
pub fn unreadable(name: &str, error: &str) -> NodeClass {
    NodeClass {
        name: ClassName::new(name),
        nodes: selector::nothing(),
        role: Role::Shared,
        capacity: Capacity::default(),
        max_vms: Some(0),
        sleeping_daemon_sets: Default::default(),
        sleeping_static_pods: Default::default(),
        passing_taints: Default::default(),
        power: PowerFigures::default(),
        meter: Meter::Modelled,
        sleep: ClassSleep::default(),
        invalid: Some(format!("the object can't be read: {error}")),
    }
}

/// How a node sleeps.
pub(super) fn method(method: api::SuspendMethod) -> SleepMethod {
    match method {
        api::SuspendMethod::S3 => SleepMethod::S3,
        api::SuspendMethod::PowerOff => SleepMethod::PowerOff,
    }
}

/// From order to outcome.
fn transition(text: Option<&Duration>, usual: Span, field: &str, problems: &mut Problems) -> Span {
    text.map_or(usual, |text| span(text, usual, field, problems))
}

/// A span of time; what is written in its place if it is none keeps the class from doing harm until it is corrected.
fn span(text: &Duration, instead: Span, field: &str, problems: &mut Problems) -> Span {
    text.get().unwrap_or_else(|error| {
        problems.note(field, error.to_string());
        instead
    })
}

fn amount<T: Default, E: std::fmt::Display>(
    quantity: Option<&Quantity>,
    read: fn(&str) -> Result<T, E>,
    field: &str,
    problems: &mut Problems,
) -> Option<T> {
    quantity.map(|quantity| problems.or_default(field, read(&quantity.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_core::model::{Bytes, Labels, MilliCpu};
    use serde_json::{Value, from_value, json};

    fn class(spec: Value) -> NodeClass {
        convert("c", &from_value(spec).unwrap()).value
    }

    #[test]
    fn a_class_selects_by_labels_and_caps_its_nodes() {
        let class = class(json!({"nodeSelector": {"matchLabels": {"role": "shared"}}, "role": "Shared",
            "capacity": {"cpu": "11500m", "memory": "96Gi"}, "suspend": {"ignoreDaemonSets": ["a/b"]}}));
        assert_eq!(class.invalid, None);
        assert!(class.nodes.matches(&Labels::from([("role".into(), "shared".into())])));
        assert_eq!(class.capacity, Capacity { cpu: Some(MilliCpu(11500)), memory: Some(Bytes::gib(96)) });
        assert!(class.sleeping_daemon_sets.contains("a/b"));
    }

    #[test]
    fn nodes_that_are_switched_off_take_minutes_unless_the_class_says_otherwise() {
        let spec = |suspend: &str, power: Value| {
            let selector = json!({"matchLabels": {"role": "shared"}});
            class(json!({
                "nodeSelector": selector, "role": "Shared", "suspend": {"method": suspend}, "power": power
            }))
        };
        assert_eq!(spec("S3", json!({})).sleep.pace, Pace::default());
        let off = spec("PowerOff", json!({"suspendTime": "20s"})).sleep;
        assert_eq!(off.method, SleepMethod::PowerOff);
        assert_eq!((off.pace.suspend.as_secs(), off.pace.resume.as_secs()), (20, 240));
    }

    #[test]
    fn an_address_that_leads_nowhere_is_the_matter_of_the_nodes_that_it_is_for() {
        let secret = json!({"name": "bmc", "namespace": "miyako"});
        let class = class(json!({
            "nodeSelector": {"matchLabels": {"role": "shared"}}, "role": "Shared",
            "wake": [
                {"driver": "redfish", "address": "https://{label:bmc}", "secretRef": secret, "nodes": [
                    {"name": "listed", "address": "https://10.0.0.7"}, {"name": "pinned", "certificateSha256": "ab"},
                ]},
                {"driver": "wol", "address": "{label:mac}", "nodes": [{"name": "wrong", "address": "eth0"}]},
            ],
        }));
        assert_eq!(class.invalid, None);
        let said = |name: &str, labels: &[(&str, &str)]| {
            let mut node = miyako_core::model::Node::new(name, Default::default());
            node.labels.extend(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
            class.sleep.ways.iter().filter_map(|way| way.problem(&node)).collect::<Vec<_>>()
        };
        let both = [("bmc", "10.0.0.8"), ("mac", "52-54-00-12-34-56")];
        assert_eq!(said("n", &both), [""; 0]);
        assert_eq!(said("listed", &both[1..]), [""; 0]);
        assert_eq!(said("n", &both[1..]), ["redfish: the node has no label bmc, which its address needs"]);
        assert_eq!(said("pinned", &both[1..]).len(), 1, "its certificate is its own, its address is not");
        assert!(said("wrong", &both)[0].starts_with("wol: ") && said("wrong", &both)[0].contains("is no MAC address"));
    }

    #[test]
    fn nonsense_makes_it_invalid() {
        let bad = class(json!({"nodeSelector": {}, "role": "Shared"}));
        assert!(bad.invalid.is_some_and(|message| message.contains("spec.nodeSelector")));
        let bad =
            class(json!({"nodeSelector": {"matchLabels": {"a": "b"}}, "role": "Shared", "capacity": {"cpu": "-1"}}));
        assert!(bad.invalid.is_some_and(|message| message.contains("spec.capacity.cpu")));
    }
}
