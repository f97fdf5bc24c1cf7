//! The machines beneath the nodes: each with an agent that is a process, and a kubelet that is silent while its machine
//! sleeps.

use super::verdict::Verdict;
use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams};
use miyako_agent::power::{Host as _, Mem, SimulatedHost};
use miyako_api::NodePower;
use miyako_e2e::child::{Child, Program};
use miyako_e2e::control_plane::access::TokenFor;
use miyako_e2e::control_plane::nodes;
use miyako_e2e::installation::{AGENT, Replica, agents};
use miyako_e2e::machine::serve;
use miyako_e2e::scene::Scene;
use miyako_e2e::wait::{Look, until};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often a machine is looked at whose sleep does not change.
const LOOK: Duration = Duration::from_millis(500);
/// A killed agent is started again after this time, as a kubelet does.
const RESTART: Duration = Duration::from_secs(2);

/// One machine, for those who act on it.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) node: String,
    pub(super) host: Arc<SimulatedHost>,
    agent: Arc<Mutex<Option<Arc<Child>>>>,
}

impl Machine {
    /// A machine that runs; nothing plays it yet.
    pub(super) fn new(node: &str) -> Self {
        Self { node: node.to_owned(), host: Arc::new(SimulatedHost::new()), agent: Arc::default() }
    }

    /// Whether it sleeps.
    pub(super) fn sleeps(&self) -> bool {
        *self.host.is_asleep().borrow()
    }

    /// Whether `mem` works.
    pub(super) fn obeys(&self, obeys: bool) {
        self.host.set_mem(if obeys { Mem::Sleeps } else { Mem::ReturnsAtOnce });
    }

    /// Kills its agent (SIGKILL), if one runs.
    pub(super) fn kill_agent(&self) -> std::io::Result<bool> {
        match self.agent() {
            Some(agent) => agent.kill().map(|()| true),
            None => Ok(false),
        }
    }

    fn agent(&self) -> Option<Arc<Child>> {
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        agent.filter(|agent| matches!(agent.ended(), Ok(None)))
    }
}

/// What every agent is told.
#[derive(Debug, Clone)]
pub(super) struct AgentFlags {
    targets: Vec<String>,
    ca_file: PathBuf,
}

impl AgentFlags {
    /// That these replicas are to be told.
    ///
    /// # Errors
    /// When the operator does not publish its certificate.
    pub(super) async fn of(scene: &Scene, replicas: &[Replica]) -> anyhow::Result<Self> {
        Ok(Self { targets: replicas.iter().map(Replica::wire).collect(), ca_file: agents::trusted(scene).await? })
    }
}

/// The file of a node's loads.
pub(super) fn loads_of(scene: &Scene, node: &str) -> PathBuf {
    scene.stand().folder().join(format!("{node}.loads"))
}

/// Plays a machine: answers its agent, freezes it and silences the kubelet while it sleeps, starts a dead agent again.
pub(super) async fn play(
    scene: Arc<Scene>,
    machine: Machine,
    flags: AgentFlags,
    verdict: Arc<Verdict>,
) -> anyhow::Result<impl Future<Output = ()> + Send + use<>> {
    let socket = scene.stand().folder().join(format!("{}.sock", machine.node));
    let answering = serve(&socket, Arc::clone(&machine.host))?;
    start_agent(&scene, &machine, &socket, &flags).await?;
    Ok(async move {
        let playing = follow(&scene, &machine, &socket, &flags, &verdict);
        tokio::select! {
            () = answering => {}
            () = playing => {}
        }
    })
}

async fn follow(scene: &Scene, machine: &Machine, socket: &Path, flags: &AgentFlags, verdict: &Verdict) {
    let mut asleep = machine.host.is_asleep();
    let (mut slept, mut boot, mut dead_since) = (false, boot_of(machine), None);
    let mut kubelet: Option<JoinHandle<()>> = None;
    let mut obeyed = BTreeSet::new();
    loop {
        let _ = tokio::time::timeout(LOOK, asleep.changed()).await;
        let sleeps = *asleep.borrow_and_update();
        if sleeps && !slept {
            freeze(machine);
            if let Some(kubelet) = kubelet.take() {
                kubelet.abort();
            }
            if let Err(error) = nodes::silence(&scene.admin(), &machine.node).await {
                verdict.trouble(format!("the kubelet of {} can't be silenced: {error:#}", machine.node));
            }
            if let Err(error) = judge_sleep(scene, &machine.node, &mut obeyed, verdict).await {
                verdict.trouble(format!("the sleep of {} can't be judged: {error:#}", machine.node));
            }
        }
        if boot != boot_of(machine) {
            // Nothing outlives a boot.
            boot = boot_of(machine);
            let _ = machine.kill_agent();
        }
        if slept && !sleeps {
            thaw(machine);
            let (client, node) = (scene.admin(), machine.node.clone());
            kubelet = Some(tokio::spawn(async move {
                if let Err(error) = nodes::wake(&client, &node).await {
                    tracing::error!(%error, node, "the kubelet does not come back");
                }
            }));
        }
        slept = sleeps;
        match machine.agent() {
            Some(_) => dead_since = None,
            None if sleeps => {}
            None => {
                let since = *dead_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= RESTART
                    && let Err(error) = start_agent(scene, machine, socket, flags).await
                {
                    tracing::warn!(%error, node = machine.node, "its agent does not start yet");
                }
            }
        }
    }
}

fn boot_of(machine: &Machine) -> Option<String> {
    machine.host.machine().ok().map(|machine| machine.boot_id)
}

fn freeze(machine: &Machine) {
    if let Some(agent) = machine.agent() {
        let _ = agent.pause();
    }
}

fn thaw(machine: &Machine) {
    if let Some(agent) = machine.agent() {
        let _ = agent.resume();
    }
}

/// Starts the agent with what the kubelet would give its pod.
async fn start_agent(scene: &Scene, machine: &Machine, socket: &Path, flags: &AgentFlags) -> anyhow::Result<()> {
    let node = &machine.node;
    let pods: Api<Pod> = Api::namespaced(scene.admin(), scene.namespace());
    let agents =
        ListParams::default().labels("app.kubernetes.io/component=agent").fields(&format!("spec.nodeName={node}"));
    let pod = until(&format!("an agent's pod is on {node}"), Duration::from_mins(1), || async {
        let there = pods.list(&agents).await?.items;
        Ok(Look::some(there.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none()), "none"))
    })
    .await?;
    let token = scene.stand().token(scene.namespace(), AGENT, TokenFor { audiences: &[], pod: Some(&pod) }).await?;
    let kubeconfig = scene.stand().kubeconfig_for_token(&format!("agent-{node}"), &token)?;
    let mut program = Program::new(format!("agent-{node}"), env!("CARGO_BIN_EXE_stand-agent"))
        .flag("node", node)
        .flag("machine", socket)
        .flag("kubeconfig", kubeconfig)
        .flag("load", loads_of(scene, node))
        .flag("ca-file", &flags.ca_file)
        .flag("seed", node.bytes().map(u64::from).sum::<u64>().to_string())
        .env("RUST_LOG", "info");
    for target in &flags.targets {
        program = program.flag("operator", target);
    }
    let child = scene.start(&program)?;
    *machine.agent.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    Ok(())
}

/// A machine has fallen asleep: by an order that it had never obeyed before, and with nothing on it that was there when
/// the order was given.
async fn judge_sleep(scene: &Scene, node: &str, obeyed: &mut BTreeSet<i64>, verdict: &Verdict) -> anyhow::Result<()> {
    let power = Api::<NodePower>::all(scene.admin()).get(node).await?;
    let agent = power.status.and_then(|status| status.agent).unwrap_or_default();
    let generation = agent.attempt.with_context(|| format!("{node} sleeps without an attempt: {agent:?}"))?;
    if agent.acknowledged_generation.is_none_or(|acknowledged| acknowledged < generation) {
        verdict.broken(format!("{node} sleeps by order {generation}, which it has not acknowledged"));
    }
    if !obeyed.insert(generation) {
        verdict.broken(format!("rule 8: {node} obeyed order {generation} twice"));
    }
    verdict.slept(node);
    // Whoever gave the order may have given another one meanwhile; then its time is not known any more.
    if power.spec.generation != generation {
        return Ok(());
    }
    let issued = power.spec.issued_at.0.as_second();
    let pods: Api<Pod> = Api::all(scene.admin());
    for pod in pods.list(&ListParams::default().fields(&format!("spec.nodeName={node}"))).await? {
        if super::witness::keeps_awake(&serde_json::to_value(&pod)?) && bound_at(&pod) < issued {
            verdict.broken(format!("rule 3: {node} fell asleep with {} on it", pod.name_any()));
        }
    }
    Ok(())
}

/// When a pod came to its node, in seconds since the Unix epoch.
fn bound_at(pod: &Pod) -> i64 {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let scheduled = conditions.and_then(|all| all.iter().find(|one| one.type_ == "PodScheduled"));
    let scheduled = scheduled.and_then(|one| one.last_transition_time.as_ref());
    let created = pod.metadata.creation_timestamp.as_ref();
    scheduled.or(created).map_or(i64::MAX, |at| at.0.as_second())
}
