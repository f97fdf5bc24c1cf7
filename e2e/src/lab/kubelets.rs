//! The nodes' kubelets, as far as launcher pods go: kwok says that a pod runs, and here it really does.

use super::machines::Machines;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use miyako_api::names::kubevirt::{APP, CREATED_BY, DOMAIN_NAME, LAUNCHER, MIGRATION_JOB_UID};
use miyako_lab::node::LauncherSpec;
use std::collections::BTreeSet;
use std::pin::pin;
use tokio::task::JoinSet;

/// Starts launchers when their pods run and ends them when their pods do, until it is dropped.
pub async fn run(client: Client, namespace: String, machines: Machines) {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let mut events = pin!(watcher(pods, watcher::Config::default().labels(&format!("{APP}={LAUNCHER}"))));
    let mut started = BTreeSet::new();
    let mut listed = BTreeSet::new();
    let mut work = JoinSet::new();
    while let Some(event) = events.next().await {
        // What is done is done; what failed has been said.
        while work.try_join_next().is_some() {}
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.insert(pod.name_any());
                tend(&pod, &machines, &mut started, &mut work);
            }
            Ok(Event::InitDone) => {
                for gone in started.difference(&listed).cloned().collect::<Vec<String>>() {
                    end(gone, &machines, &mut started, &mut work);
                }
            }
            Ok(Event::Apply(pod)) => tend(&pod, &machines, &mut started, &mut work),
            Ok(Event::Delete(pod)) => end(pod.name_any(), &machines, &mut started, &mut work),
            // It watches again by itself.
            Err(error) => tracing::debug!(%error, "the lab's kubelets can't see the pods"),
        }
    }
}

fn tend(pod: &Pod, machines: &Machines, started: &mut BTreeSet<String>, work: &mut JoinSet<()>) {
    let name = pod.name_any();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match phase {
        Some("Running") if pod.metadata.deletion_timestamp.is_none() => {
            let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else { return };
            if !started.insert(name.clone()) {
                return;
            }
            let label = |key: &str| pod.labels().get(key).cloned().unwrap_or_default();
            let spec = LauncherSpec {
                namespace: pod.namespace().unwrap_or_default(),
                name: label(DOMAIN_NAME),
                vmi_uid: label(CREATED_BY),
                pod: name.clone(),
                pod_uid: pod.uid().unwrap_or_default(),
            };
            let target = pod.labels().contains_key(MIGRATION_JOB_UID);
            let machines = machines.clone();
            work.spawn(async move {
                if let Err(error) = machines.start(&node, spec, target).await {
                    tracing::error!("the launcher {name} on {node}: {error:#}");
                }
                tell_agents(&machines);
            });
        }
        Some("Succeeded" | "Failed") => end(name, machines, started, work),
        _ if pod.metadata.deletion_timestamp.is_some() => end(name, machines, started, work),
        _ => {}
    }
}

fn end(name: String, machines: &Machines, started: &mut BTreeSet<String>, work: &mut JoinSet<()>) {
    if !started.remove(&name) {
        return;
    }
    let machines = machines.clone();
    work.spawn(async move {
        if let Err(error) = machines.end(&name).await {
            tracing::error!("the launcher {name} does not end: {error:#}");
        }
        tell_agents(&machines);
    });
}

fn tell_agents(machines: &Machines) {
    if let Err(error) = machines.tell_agents() {
        tracing::error!("the agents were not told of the pods: {error:#}");
    }
}
