//! Load from a real Prometheus server (Debian's package `prometheus`; `e2e/tools/apt` installs it), which scrapes
//! an exporter of ours as it would scrape kubelets and virt-handlers.

#![allow(clippy::disallowed_methods, reason = "measures real time; nothing is decided by it")]

use miyako::observe::load::{
    Inventory, SharedLoadStore, VmPlace,
    prometheus::{Poller, Query, Questions, Server, connect},
};
use miyako_core::model::{Cores, NodeName, Span, Timestamp, Uid, VmKey, WindowAverage};
use miyako_e2e::{
    prometheus::{Counters, Prometheus},
    wait::{self, Look},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

/// Cores that the exporter's counters say are in use.
const NODE_CORES: f64 = 3.0;
const VM_CORES: f64 = 1.5;

#[allow(clippy::disallowed_methods)] // the edge: Prometheus stamps by the real clock
fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(0))
}

/// A real server that scrapes counters of one node and its VM.
async fn scraping(node_label: &'static str) -> anyhow::Result<(Prometheus, TempDir)> {
    let counters = Counters::new(node_label);
    counters.node("node-1", NODE_CORES);
    counters.vm("node-1", "default", "web", VM_CORES);
    let folder = tempfile::tempdir()?;
    Ok((Prometheus::start(counters.serve().await?, folder.path()).await?, folder))
}

/// A store that knows node and VM, filled from `url`.
fn filled_from(url: &str, questions: Questions) -> anyhow::Result<SharedLoadStore> {
    let store = SharedLoadStore::default();
    let place = VmPlace { uid: Uid::new("uid-1"), node: Some(NodeName::new("node-1")) };
    let inventory = Inventory {
        nodes: [(NodeName::new("node-1"), Cores::new(16.0)?)].into(),
        vms: [(VmKey::new("default", "web"), place)].into(),
        ..Inventory::default()
    };
    store.lock().set_inventory(inventory, now());
    let client = connect(&Server { url: url.to_owned(), ..Server::default() })?;
    tokio::spawn(Poller::new(client, questions, store.clone(), Arc::new(now)).poll());
    Ok(store)
}

fn windows(store: &SharedLoadStore) -> (WindowAverage, WindowAverage) {
    let table = store.lock().lend();
    let window = Span::from_secs(1);
    let average = |history: &miyako_core::model::LoadHistory| history.average(now(), window);
    let node = table.nodes.get(&NodeName::new("node-1")).map_or(WindowAverage::Never, average);
    let vm = table.vms.get(&VmKey::new("default", "web")).map_or(WindowAverage::Never, average);
    store.lock().take_back(table);
    (node, vm)
}

fn problems(store: &SharedLoadStore) -> Vec<&'static str> {
    let store = store.lock();
    store.prometheus().into_iter().flat_map(|report| &report.problems).map(|problem| problem.reason()).collect()
}

/// Waits until `holds`; a minute is long for a server that scrapes every second.
async fn until(what: &str, holds: impl Fn() -> bool) -> anyhow::Result<()> {
    wait::until(what, Duration::from_secs(60), || {
        let look = Look::holds(holds(), "not yet");
        async { Ok(look) }
    })
    .await
}

#[tokio::test]
async fn a_real_server_fills_the_windows_and_its_death_is_noticed() -> anyhow::Result<()> {
    let (prometheus, _folder) = scraping("node").await?;
    let store = filled_from(prometheus.url(), Questions::default())?;
    until("both windows are full", || matches!(windows(&store), (WindowAverage::Full(_), WindowAverage::Full(_))))
        .await?;
    let (node, vm) = windows(&store);
    // Scrapes come a second apart, give or take; the counters grow evenly.
    assert!(node.full().is_some_and(|cores| (cores.value() - NODE_CORES).abs() < 0.3 * NODE_CORES), "{node:?}");
    assert!(vm.full().is_some_and(|cores| (cores.value() - VM_CORES).abs() < 0.3 * VM_CORES), "{vm:?}");
    assert_eq!(problems(&store), [""; 0]);
    let interval = store.lock().prometheus().and_then(|report| report.scrape_interval);
    assert_eq!(interval, Some(Span::from_secs(1)), "found out from its answers");

    prometheus.process().pause()?;
    until("its standing still is noticed", || problems(&store) == ["PrometheusTooSlow"]).await?;
    assert!(matches!(windows(&store), (WindowAverage::Stale { .. }, WindowAverage::Stale { .. })));
    prometheus.process().resume()?;
    until("it is heard again", || windows(&store).0.full().is_some()).await?;

    drop(prometheus);
    until("its death is noticed", || problems(&store) == ["PrometheusUnreachable"]).await?;
    until("nothing old passes for fresh", || matches!(windows(&store), (WindowAverage::Stale { .. }, _))).await
}

#[tokio::test]
async fn other_labels_are_told_apart_from_no_data() -> anyhow::Result<()> {
    let (prometheus, _folder) = scraping("kubernetes_node").await?;
    let store = filled_from(prometheus.url(), Questions::default())?;
    until("the missing label is named", || problems(&store).contains(&"PrometheusMissingLabel")).await?;
    assert_eq!(windows(&store), (WindowAverage::Never, WindowAverage::Never));
    let questions = Questions { node_label: "kubernetes_node".to_owned(), ..Questions::default() };
    let store = filled_from(prometheus.url(), questions)?;
    until("the right label helps", || windows(&store).1.full().is_some()).await?;

    let questions = Questions { vm_cpu: Query::metric("no_such_metric"), ..Questions::default() };
    let store = filled_from(prometheus.url(), questions)?;
    until("a metric that nobody exposes is named", || problems(&store).contains(&"PrometheusNoSeries")).await?;

    let questions = Questions { node_cpu: Some(Query::metric("rate(")), ..Questions::default() };
    let store = filled_from(prometheus.url(), questions)?;
    until("a query that is none is named", || problems(&store).contains(&"PrometheusQueryRefused")).await
}

#[test]
fn a_url_that_is_none_is_refused_with_an_example() {
    for url in ["prometheus:9090", "ftp://prometheus", "http://"] {
        let error = connect(&Server { url: url.to_owned(), ..Server::default() }).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|text| text.contains("http://host:9090")), "{url}: {error:?}");
    }
}
