//! `miyako explain`: observes the cluster with the caller's own rights, decides as the operator would, and tells why.

use super::cluster::{ClusterArgs, ClusterError};
use super::output::{self, Output};
use crate::clock::{Clock, SystemClock};
use crate::explain::{self, Explanation, OperatorSays, Past, Seen, Subject};
use crate::observe::{self, Kind, Observer, Settings};
use crate::pages;
use clap::Args;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use miyako_api::{ConsolidationPlan, ConsolidationPolicy};
use miyako_core::model::{NodeName, PolicyName, VmKey};
use miyako_core::plan::decide;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Between looks at what has been read.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Flags of `miyako explain`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  miyako explain\n  miyako explain web-3\n  miyako explain vm shop/web-3\n  miyako explain node worker-17 --output json\n  miyako explain policy pack"
)]
pub struct ExplainArgs {
    /// What to explain: vm NAMESPACE/NAME, node NAME, policy NAME, or just a NAME. Nothing: the whole cluster in short.
    #[arg(value_name = "WHAT", num_args = 0..=2)]
    pub what: Vec<String>,
    /// The operator's HTTP address, for what depends on loads: they are not in the API. After `kubectl -n miyako-system
    /// port-forward deploy/miyako-operator 8080` it is http://localhost:8080.
    #[arg(long, value_name = "URL")]
    pub operator_url: Option<String>,
    /// How many seconds the cluster may take to be read.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
    /// Where.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How to print the explanation.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Why nothing could be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// No way to the cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// What is asked about is not understood.
    #[error("{0}: write vm NAMESPACE/NAME, node NAME, policy NAME, or just a NAME")]
    What(String),
    /// There is no such thing.
    #[error("there is no {0} in this cluster")]
    Nothing(String),
    /// The name means several things.
    #[error("{name} is ambiguous: write one of {}", .meanings.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// What it can mean, as it is to be written.
        meanings: Vec<String>,
    },
    /// The caller has too few rights.
    #[error("you may not list {kinds}: the ClusterRole miyako-explain allows it (docs/install.md, \"Who may use it\")")]
    Forbidden {
        /// Which kinds.
        kinds: String,
    },
    /// The cluster could not be read in time.
    #[error("cannot read the cluster: {missing}. A large cluster needs more --timeout")]
    Unread {
        /// What is missing, and why.
        missing: String,
    },
    /// The plans could not be read.
    #[error("cannot read what was recorded")]
    Past(#[source] Box<kube::Error>),
    /// The operator did not answer.
    #[error("the operator at --operator-url does not answer")]
    Operator(#[source] reqwest::Error),
    /// The explanation could not be printed.
    #[error("cannot print the explanation")]
    Print(#[from] io::Error),
}

/// What was asked for, before anything is known of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Known(Subject),
    Named(String),
}

/// Runs the command.
///
/// # Errors
/// See [`ExplainError`].
pub async fn run(args: &ExplainArgs, out: &mut dyn io::Write) -> Result<(), ExplainError> {
    let asked = parse(&args.what)?;
    let client = args.cluster.client_for_ours().await?;
    let url = args.operator_url.as_deref();
    let patience = Duration::from_secs(args.timeout);
    let told = tell(&client, &args.cluster.namespace, Arc::new(SystemClock), &asked, url, patience).await?;
    Ok(output::print(&told, args.output, out)?)
}

/// Explains one subject from a cluster, without the operator.
///
/// # Errors
/// See [`ExplainError`].
pub async fn explain(
    client: &Client,
    namespace: &str,
    clock: Arc<dyn Clock>,
    what: &[String],
    patience: Duration,
) -> Result<Explanation, ExplainError> {
    tell(client, namespace, clock, &parse(what)?, None, patience).await
}

fn parse(what: &[String]) -> Result<Asked, ExplainError> {
    let (kind, name) = match what {
        [] => return Ok(Asked::Known(Subject::Cluster)),
        [kind, name] => (kind.as_str(), name.as_str()),
        [word] => match word.split_once('/') {
            // As kubectl writes it: node/worker-1. A namespace of such a name can still be asked for with `vm`.
            Some((kind @ ("vm" | "vmi" | "node" | "policy"), name)) => (kind, name),
            _ => return Ok(Asked::Named(word.clone())),
        },
        more => return Err(ExplainError::What(format!("{} words are too many", more.len()))),
    };
    let subject = match kind {
        "vm" | "vmi" | "virtualmachine" | "virtualmachineinstance" => match name.split_once('/') {
            Some((namespace, name)) => Subject::Vm(VmKey::new(namespace, name)),
            None => return Ok(Asked::Named(name.to_owned())),
        },
        "node" | "no" => Subject::Node(NodeName::new(name)),
        "policy" | "cpol" | "consolidationpolicy" => Subject::Policy(PolicyName::new(name)),
        other => return Err(ExplainError::What(format!("{other} is not a kind that can be explained"))),
    };
    Ok(Asked::Known(subject))
}

async fn tell(
    client: &Client,
    namespace: &str,
    clock: Arc<dyn Clock>,
    asked: &Asked,
    operator_url: Option<&str>,
    patience: Duration,
) -> Result<Explanation, ExplainError> {
    let mut observer = observed(client, namespace, clock.clone(), patience).await?;
    let now = clock.now();
    let (snapshot, policies) = observer.snapshot();
    let (_, report) = decide(snapshot, policies, now, 0);
    let seen = Seen { snapshot, policies, report: &report, now };
    let subject = match asked {
        Asked::Known(subject) => subject.clone(),
        Asked::Named(name) => find(name, &seen)?,
    };
    let past = past(client, &subject, operator_url).await?;
    explain::explain(&subject, &seen, &past).ok_or_else(|| ExplainError::Nothing(subject.to_string()))
}

/// The cluster, read once with the caller's own rights.
///
/// # Errors
/// See [`ExplainError`].
pub(super) async fn observed(
    client: &Client,
    namespace: &str,
    clock: Arc<dyn Clock>,
    patience: Duration,
) -> Result<Observer, ExplainError> {
    let settings = Settings { namespace: namespace.to_owned(), seed: 0 };
    let mut observer = Observer::start(client.clone(), clock, &settings);
    let hopeless = tokio::time::timeout(patience, read(&mut observer)).await;
    if let Ok(Err(kinds)) = hopeless {
        return Err(ExplainError::Forbidden { kinds: observe::some(&kinds) });
    }
    if hopeless.is_err() {
        let missing = observer.snapshot().0.incomplete.clone().unwrap_or_else(|| "it takes too long".to_owned());
        return Err(ExplainError::Unread { missing });
    }
    Ok(observer)
}

/// Reads the cluster once.
///
/// # Errors
/// The kinds that the caller may not list, once everything else is read.
async fn read(observer: &mut Observer) -> Result<(), Vec<Kind>> {
    loop {
        observer.drain();
        let hopeless = observer.hopeless();
        match observer.synced() {
            true => return Ok(()),
            false if !hopeless.is_empty() => return Err(hopeless),
            false => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

fn find(name: &str, seen: &Seen<'_>) -> Result<Subject, ExplainError> {
    let mut meanings = Subject::named(name, seen);
    match meanings.len() {
        0 => Err(ExplainError::Nothing(format!("VM, node or policy {name}"))),
        1 => Ok(meanings.remove(0)),
        _ => {
            let meanings = meanings.iter().map(ToString::to_string).collect();
            Err(ExplainError::Ambiguous { name: name.to_owned(), meanings })
        }
    }
}

/// What was recorded about the subject, and what the operator says of it.
async fn past(client: &Client, subject: &Subject, operator_url: Option<&str>) -> Result<Past, ExplainError> {
    let unread = |error| ExplainError::Past(Box::new(error));
    let all = ListParams::default();
    let keep = |plans: &mut Vec<ConsolidationPlan>, plan| plans.push(plan);
    let plans = pages::fold(&Api::all(client.clone()), &all, Vec::new, keep).await.map_err(unread)?;
    let keep = |statuses: &mut BTreeMap<_, _>, policy: ConsolidationPolicy| {
        statuses.extend(policy.status.clone().map(|status| (policy.name_any(), status)));
    };
    let statuses = pages::fold(&Api::all(client.clone()), &all, BTreeMap::new, keep).await.map_err(unread)?;
    let operator = match operator_url {
        Some(url) => ask_operator(url, subject).await?,
        None => None,
    };
    Ok(Past { plans, events: events(client, subject).await, statuses, operator })
}

/// The Events about the subject. They are told where they can be read: many may not.
async fn events(client: &Client, subject: &Subject) -> Vec<Event> {
    let (namespace, kind, name) = match subject {
        Subject::Vm(key) => (key.namespace.as_str(), "VirtualMachineInstance", key.name.as_str()),
        Subject::Node(name) => ("default", "Node", name.as_str()),
        // Events about cluster-scoped objects are kept there.
        Subject::Policy(name) => ("default", "ConsolidationPolicy", name.as_str()),
        Subject::Cluster => return Vec::new(),
    };
    let about = format!("involvedObject.kind={kind},involvedObject.name={name}");
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let keep = |kept: &mut Vec<Event>, event: Event| {
        if event.reporting_component.as_deref() == Some(COMPONENT) {
            kept.push(event);
        }
        // A VM that moves often has thousands in the hour that Events live, and a few are told.
        if kept.len() >= 2 * Past::EVENTS_TOLD {
            Past::keep_newest(kept);
        }
    };
    let mut told =
        pages::fold(&events, &ListParams::default().fields(&about), Vec::new, keep).await.unwrap_or_default();
    Past::keep_newest(&mut told);
    told
}

/// Who writes our Events.
const COMPONENT: &str = miyako_api::names::manager::EVENTS;

/// What the operator, which knows the loads, says on its page.
async fn ask_operator(url: &str, subject: &Subject) -> Result<Option<OperatorSays>, ExplainError> {
    let path = match subject {
        Subject::Vm(key) => format!("vm/{key}"),
        Subject::Node(name) => format!("node/{name}"),
        Subject::Policy(_) | Subject::Cluster => return Ok(None),
    };
    let asked = reqwest::get(format!("{}/api/explain/{path}", url.trim_end_matches('/')));
    let answer = asked.await.and_then(reqwest::Response::error_for_status).map_err(ExplainError::Operator)?;
    answer.json().await.map(Some).map_err(ExplainError::Operator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::apiserver::{ApiServer, Options};
    use serde_json::json;

    fn parsed(words: &[&str]) -> Option<Asked> {
        parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()).ok()
    }

    #[test]
    fn what_is_asked_may_be_written_in_several_ways() {
        let vm = Asked::Known(Subject::Vm(VmKey::new("shop", "web")));
        assert_eq!(parsed(&[]), Some(Asked::Known(Subject::Cluster)));
        assert_eq!(parsed(&["vm", "shop/web"]), Some(vm.clone()));
        assert_eq!(parsed(&["vm/shop/web"]), Some(vm));
        assert_eq!(parsed(&["node/n1"]), parsed(&["node", "n1"]));
        assert_eq!(parsed(&["shop/web"]), Some(Asked::Named("shop/web".into())));
        assert_eq!(parsed(&["pod", "x"]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn events_and_policies_are_read_page_by_page_and_few_events_are_kept() {
        let server = ApiServer::new(Options::default());
        for crd in miyako_api::crds() {
            server.add_crd(&serde_json::to_value(crd).unwrap()).unwrap();
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
        server.create("setup", namespace).unwrap();
        let many = 2 * usize::try_from(pages::PAGE).unwrap() + 7;
        for index in 0..many {
            // The newest in the middle, and somebody else's newer than all.
            let (second, by) =
                (if index == 700 { 59 } else { index % 50 }, if index == 3 { "kubelet" } else { COMPONENT });
            let minute = if index == 3 { 59 } else { 10 };
            let event = json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": format!("e{index:05}"), "namespace": "shop"},
                "involvedObject": {"kind": "VirtualMachineInstance", "name": "web", "namespace": "shop"},
                "reportingComponent": by, "reason": format!("R{index}"),
                "eventTime": format!("2026-01-01T00:{minute}:{second:02}.000000Z"),
            });
            server.create("setup", event).unwrap();
            let policy = json!({
                "apiVersion": "miyako.dev/v1alpha1", "kind": "ConsolidationPolicy",
                "metadata": {"name": format!("p{index:05}")}, "spec": {"nodeClasses": ["a"]},
            });
            server.create("setup", policy).unwrap();
        }
        let found = past(&server.client("reader"), &Subject::Vm(VmKey::new("shop", "web")), None).await.unwrap();
        assert_eq!(found.events.len(), Past::EVENTS_TOLD);
        let reasons: Vec<_> = found.events.iter().filter_map(|event| event.reason.as_deref()).collect();
        assert_eq!(reasons[0], "R700");
        assert!(!reasons.contains(&"R3"), "{reasons:?}");
        for kind in ["events", "consolidationpolicies.miyako.dev"] {
            assert_eq!(server.longest_list("reader", kind), pages::PAGE as usize, "{kind}");
        }
    }
}
