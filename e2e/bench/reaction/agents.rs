//! An agent for every node: a TLS stream each, a sample a second, spread over the second as real agents' are.

use crate::cluster::{Cluster, NAMESPACE};
use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use miyako::sim::workload::{Feeder, Meter, Pattern, Placement, Workload};
use miyako_agent::stream::{Fleet, Newest, Replicas, TlsDialer, WallClock, newest};
use miyako_core::model::{self, Cores, LoadHistory, NodeName, Span, VmKey};
use miyako_e2e::wait::{Look, until};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Nodes speak in so many turns per second.
const TURNS: usize = 25;

/// The agents.
pub(crate) struct Agents {
    feeder: Feeder,
    streams: BTreeMap<NodeName, Newest>,
    /// What the operator has been told of each node.
    told: BTreeMap<NodeName, LoadHistory>,
    /// When a VM last came to a node or left it.
    changed: BTreeMap<NodeName, Instant>,
    sequence: u64,
    turn: usize,
    next: Instant,
    placement: Arc<Placement>,
    _sessions: JoinSet<()>,
}

impl Agents {
    /// Waits for the operator's certificate, then connects everybody.
    pub(crate) async fn begin(cluster: &Cluster, folder: &Path, wire: u16) -> anyhow::Result<Self> {
        let ca_file = folder.join("ca.crt");
        std::fs::write(&ca_file, certificate(cluster).await?)?;
        let clock: WallClock = Arc::new(|| Timestamp::now().as_millisecond());
        let workload = Workload { seed: 1, patterns: cluster.patterns.clone(), noise: 0.0 };
        let mut feeder = Feeder::new(cluster.world.server.client("agents"), Meter { workload, system: 0.2 });
        let placement = feeder.placement().await?;
        let (mut streams, mut sessions) = (BTreeMap::new(), JoinSet::new());
        for (seed, node) in (1_u64..).zip(placement.keys()) {
            let token_file = folder.join(format!("{node}.token"));
            std::fs::write(&token_file, format!("system:serviceaccount:{NAMESPACE}:miyako-agent@{node}"))?;
            let (newest, dialer) = (newest(), TlsDialer { ca_file: ca_file.clone(), token_file });
            streams.insert(node.clone(), newest.clone());
            let targets = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, wire)).to_string()];
            sessions.spawn(Fleet::new(dialer, newest, Arc::clone(&clock), seed << 16).follow(Replicas { targets }));
        }
        Ok(Self {
            feeder,
            streams,
            told: BTreeMap::new(),
            changed: BTreeMap::new(),
            sequence: 1,
            turn: 0,
            next: Instant::now(),
            placement,
            _sessions: sessions,
        })
    }

    /// From now on the VM uses this share of its vCPUs.
    pub(crate) fn set(&mut self, vm: &VmKey, share: f64) {
        self.feeder.meter().workload.patterns.insert(vm.clone(), Pattern::Constant(share));
    }

    /// Lets a part of the nodes speak, when their turn has come.
    pub(crate) async fn turn(&mut self) -> anyhow::Result<()> {
        tokio::time::sleep_until(self.next.into()).await;
        self.next += Duration::from_secs(1) / u32::try_from(TURNS)?;
        if self.turn == 0 {
            let placement = self.feeder.placement().await?;
            let now = Instant::now();
            let moved = placement.iter().filter(|(name, node)| self.placement.get(*name) != Some(node));
            self.changed.extend(moved.map(|(name, _)| (name.clone(), now)));
            self.placement = placement;
        }
        let now = Timestamp::now();
        let at = model::Timestamp::from_millis(now.as_millisecond());
        let part = self.placement.iter().skip(self.turn).step_by(TURNS);
        let part: Placement = part.map(|(name, node)| (name.clone(), node.clone())).collect();
        let measured = self.feeder.meter().measure(&part, at);
        for node in &measured.nodes {
            let cores = Cores::new(node.used).unwrap_or_default();
            self.told.entry(node.node.clone()).or_default().push(at, Span::from_secs(1), cores);
        }
        for sample in measured.samples(self.sequence) {
            let stream = self.streams.get(&NodeName::new(&sample.node)).context("a node nobody knew of")?;
            stream.offer(sample);
        }
        self.turn = (self.turn + 1) % TURNS;
        self.sequence += u64::from(self.turn == 0);
        Ok(())
    }

    /// Lets everybody speak for so long.
    pub(crate) async fn speak_for(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn().await?;
        }
        Ok(())
    }

    /// Whether a VM came to the node or left it since then.
    pub(crate) fn changed_since(&self, node: &NodeName, since: Instant) -> bool {
        self.changed.get(node).is_some_and(|changed| *changed >= since)
    }

    /// What the operator has been told of a node: the average over the window, if that is full.
    pub(crate) fn average(&self, node: &NodeName, window: Span) -> Option<Cores> {
        let now = model::Timestamp::from_millis(Timestamp::now().as_millisecond());
        self.told.get(node)?.average(now, window).full()
    }
}

/// The operator's CA, once it has published it.
async fn certificate(cluster: &Cluster) -> anyhow::Result<String> {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.world.admin.clone(), NAMESPACE);
    until("the operator publishes its certificate", Duration::from_mins(1), || async {
        let data = maps.get("miyako-wire-ca").await?.data.unwrap_or_default();
        Ok(Look::some(data.get("ca.crt").filter(|pem| !pem.is_empty()).cloned(), "the ConfigMap is empty"))
    })
    .await
}
