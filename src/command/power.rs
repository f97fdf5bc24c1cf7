//! `miyako wake`, `miyako suspend` and `miyako wake-test`: what people ask of single nodes.
//!
//! A request is an annotation on the node's NodePower. The operator takes it up, checks what must be checked (rule 3
//! holds for people too), and takes the annotation away with an answer. Nobody but the operator gives orders. Where none
//! runs, a waker carries out a request to wake by itself, so that waking needs nothing but the API server and a waker.

use super::cluster::{self, ClusterArgs, ClusterError};
use super::output::{self, Output};
use crate::clock::{Clock as _, SystemClock};
use crate::pages;
use clap::Args;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams};
use miyako_api::answer::{is_absent, is_unknown_kind};
use miyako_api::names::{manager, ours};
use miyako_api::node_power::{NodePower, PowerPhase, WakeOutcome};
use miyako_core::model::{Ask, Timestamp};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;
use std::{fmt, io};

/// Between looks at what became of a request.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Flags of `miyako wake`.
#[derive(Debug, Clone, Args)]
pub struct WakeArgs {
    /// The nodes to wake.
    #[arg(required_unless_present = "all", value_name = "NODE")]
    pub nodes: Vec<String>,
    /// Every node that is not awake.
    #[arg(long, conflicts_with = "nodes")]
    pub all: bool,
    /// What the commands about nodes have in common.
    #[command(flatten)]
    pub asking: AskingArgs,
}

/// Flags of `miyako suspend` and `miyako wake-test`.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// The nodes.
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
    /// What the commands about nodes have in common.
    #[command(flatten)]
    pub asking: AskingArgs,
}

/// What the commands about nodes have in common.
#[derive(Debug, Clone, Args)]
pub struct AskingArgs {
    /// How long to wait until it is done; 0s only asks.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = wait)]
    pub wait: Duration,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How to print what was done.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

fn wait(text: &str) -> Result<Duration, String> {
    if matches!(text, "0" | "0s") {
        return Ok(Duration::ZERO);
    }
    miyako_api::duration::Duration::from(text).get().map_err(|error| error.to_string())
}

/// Why nothing was asked, or nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// No way to the cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// There is no such NodePower.
    #[error(
        "there is no NodePower {node}: either there is no such node, or no NodePowerClass that a policy rules selects it and names a way to wake it (spec.wake)"
    )]
    Missing {
        /// Which node.
        node: String,
    },
    /// The API server refused or did not answer.
    #[error("cannot {doing} NodePower {node} (the ClusterRole miyako-power allows it)")]
    Api {
        /// What was tried.
        doing: &'static str,
        /// Which node.
        node: String,
        /// The answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// Some were not done.
    #[error("{}", .0.join("; "))]
    NotDone(Vec<String>),
    /// The answer could not be printed.
    #[error("cannot print what was done")]
    Print(#[from] io::Error),
}

/// What became of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Which node.
    pub node: String,
    /// What was asked.
    pub command: &'static str,
    /// It is done, or was so before.
    pub done: bool,
    /// Where the node is now.
    pub phase: String,
    /// What the operator says.
    pub message: String,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AskedAll(Vec<Asked>);

impl fmt::Display for AskedAll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, "Every node is awake.");
        }
        for (index, asked) in self.0.iter().enumerate() {
            let line = if index == 0 { "" } else { "\n" };
            write!(f, "{line}{}: {} ({})", asked.node, asked.phase, asked.message)?;
        }
        Ok(())
    }
}

/// `miyako wake`.
///
/// # Errors
/// See [`PowerError`].
pub async fn run_wake(args: &WakeArgs, out: &mut dyn io::Write) -> Result<(), PowerError> {
    let client = args.asking.cluster.client_for_ours().await?;
    let nodes = if args.all { not_awake(&client).await? } else { args.nodes.clone() };
    carry_out(&client, Ask::Wake, &nodes, &args.asking, out).await
}

/// `miyako suspend` and `miyako wake-test`.
///
/// # Errors
/// See [`PowerError`].
pub async fn run_node(ask: Ask, args: &NodeArgs, out: &mut dyn io::Write) -> Result<(), PowerError> {
    let client = args.asking.cluster.client_for_ours().await?;
    carry_out(&client, ask, &args.nodes, &args.asking, out).await
}

async fn carry_out(
    client: &Client,
    ask: Ask,
    nodes: &[String],
    args: &AskingArgs,
    out: &mut dyn io::Write,
) -> Result<(), PowerError> {
    let who = match cluster::caller(client).await {
        Ok(user) if !user.is_empty() => user,
        _ => std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned()),
    };
    let when = SystemClock.now();
    for node in nodes {
        request(client, node, ask, &format!("{who} {when}")).await?;
    }
    let mut asked = Vec::new();
    let deadline = SystemClock.now() + args.wait;
    for node in nodes {
        asked.push(follow(client, node, ask, deadline).await?);
    }
    let waited = !args.wait.is_zero();
    let undone: Vec<_> = asked.iter().filter(|asked| waited && !asked.done).cloned().collect();
    output::print(&AskedAll(asked), args.output, out)?;
    if undone.is_empty() {
        return Ok(());
    }
    Err(PowerError::NotDone(undone.iter().map(|one| format!("{}: {}", one.node, one.message)).collect()))
}

/// The nodes that are somewhere in the power sequence.
///
/// # Errors
/// See [`PowerError`].
pub async fn not_awake(client: &Client) -> Result<Vec<String>, PowerError> {
    let api: Api<NodePower> = Api::all(client.clone());
    let keep = |sleepers: &mut Vec<String>, power: NodePower| {
        if phase(&power) != PowerPhase::Awake {
            sleepers.extend(power.metadata.name);
        }
    };
    match pages::fold(&api, &ListParams::default(), Vec::new, keep).await {
        // Without the kind no node was ever suspended.
        Err(error) if is_unknown_kind(&error) => Ok(Vec::new()),
        sleepers => sleepers.map_err(|source| failed("list", "", source)),
    }
}

fn phase(power: &NodePower) -> PowerPhase {
    power.status.as_ref().and_then(|status| status.phase).unwrap_or(PowerPhase::Awake)
}

/// Writes a request on a NodePower. A newer one takes the place of an older one.
///
/// # Errors
/// See [`PowerError`].
pub async fn request(client: &Client, node: &str, ask: Ask, by: &str) -> Result<(), PowerError> {
    let api: Api<NodePower> = Api::all(client.clone());
    let params = PatchParams { field_manager: Some(manager::CLI.into()), ..PatchParams::default() };
    let text = format!("{} {by}", ask.word());
    let patch = json!({ "metadata": { "annotations": { ours::REQUEST: text, ours::ANSWER: null } } });
    api.patch(node, &params, &Patch::Merge(&patch)).await.map(drop).map_err(|source| failed("annotate", node, source))
}

/// Waits until a request is answered.
async fn follow(client: &Client, node: &str, ask: Ask, deadline: Timestamp) -> Result<Asked, PowerError> {
    let api: Api<NodePower> = Api::all(client.clone());
    loop {
        let power = api.get(node).await.map_err(|source| failed("read", node, source))?;
        let annotation = |key: &str| power.metadata.annotations.as_ref().and_then(|all| all.get(key)).cloned();
        let phase = phase(&power);
        let answer = annotation(ours::REQUEST).is_none().then(|| annotation(ours::ANSWER).unwrap_or_default());
        let late = SystemClock.now() >= deadline;
        let by_waker = without_operator(&power, annotation(ours::REQUEST).as_deref());
        if answer.is_none()
            && let Some((done, message)) = by_waker.filter(|(done, _)| *done || late)
        {
            let (node, phase) = (node.to_owned(), format!("{phase:?}"));
            return Ok(Asked { node, command: ask.word(), done, phase, message });
        }
        if answer.is_some() || late {
            let test = power.status.as_ref().and_then(|status| status.last_wake_test.as_ref());
            let done = answer.is_some()
                && match ask {
                    Ask::Wake => phase == PowerPhase::Awake,
                    Ask::Suspend => phase == PowerPhase::Suspended,
                    Ask::WakeTest => phase == PowerPhase::Awake && test.is_some_and(|test| test.succeeded),
                };
            let said = power.status.and_then(|status| status.message);
            let waiting = "asked; the operator has not answered yet".to_owned();
            let message = answer.filter(|answer| !answer.is_empty()).or(said.filter(|_| !late)).unwrap_or(waiting);
            return Ok(Asked {
                node: node.to_owned(),
                command: ask.word(),
                done,
                phase: format!("{phase:?}"),
                message,
            });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What a waker did about a request that no operator answered, and whether the machine is on.
fn without_operator(power: &NodePower, request: Option<&str>) -> Option<(bool, String)> {
    let waker = power.status.as_ref()?.waker.as_ref()?;
    waker.request.as_deref().zip(request).filter(|(done, asked)| asked.starts_with(done))?;
    let said = waker.message.as_deref().unwrap_or("it is at work");
    let message = match waker.outcome? {
        WakeOutcome::Awake => format!(
            "a waker turned it on ({said}); no operator answers, and until one runs the node keeps the taint miyako.dev/power: see the Deployment miyako"
        ),
        WakeOutcome::Sent => {
            format!("a waker asked it to wake ({said}), and nobody can tell whether it did; no operator answers")
        }
        WakeOutcome::Failed | WakeOutcome::Off => format!("no waker could wake it ({said}), and no operator answers"),
    };
    Some((waker.outcome == Some(WakeOutcome::Awake), message))
}

fn failed(doing: &'static str, node: &str, source: kube::Error) -> PowerError {
    let node = node.to_owned();
    match source {
        source if is_absent(&source) => PowerError::Missing { node },
        source => PowerError::Api { doing, node, source: Box::new(source) },
    }
}
