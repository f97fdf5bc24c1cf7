//! What there is to say about classes.

use super::{
    Advice, some,
    world::{GivenClass, Labelled, World},
};
use crate::lint::{Finding, Severity};
use miyako_api::control_plane;
use miyako_api::node_power_class::{SuspendMethod, WakeDriver, WakeProtocol};
use miyako_api::wake::{Template, check_pattern};
use std::collections::BTreeSet;

pub(super) fn advise(world: &World<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for class in &world.classes {
        let mut advice = Advice::on(class.object);
        unused(class, world, &mut advice);
        nodes(class, world, &mut advice);
        no_wake(class, &mut advice);
        wake(class, world, &mut advice);
        sleepers(class, &mut advice);
        switched_off(class, &mut advice);
        findings.append(&mut advice.findings);
    }
    findings
}

fn unused(class: &GivenClass<'_>, world: &World<'_>, advice: &mut Advice<'_>) {
    if !world.policies.is_empty() && world.ruled.ruling(&class.read.name).is_none() {
        let given = some(world.policies.iter().map(|policy| policy.read.name.as_str()));
        advice.warn(
            "metadata.name",
            "no given ConsolidationPolicy names this class, so its nodes are left alone",
            format!("add {} to spec.nodeClasses of one of {given}", class.read.name),
        );
    }
}

fn nodes(class: &GivenClass<'_>, world: &World<'_>, advice: &mut Advice<'_>) {
    if world.nodes.is_empty() {
        return;
    }
    let selected: Vec<_> = world.nodes_of(&class.read).collect();
    if selected.is_empty() {
        let given = some(world.nodes.iter().map(|node| node.name.as_str()));
        advice.warn(
            "spec.nodeSelector",
            "matches none of the given Nodes",
            format!("write labels that a Node has; given are {given}"),
        );
    }
    for other in &world.classes {
        let both: Vec<_> = selected
            .iter()
            .filter(|node| other.read.nodes.matches(&node.labels))
            .map(|node| node.name.as_str())
            .collect();
        if other.read.name != class.read.name && !both.is_empty() {
            advice.say(
                Severity::Error,
                "spec.nodeSelector",
                format!(
                    "selects {} that NodePowerClass {} selects too, so {} to neither: {}",
                    if both.len() == 1 { "a Node" } else { "Nodes" },
                    other.read.name,
                    if both.len() == 1 { "it belongs" } else { "they belong" },
                    some(both.iter().copied())
                ),
                "write a selector that only one class matches",
            );
        }
    }
    let role = |node: &Labelled| {
        let key =
            node.labels.iter().find(|(key, value)| control_plane::is_role(key, value)).map(|(key, _)| key.clone());
        Some((node.name.as_str().to_owned(), key?))
    };
    let found: Vec<_> = selected.iter().filter_map(|node| role(node)).collect();
    if let Some((_, key)) = found.first() {
        advice.warn(
            "spec.nodeSelector",
            format!(
                "selects control-plane nodes, which are never suspended: {}",
                some(found.iter().map(|(name, _)| name.as_str()))
            ),
            format!("add a matchExpression {{key: {key}, operator: DoesNotExist}}"),
        );
    }
}

/// A class without a way to wake its nodes: the operator never suspends one, and `maxNodesAsleep: 0` says that it is meant.
fn no_wake(class: &GivenClass<'_>, advice: &mut Advice<'_>) {
    let spec = &class.written.spec;
    if spec.wake.is_empty() && spec.suspend.max_nodes_asleep != Some(0) {
        advice.warn(
            "spec.wake",
            "no way to wake the nodes of this class, so none of them is ever suspended",
            "write spec.wake (docs/wake.md) and install the chart with waker.enabled and agent.power.enabled, or write spec.suspend.maxNodesAsleep: 0 if its nodes are to stay awake",
        );
    }
}

/// Wake addresses made of labels that a node does not have.
fn wake(class: &GivenClass<'_>, world: &World<'_>, advice: &mut Advice<'_>) {
    for (index, driver) in class.written.spec.wake.iter().enumerate() {
        addresses(index, driver, advice);
        for key in label_placeholders(&driver.address) {
            let own = |node: &Labelled| {
                driver.nodes.iter().any(|own| node.name.as_str() == own.name && own.address.is_some())
            };
            let lacks = |node: &&Labelled| !node.labels.contains_key(key) && !own(node);
            let lacking: Vec<_> = world.nodes_of(&class.read).filter(lacks).map(|node| node.name.as_str()).collect();
            if !lacking.is_empty() {
                advice.warn(
                    &format!("spec.wake[{index}].address"),
                    format!("these nodes have no label {key}, can't be woken so, and stay awake: {}", some(lacking)),
                    "label the nodes, or list their addresses under spec.wake[].nodes",
                );
            }
        }
    }
}

/// Addresses that the API server takes, because a rule in a schema can only look at their form, and no driver does.
fn addresses(index: usize, driver: &WakeDriver, advice: &mut Advice<'_>) {
    let own =
        driver.nodes.iter().enumerate().filter_map(|(at, node)| {
            Some((format!("spec.wake[{index}].nodes[{at}].address"), node.address.as_deref()?))
        });
    for (field, address) in std::iter::once((format!("spec.wake[{index}].address"), driver.address.as_str())).chain(own)
    {
        if let Err(error) = check_pattern(driver.driver, address) {
            advice.say(Severity::Error, &field, error.to_string(), "write an address that the driver can speak to");
            continue;
        }
        let steering =
            Template::parse(address).map(|template| template.steering_labels().join(", ")).unwrap_or_default();
        if driver.driver != WakeProtocol::Wol && !steering.is_empty() {
            advice.warn(
                &field,
                format!(
                    "the label {steering} alone decides which host is shown the BMC's account, and a node may label itself: it is \
                     refused unless the Secret, or the chart's waker.allowedHosts, lists the hosts"
                ),
                "annotate the Secret with miyako.dev/allowed-hosts, or let a domain follow, as in {label:KEY}.bmc.example.org",
            );
        }
    }
}

/// The keys of `{label:KEY}` in an address, each once.
fn label_placeholders(address: &str) -> BTreeSet<&str> {
    address.split("{label:").skip(1).filter_map(|rest| rest.split_once('}')).map(|(key, _)| key).collect()
}

/// No server's firmware is through with its tests any sooner.
const SOONEST_BOOT_SECONDS: u64 = 30;

/// Times of S3 for nodes that are switched off.
fn switched_off(class: &GivenClass<'_>, advice: &mut Advice<'_>) {
    let resume = class.written.spec.power.resume_time.as_ref().and_then(|time| time.get().ok());
    if class.written.spec.suspend.method != SuspendMethod::PowerOff {
        return;
    }
    if let Some(time) = resume.filter(|time| time.as_secs() < SOONEST_BOOT_SECONDS) {
        advice.warn(
            "spec.power.resumeTime",
            format!(
                "{} s is not believable for nodes that are switched off and boot (spec.suspend.method: PowerOff): they would be planned with as if they woke from S3",
                time.as_secs()
            ),
            "leave it out (4m), or write what a boot until the node is Ready takes, such as 3m",
        );
    }
}

fn sleepers(class: &GivenClass<'_>, advice: &mut Advice<'_>) {
    // Without a way to wake them it only says what is so already.
    if class.written.spec.suspend.max_nodes_asleep == Some(0) && !class.written.spec.wake.is_empty() {
        advice.warn(
            "spec.suspend.maxNodesAsleep",
            "0: no node of this class ever sleeps",
            "leave it out, or write how many may sleep at once",
        );
    }
}
