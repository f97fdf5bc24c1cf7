//! `miyako pause`, `miyako hold` and `miyako resume`: people's two switches, in a ConfigMap that the operator watches.
//!
//! They speak to the API server alone, so they work while the operator is down: it reads the switches before it does
//! anything.

mod still;

use super::cluster::{self, ClusterArgs, ClusterError};
use super::output::{self, Output};
use crate::clock::{Clock, SystemClock};
use crate::observe::convert::switches::{HELD, PAUSED};
use clap::Args;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use miyako_api::answer::is_absent;
use miyako_api::names::{manager, ours};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::{fmt, io};

/// As much of who and why as the operator shows.
const LONGEST: usize = 512;

/// Flags of `miyako pause` and `miyako hold`.
#[derive(Debug, Clone, Args)]
pub struct SwitchOnArgs {
    /// Why, for everybody who wonders: it is shown in every policy's status, with your user name.
    #[arg(short, long, value_name = "TEXT")]
    pub reason: String,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How to print what was done.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Flags of `miyako resume`.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How to print what was done.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Why a switch was not turned.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// No way to the cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The reason says nothing, or too much.
    #[error("--reason {problem}")]
    Reason {
        /// What is wrong, and what to write.
        problem: String,
    },
    /// The chart makes the ConfigMap, so Miyako is not there, or somebody deleted it.
    #[error(
        "there is no ConfigMap {} in namespace {namespace}: name Miyako's namespace with --namespace; if somebody deleted \
         it, apply the chart again, and what was on stays on until `miyako resume`",
        ours::SWITCHES
    )]
    Missing {
        /// Where it was looked for.
        namespace: String,
    },
    /// The API server refused or did not answer.
    #[error(
        "cannot {doing} ConfigMap {} in namespace {namespace} (the Role miyako-switches allows it)",
        ours::SWITCHES
    )]
    Api {
        /// What was tried.
        doing: &'static str,
        /// Where.
        namespace: String,
        /// The answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The answer could not be printed.
    #[error("cannot print what was done")]
    Print(#[from] io::Error),
}

/// One of the two switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// No new move, no suspend; wakes go on.
    Pause,
    /// Everything is woken and kept awake, and nothing moves.
    Hold,
}

impl Switch {
    fn key(self) -> &'static str {
        match self {
            Self::Pause => PAUSED,
            Self::Hold => HELD,
        }
    }
}

/// What a command did to the switches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Switched {
    /// What was asked for: `pause`, `hold` or `resume`.
    pub command: &'static str,
    /// Whether anything had to be written.
    pub changed: bool,
    /// The switches that were on before, with who and why.
    pub before: BTreeMap<String, String>,
    /// The switches that are on now.
    pub now: BTreeMap<String, String>,
    /// What follows from it.
    pub meaning: &'static str,
    /// What else keeps policies from acting, after `resume`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub still: Vec<String>,
}

impl fmt::Display for Switched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.command, self.changed) {
            (_, false) if self.now.is_empty() => writeln!(f, "Neither paused nor held; nothing to resume.")?,
            (_, false) => writeln!(f, "Nothing changed: it is so already.")?,
            ("resume", true) => writeln!(f, "Resumed.")?,
            (_, true) => {}
        }
        for (switch, said) in self.before.iter().filter(|(switch, said)| self.now.get(*switch) != Some(*said)) {
            writeln!(f, "  no longer {switch}: {said}")?;
        }
        for (switch, said) in &self.now {
            writeln!(f, "  {switch}: {said}")?;
        }
        write!(f, "{}", self.meaning)?;
        self.still.iter().try_for_each(|still| write!(f, "\n  {still}"))
    }
}

/// `miyako pause` and `miyako hold`.
///
/// # Errors
/// See [`SwitchError`].
pub async fn run_on(switch: Switch, args: &SwitchOnArgs, out: &mut dyn io::Write) -> Result<(), SwitchError> {
    check(&args.reason)?;
    let client = args.cluster.client().await?;
    let user = match cluster::caller(&client).await {
        Ok(user) if !user.is_empty() => user,
        // Knowing who is a courtesy here, and to stop must work with the fewest rights.
        _ => std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned()),
    };
    let switched = turn_on(&client, &args.cluster.namespace, switch, &user, &args.reason).await?;
    Ok(output::print(&switched, args.output, out)?)
}

/// `miyako resume`.
///
/// # Errors
/// See [`SwitchError`].
pub async fn run_resume(args: &ResumeArgs, out: &mut dyn io::Write) -> Result<(), SwitchError> {
    let client = args.cluster.client().await?;
    let switched = resume(&client, &args.cluster.namespace, &SystemClock).await?;
    Ok(output::print(&switched, args.output, out)?)
}

fn check(reason: &str) -> Result<(), SwitchError> {
    let problem = match reason.trim() {
        "" => "is empty: write why, so that others know when to resume".to_owned(),
        text if text.chars().count() > LONGEST / 2 => format!("is longer than {} characters: shorten it", LONGEST / 2),
        _ => return Ok(()),
    };
    Err(SwitchError::Reason { problem })
}

/// Turns a switch on, in a user's name. Doing it again writes nothing.
///
/// # Errors
/// See [`SwitchError`].
pub async fn turn_on(
    client: &Client,
    namespace: &str,
    switch: Switch,
    user: &str,
    reason: &str,
) -> Result<Switched, SwitchError> {
    check(reason)?;
    let said: String = format!("{user}: {}", reason.trim()).chars().take(LONGEST).collect();
    let before = on(&read(client, namespace).await?);
    let changed = before.get(switch.key()) != Some(&said);
    let now = match changed {
        true => {
            // What is turned on from here on, no earlier `resume` turned off.
            let change =
                json!({ "metadata": { "annotations": { ours::RESUMED: null } }, "data": { switch.key(): said } });
            on(&patch(client, namespace, change).await?)
        }
        false => before.clone(),
    };
    let (command, meaning) = match switch {
        Switch::Pause => (
            "pause",
            "No new move begins and no node is suspended until `miyako resume`. Migrations that KubeVirt has begun run to their end, and nodes are still woken for pods that need them.",
        ),
        Switch::Hold => (
            "hold",
            "Nothing moves, and every sleeping node is woken and kept awake until `miyako resume`. Migrations that KubeVirt has begun run to their end.",
        ),
    };
    Ok(Switched { command, changed, before, now, meaning, still: Vec::new() })
}

/// Turns both switches off, and takes away whatever else is in the ConfigMap: the operator pauses for what it does not
/// understand there.
///
/// # Errors
/// See [`SwitchError`].
pub async fn resume(client: &Client, namespace: &str, clock: &dyn Clock) -> Result<Switched, SwitchError> {
    let map = read(client, namespace).await?;
    let before = on(&map);
    let keys = |names: Vec<&String>| names.into_iter().map(|key| (key.clone(), Value::Null)).collect::<Value>();
    let data = keys(map.data.iter().flatten().map(|(key, _)| key).collect());
    let binary = keys(map.binary_data.iter().flatten().map(|(key, _)| key).collect());
    // Without this mark a ConfigMap that was made anew turns nothing off, whatever it holds.
    let marked = map.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(ours::RESUMED));
    let changed = data != json!({}) || binary != json!({}) || !marked;
    let now = match changed {
        true => {
            let resumed = json!({ "annotations": { ours::RESUMED: crate::time::to_api(clock.now()) } });
            let change = json!({ "metadata": resumed, "data": data, "binaryData": binary });
            on(&patch(client, namespace, change).await?)
        }
        false => before.clone(),
    };
    let still = still::holds(client).await;
    let meaning = match &still {
        Ok(still) if still.is_empty() => "Policies act again as their mode and schedules say.",
        Ok(_) => "The switches are off, but these still hold; `miyako explain policy NAME` says more:",
        Err(_) => {
            "The switches are off. Whether something else holds is not known: the ConsolidationPolicies can't be read; ask \
             `miyako explain`."
        }
    };
    Ok(Switched { command: "resume", changed, before, now, meaning, still: still.unwrap_or_default() })
}

/// What is on: an empty value is off.
fn on(map: &ConfigMap) -> BTreeMap<String, String> {
    let data = map.data.iter().flatten().map(|(key, said)| (key.clone(), said.trim().to_owned()));
    let binary = map.binary_data.iter().flatten().map(|(key, _)| (key.clone(), "(not text)".to_owned()));
    data.filter(|(_, said)| !said.is_empty()).chain(binary).collect()
}

async fn read(client: &Client, namespace: &str) -> Result<ConfigMap, SwitchError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    maps.get(ours::SWITCHES).await.map_err(|source| failed("read", namespace, source))
}

/// A merge patch: labels and whatever else the chart wrote stay.
async fn patch(client: &Client, namespace: &str, change: Value) -> Result<ConfigMap, SwitchError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams { field_manager: Some(manager::CLI.into()), ..PatchParams::default() };
    maps.patch(ours::SWITCHES, &params, &Patch::Merge(change))
        .await
        .map_err(|source| failed("write", namespace, source))
}

fn failed(doing: &'static str, namespace: &str, source: kube::Error) -> SwitchError {
    let namespace = namespace.to_owned();
    match source {
        source if is_absent(&source) => SwitchError::Missing { namespace },
        source => SwitchError::Api { doing, namespace, source: Box::new(source) },
    }
}
