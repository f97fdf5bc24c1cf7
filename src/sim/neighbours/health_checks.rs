//! Programs that repair nodes which have not been ready for long: medik8s' NodeHealthCheck, which has Self Node Remediation
//! reboot them, and MachineHealthCheck, which has them replaced.

use super::{Acts, Scene, annotated, definition, labelled, name, selects, text, unready_for};
use futures::{FutureExt as _, future::BoxFuture};
use kube::api::{Api, DeleteParams, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

const MEDIK8S: &str = "remediation.medik8s.io";
const OPENSHIFT: &str = "machine.openshift.io";

/// The seconds of a duration such as `300s`.
fn seconds(duration: &str) -> i64 {
    duration.trim_end_matches('s').parse().unwrap_or(i64::MAX)
}

/// NodeHealthChecks with `minHealthy` as a share. A node that answers again is left alone from then on.
#[derive(Debug, Default)]
pub struct NodeHealthChecks;

impl Acts for NodeHealthChecks {
    fn definitions(&self) -> Vec<Value> {
        vec![definition(MEDIK8S, "Cluster", "v1alpha1", "NodeHealthCheck")]
    }

    fn act<'a>(&'a mut self, scene: Scene<'a>) -> BoxFuture<'a, kube::Result<()>> {
        async move {
            for check in scene.objects(MEDIK8S, "nodehealthchecks") {
                let limit = seconds(text(&check, "/spec/unhealthyConditions/0/duration"));
                let percent: usize = text(&check, "/spec/minHealthy").trim_end_matches('%').parse().unwrap_or(100);
                let mut nodes = scene.nodes();
                nodes.retain(|node| selects(&check["spec"]["selector"], node));
                let is_sick = |node: &&Value| unready_for(node, scene.now).is_some_and(|unready| unready >= limit);
                let sick: Vec<&Value> = nodes.iter().filter(is_sick).collect();
                if (nodes.len() - sick.len()) * 100 < nodes.len() * percent {
                    continue;
                }
                for node in sick {
                    if labelled(node, "remediation.medik8s.io/exclude-from-remediation") == Some("true") {
                        continue;
                    }
                    let how = scene.how(name(node));
                    scene.machines.press_button(name(node), scene.now);
                    scene.deeds.push(format!("NodeHealthCheck rebooted the {how} node {}", name(node)));
                }
            }
            Ok(())
        }
        .boxed()
    }
}

/// OpenShift's MachineHealthChecks.
#[derive(Debug, Default)]
pub struct MachineHealthChecks;

impl Acts for MachineHealthChecks {
    fn definitions(&self) -> Vec<Value> {
        let kind = |kind| definition(OPENSHIFT, "Namespaced", "v1beta1", kind);
        vec![kind("MachineHealthCheck"), kind("Machine")]
    }

    fn act<'a>(&'a mut self, scene: Scene<'a>) -> BoxFuture<'a, kube::Result<()>> {
        async move {
            let (machines, nodes) = (scene.objects(OPENSHIFT, "machines"), scene.nodes());
            for check in scene.objects(OPENSHIFT, "machinehealthchecks") {
                if annotated(&check, "cluster.x-k8s.io/paused").is_some() {
                    continue;
                }
                let limit = seconds(text(&check, "/spec/unhealthyConditions/0/timeout"));
                for machine in machines.iter().filter(|machine| selects(&check["spec"]["selector"], machine)) {
                    let node = nodes.iter().find(|node| name(node) == text(machine, "/status/nodeRef/name"));
                    let Some(node) = node.filter(|node| unready_for(node, scene.now).is_some_and(|it| it >= limit))
                    else {
                        continue;
                    };
                    let how = scene.how(name(node));
                    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(OPENSHIFT, "v1beta1", "Machine"));
                    let client = scene.server.client("machine-api");
                    let all: Api<DynamicObject> =
                        Api::namespaced_with(client, text(machine, "/metadata/namespace"), &kind);
                    all.delete(name(machine), &DeleteParams::default()).await?;
                    scene.delete_node("machine-api", name(node)).await?;
                    scene.deeds.push(format!("MachineHealthCheck replaced the {how} node {}", name(node)));
                }
            }
            Ok(())
        }
        .boxed()
    }
}
