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
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use miyako_api::node_power_class::{SuspendMethod, WakeProtocol};
use miyako_api::wake::{self, Way, protocol_name, ways};
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
    /// Why there is no way to wake it.
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
    let powers = Api::<NodePower>::all(client.clone()).list(&all).await.map_err(failed("NodePowers"))?;
    Ok(make(&nodes, &classes.items, &powers.items, SystemClock.now().to_string()))
}

/// Makes the kit. Nodes that no class selects have none and need none: Miyako does not suspend them.
#[must_use]
pub fn make(nodes: &[Node], classes: &[NodePowerClass], powers: &[NodePower], written: String) -> WakeKit {
    let phases: BTreeMap<String, String> = powers
        .iter()
        .filter_map(|power| Some((power.name_any(), format!("{:?}", power.status.as_ref()?.phase?))))
        .collect();
    let mut kit = WakeKit { written, accounts: Vec::new(), files: BTreeMap::new(), nodes: Vec::new() };
    let mut accounts = BTreeSet::new();
    let mut sorted: Vec<&Node> = nodes.iter().collect();
    sorted.sort_by_key(|node| node.name_any());
    for node in sorted {
        let name = node.name_any();
        let found = ways(node, classes);
        let phase = phases.get(&name).cloned();
        if matches!(found, Err(wake::NoWay::NoClass(_))) && phase.is_none() {
            continue;
        }
        let class = class_of(node, classes);
        let method = class.map(|class| class.spec.suspend.method);
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
        match found {
            Err(why) => one.no_way = Some(why.to_string()),
            Ok(found) => {
                let class = one.class.as_deref().unwrap_or_default();
                let in_s3 = method == Some(SuspendMethod::S3);
                for way in &found {
                    accounts.extend(account(way));
                    if let Some((file, pem)) = calls::ca_file(class, &way.spec).zip(ca_certificates(way)) {
                        kit.files.insert(file, pem);
                    }
                    if way.spec.driver == WakeProtocol::Amt {
                        kit.files.insert(calls::AMT_REQUEST_FILE.to_owned(), calls::AMT_REQUEST.to_owned());
                    }
                    one.ways.push(kit_way(class, way, node, in_s3));
                }
            }
        }
        kit.nodes.push(one);
    }
    kit.accounts = accounts.into_iter().collect();
    kit
}

fn kit_way(class: &str, way: &Way, node: &Node, in_s3: bool) -> KitWay {
    let name = node.name_any();
    let node = wake::Node { name: &name, labels: node.labels() };
    KitWay {
        driver: protocol_name(way.spec.driver),
        address: way.address.clone(),
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

/// The class whose word counts for a node; none where none or several select it.
fn class_of<'a>(node: &Node, classes: &'a [NodePowerClass]) -> Option<&'a NodePowerClass> {
    let selects =
        |class: &&NodePowerClass| !matches!(ways(node, std::slice::from_ref(*class)), Err(wake::NoWay::NoClass(_)));
    let mut selecting = classes.iter().filter(selects);
    let class = selecting.next()?;
    selecting.next().is_none().then_some(class)
}

fn addresses(node: &Node) -> Vec<String> {
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let wanted = addresses.iter().filter(|address| address.type_ != "Hostname" || address.address != node.name_any());
    wanted.map(|address| format!("{} {}", address.type_, address.address)).collect()
}
