//! `miyako wake-kit`: what it takes to wake every node when there is no API server to ask: for the shelf, before it is
//! needed. Secrets are named and never read.

mod calls;
mod text;

use super::cluster::{ClusterArgs, ClusterError};
use super::output::{self, Output};
use crate::clock::{Clock as _, SystemClock};
use crate::pages;
use clap::Args;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams, ObjectMeta};
use kube::{Client, ResourceExt as _};
use miyako_api::node_power_class::{SuspendMethod, WakeProtocol};
use miyako_api::wake::{self, NoWay, Way, class_of, protocol_name, ways, ways_without_node};
use miyako_api::{NodePower, NodePowerClass};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Flags of `miyako wake-kit`.
#[derive(Debug, Clone, Args)]
pub struct WakeKitArgs {
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// As a page to read and print (Markdown), or for programs.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Why there is no kit.
#[derive(Debug, thiserror::Error)]
pub enum WakeKitError {
    /// No way to the cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The API server refused or did not answer.
    #[error("cannot list {what} (the ClusterRole miyako-explain allows it)")]
    List {
        /// What.
        what: &'static str,
        /// The answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// The answer could not be printed.
    #[error("cannot print the kit")]
    Print(#[from] io::Error),
}

/// All that it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WakeKit {
    /// When it was written: addresses change.
    pub written: String,
    /// Accounts of BMCs that must be at hand.
    pub accounts: Vec<Account>,
    /// Files that calls name, with their content.
    pub files: BTreeMap<String, String>,
    /// The nodes, by name.
    pub nodes: Vec<KitNode>,
}

/// The account of a Secret: by reference, never in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// The Secret, as namespace/name.
    pub secret: String,
    /// Its keys.
    pub keys: Vec<&'static str>,
    /// The file that `miyako-agent` reads the account from.
    pub file: String,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KitNode {
    /// Its name.
    pub name: String,
    /// Its addresses in the cluster, to see whether it is back.
    pub addresses: Vec<String>,
    /// Where it was in the power sequence when the kit was written.
    pub phase: String,
    /// Its class.
    pub class: Option<String>,
    /// How it sleeps.
    pub method: Option<&'static str>,
    /// How it is woken, to be tried in this order.
    pub ways: Vec<KitWay>,
    /// Why there is no way to wake it, or one less than its class means.
    pub no_way: Option<String>,
}

/// One way to wake a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KitWay {
    /// The driver.
    pub driver: &'static str,
    /// Where it speaks to.
    pub address: String,
    /// It was recorded when the node was ordered to sleep, and its class does not say so now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recorded: bool,
    /// The Secret with the account, as namespace/name.
    pub secret: Option<String>,
    /// The SHA-256 fingerprints of certificates that are trusted.
    pub certificate_sha256: Vec<String>,
    /// Through `miyako-agent`.
    pub agent: String,
    /// By common tools, one command after the other; `BMC_USER` and `BMC_PASSWORD` hold the account.
    pub by_hand: Vec<String>,
}

/// `miyako wake-kit`.
///
/// # Errors
/// See [`WakeKitError`].
pub async fn run(args: &WakeKitArgs, out: &mut dyn io::Write) -> Result<(), WakeKitError> {
    let client = args.cluster.client_for_ours().await?;
    let kit = read(&client).await?;
    Ok(output::print(&kit, args.output, out)?)
}

/// Reads the cluster and makes the kit.
///
/// # Errors
/// See [`WakeKitError`].
pub async fn read(client: &Client) -> Result<WakeKit, WakeKitError> {
    let all = ListParams::default();
    // Nodes tell of every image that they hold, which is most of what they weigh and nothing that the kit says.
    let keep = |nodes: &mut Vec<Node>, mut node: Node| {
        node.metadata.managed_fields = None;
        if let Some(status) = &mut node.status {
            status.images = None;
        }
        nodes.push(node);
    };
    let failed = |what| move |source| WakeKitError::List { what, source: Box::new(source) };
    let nodes = pages::fold(&Api::all(client.clone()), &all, Vec::new, keep).await.map_err(failed("Nodes"))?;
    let classes = Api::<NodePowerClass>::all(client.clone()).list(&all).await.map_err(failed("NodePowerClasses"))?;
    let keep = |powers: &mut Vec<NodePower>, power| powers.push(power);
    let powers = pages::fold(&Api::all(client.clone()), &all, Vec::new, keep).await.map_err(failed("NodePowers"))?;
    Ok(make(&nodes, &classes.items, &powers, SystemClock.now().to_string()))
}

/// Makes the kit. Nodes that no class selects have none and need none, unless a NodePower knows of them: what was recorded
/// when they were ordered to sleep wakes them all the same, though the Node itself be gone.
#[must_use]
pub fn make(nodes: &[Node], classes: &[NodePowerClass], powers: &[NodePower], written: String) -> WakeKit {
    let powers: BTreeMap<String, &NodePower> = powers.iter().map(|power| (power.name_any(), power)).collect();
    let mut kit = WakeKit { written, accounts: Vec::new(), files: BTreeMap::new(), nodes: Vec::new() };
    let mut accounts = BTreeSet::new();
    let gone = powers.iter().filter(|(name, power)| {
        !power.spec.wake_ways.is_empty() && !nodes.iter().any(|node| node.name_any() == **name)
    });
    let gone = gone.map(|(name, _)| Node { metadata: named(name), ..Node::default() });
    let there = nodes.iter().cloned().map(|node| (node, true));
    let mut all: Vec<(Node, bool)> = there.chain(gone.map(|node| (node, false))).collect();
    all.sort_by_key(|(node, _)| node.name_any());
    for (node, exists) in &all {
        let name = node.name_any();
        let power = powers.get(&name).copied();
        let found = match power {
            Some(power) if !exists => ways_without_node(&name, power),
            power => ways(node, classes, power),
        };
        let phase = power.and_then(|power| Some(format!("{:?}", power.status.as_ref()?.phase?)));
        let unknown = found.problems.iter().any(|problem| matches!(problem, NoWay::NoClass(_)));
        if unknown && phase.is_none() && found.ways.is_empty() {
            continue;
        }
        let class = class_of(node, classes).ok().filter(|_| *exists);
        // How it sleeps by its last order, where there was one: its class may say something else by now.
        let method = class.map(|class| class.spec.suspend.method);
        let method = power.filter(|power| !power.spec.wake_ways.is_empty()).map(|power| power.spec.method).or(method);
        let mut one = KitNode {
            addresses: addresses(node),
            phase: phase.unwrap_or_else(|| "Awake".to_owned()),
            class: class.map(|class| class.name_any()),
            method: method.map(|method| match method {
                SuspendMethod::S3 => "S3",
                SuspendMethod::PowerOff => "PowerOff",
            }),
            ways: Vec::new(),
            no_way: None,
            name,
        };
        let problems: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
        one.no_way = (!problems.is_empty()).then(|| problems.join("; "));
        let in_s3 = method == Some(SuspendMethod::S3);
        for way in &found.ways {
            // The files of what was recorded must not be those of a class that says something else.
            let of =
                if way.recorded { format!("{}-recorded", one.name) } else { one.class.clone().unwrap_or_default() };
            accounts.extend(account(way));
            if let Some((file, pem)) = calls::ca_file(&of, &way.spec).zip(ca_certificates(way)) {
                kit.files.insert(file, pem);
            }
            if way.spec.driver == WakeProtocol::Amt {
                kit.files.insert(calls::AMT_REQUEST_FILE.to_owned(), calls::AMT_REQUEST.to_owned());
            }
            one.ways.push(kit_way(&of, way, node, in_s3));
        }
        kit.nodes.push(one);
    }
    kit.accounts = accounts.into_iter().collect();
    kit
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

fn kit_way(class: &str, way: &Way, node: &Node, in_s3: bool) -> KitWay {
    let name = node.name_any();
    let node = wake::Node { name: &name, labels: node.labels() };
    KitWay {
        driver: protocol_name(way.spec.driver),
        address: way.address.clone(),
        recorded: way.recorded,
        secret: account(way).map(|account| account.secret),
        certificate_sha256: calls::fingerprints(&way.spec, node),
        agent: calls::by_agent(class, way, node, in_s3),
        by_hand: calls::by_hand(class, way, node),
    }
}

fn account(way: &Way) -> Option<Account> {
    let secret = way.spec.secret_ref.as_ref()?;
    let keys = if way.spec.driver == WakeProtocol::Wol { vec!["secureOn"] } else { vec!["username", "password"] };
    Some(Account {
        secret: format!("{}/{}", secret.namespace.as_deref()?, secret.name.as_deref()?),
        keys,
        file: calls::credentials_file(&way.spec)?,
    })
}

fn ca_certificates(way: &Way) -> Option<String> {
    way.spec.tls.as_ref()?.ca_certificates.clone()
}

fn addresses(node: &Node) -> Vec<String> {
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let wanted = addresses.iter().filter(|address| address.type_ != "Hostname" || address.address != node.name_any());
    wanted.map(|address| format!("{} {}", address.type_, address.address)).collect()
}
