//! Agents for all nodes, in this process: the load generator with a real token for each node, following the VMs as
//! they move.

use super::{AGENT, Replica};
use crate::control_plane::access::TokenFor;
use crate::scene::Scene;
use crate::wait::{Look, until};
use anyhow::Context as _;
use futures::FutureExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Node as KubeNode, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use miyako_agent::generator::{Carry, Generator, Node, Scenario, Step, Vm};
use miyako_agent::stream::{Fleet, Replicas, TlsDialer, WallClock};
use miyako_api::kubevirt::VirtualMachineInstance;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What every VM uses until somebody says otherwise, in cores.
const QUIET: f64 = 0.05;
/// How often the generator is told where the VMs are.
const FOLLOW: Duration = Duration::from_millis(250);
/// Guest memory that a VM is said to use.
const MEMORY: u64 = 1 << 30;

/// The agents of all nodes. They speak until the scenario ends.
#[derive(Debug, Clone)]
pub struct Agents {
    loads: Arc<Mutex<BTreeMap<String, f64>>>,
}

impl Agents {
    /// Waits until each of the nodes has an agent's pod and the operator has published its certificate, then speaks
    /// for all nodes to all replicas.
    ///
    /// # Errors
    /// When the pods, the certificate or a token can't be had.
    pub async fn play(scene: &Scene, nodes: &[&str], replicas: &[&Replica]) -> anyhow::Result<Self> {
        let ca_file = trusted(scene).await?;
        let mut speakers = Vec::new();
        for node in nodes {
            speakers.push(Node {
                name: (*node).to_owned(),
                token_file: token(scene, node).await?,
                cores: cores(scene, node).await?,
                system_cores: 0.1,
                system_memory_bytes: MEMORY,
                faults: Vec::new(),
            });
        }
        let targets: Vec<String> = replicas.iter().map(|replica| replica.wire()).collect();
        let carry: Carry = Box::new(move |node, newest, clock, seed| {
            let dialer = TlsDialer { ca_file: ca_file.clone(), token_file: node.token_file.clone() };
            Fleet::new(dialer, newest, clock, seed).follow(Replicas { targets: targets.clone() }).boxed()
        });
        let clock: WallClock = Arc::new(|| Timestamp::now().as_millisecond());
        let agents = Self { loads: Arc::default() };
        scene.play(follow(Generator::new(carry, clock, 1), speakers, scene.admin(), Arc::clone(&agents.loads)));
        Ok(agents)
    }

    /// From now on the VM of this name uses so many cores.
    pub fn set(&self, vm: &str, cores: f64) {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).insert(vm.to_owned(), cores);
    }
}

/// Tells the generator what it has to say, whenever that changes.
async fn follow(mut generator: Generator, nodes: Vec<Node>, client: Client, loads: Arc<Mutex<BTreeMap<String, f64>>>) {
    let vmis: Api<VirtualMachineInstance> = Api::all(client);
    let mut said = None;
    loop {
        // While the API server is away the VMs stay where they were, as far as their agents know.
        if let Ok(vmis) = vmis.list(&ListParams::default()).await {
            let loads = loads.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let vms = vmis.items.iter().filter_map(|vmi| vm(vmi, &nodes, &loads)).collect();
            let scenario = Scenario { nodes: nodes.clone(), vms };
            if said.as_ref() != Some(&scenario) {
                generator.set_scenario(scenario.clone());
                said = Some(scenario);
            }
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

fn vm(vmi: &VirtualMachineInstance, nodes: &[Node], loads: &BTreeMap<String, f64>) -> Option<Vm> {
    let node = vmi.status.as_ref()?.node_name.clone()?;
    let name = vmi.name_any();
    nodes.iter().any(|known| known.name == node).then(|| Vm {
        namespace: vmi.namespace().unwrap_or_default(),
        uid: vmi.uid().unwrap_or_default(),
        node,
        memory_bytes: MEMORY,
        cpu: vec![Step { at: 0.0, cores: loads.get(&name).copied().unwrap_or(QUIET) }],
        name,
    })
}

/// The operator's certificate authority, in a file.
///
/// # Errors
/// When the operator does not publish it in time.
pub async fn trusted(scene: &Scene) -> anyhow::Result<PathBuf> {
    let maps: Api<ConfigMap> = Api::namespaced(scene.admin(), scene.namespace());
    let pem = until("the operator publishes its certificate", Duration::from_mins(1), || async {
        let data = maps.get("miyako-wire-ca").await?.data.unwrap_or_default();
        Ok(Look::some(data.get("ca.crt").filter(|pem| !pem.is_empty()).cloned(), "the ConfigMap is empty"))
    })
    .await?;
    write(&scene.stand().folder().join(format!("{}-ca.crt", scene.namespace())), &pem)
}

/// A token of the agent's pod on a node, in a file: what the kubelet would project into the pod.
///
/// # Errors
/// When no agent's pod runs there in time.
pub async fn token(scene: &Scene, node: &str) -> anyhow::Result<PathBuf> {
    let pods: Api<Pod> = Api::namespaced(scene.admin(), scene.namespace());
    let agents = ListParams::default()
        .labels("app.kubernetes.io/component=agent")
        .fields(&format!("spec.nodeName={node},status.phase=Running"));
    let pod = until(&format!("an agent's pod runs on {node}"), Duration::from_mins(1), || async {
        Ok(Look::some(pods.list(&agents).await?.items.into_iter().next(), "none"))
    })
    .await?;
    let how = TokenFor { audiences: &["miyako.dev"], pod: Some(&pod) };
    let token = scene.stand().token(scene.namespace(), AGENT, how).await?;
    write(&scene.stand().folder().join(format!("{}-{node}.token", scene.namespace())), &token)
}

async fn cores(scene: &Scene, node: &str) -> anyhow::Result<f64> {
    let node = Api::<KubeNode>::all(scene.admin()).get(node).await?;
    let allocatable = node.status.and_then(|status| status.allocatable).unwrap_or_default();
    Ok(allocatable.get("cpu").context("a node without CPUs")?.0.parse()?)
}

fn write(path: &Path, text: &str) -> anyhow::Result<PathBuf> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path.to_owned())
}
