//! Miyako as a cluster runs it: installed by its chart, replicas of the operator as processes with the chart's own
//! ServiceAccount and no more, and agents that speak over `wire` with tokens bound to their pods.
//!
//! The chart's Deployment and DaemonSet exist and their pods are bound to nodes, but kwok only says that they run.
//! What they would do, the processes and tasks of this module do.

pub mod agents;
mod chart;

pub use agents::Agents;
pub use chart::{Chart, helm};

use crate::child::{Child, Program};
use crate::control_plane::servers::free_ports;
use crate::scene::Scene;
use crate::wait::{Look, until};
use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use miyako_api::names::ours;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The ServiceAccount of the operator, as the chart names it.
pub const OPERATOR: &str = "miyako-operator";
/// The ServiceAccount of the agents, as the chart names it.
pub const AGENT: &str = "miyako-agent";
/// The ServiceAccount of the wakers, as the chart names it.
pub const WAKER: &str = "miyako-waker";

/// How long a replica may take to see the whole cluster, or to take the lead from one that died.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// One running replica of the operator.
#[derive(Debug)]
pub struct Replica {
    program: Program,
    child: Arc<Child>,
    identity: String,
    address: Ipv4Addr,
    wire: u16,
    http: u16,
}

impl Replica {
    /// Starts `binary` as one replica, in the scenario's namespace.
    ///
    /// # Errors
    /// When the chart is not installed or the program can't be started.
    pub async fn start(scene: &Scene, binary: &Path, identity: &str) -> anyhow::Result<Self> {
        Self::start_with(scene, binary, identity, &[]).await
    }

    /// The same with more flags and their values.
    ///
    /// # Errors
    /// When the chart is not installed or the program can't be started.
    pub async fn start_with(
        scene: &Scene,
        binary: &Path,
        identity: &str,
        flags: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        Self::start_at(scene, binary, identity, Ipv4Addr::LOCALHOST, flags).await
    }

    /// The same, but agents reach it at an address of this machine that other networks see.
    ///
    /// # Errors
    /// When the chart is not installed or the program can't be started.
    pub async fn start_at(
        scene: &Scene,
        binary: &Path,
        identity: &str,
        address: Ipv4Addr,
        flags: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let kubeconfig = scene.stand().kubeconfig_for_service_account(scene.namespace(), OPERATOR).await?;
        let [wire, http] = free_ports()?;
        // The flags are those of the chart's Deployment, but for the addresses.
        let mut program = Program::new(format!("{}-{identity}", scene.namespace()), binary)
            .arg("operator")
            .flag("namespace", scene.namespace())
            .flag("lease-name", ours::LEASE)
            .flag("identity", identity)
            .flag("wire-listen", format!("{address}:{wire}"))
            .flag("http-listen", format!("127.0.0.1:{http}"))
            .flag("agent-service-account", AGENT)
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", "info,miyako=debug");
        for (name, value) in flags {
            program = program.flag(name, value);
        }
        let child = scene.start(&program)?;
        scene.show_on_failure(format!("http://127.0.0.1:{http}/metrics"));
        Ok(Self { program, child, identity: identity.to_owned(), address, wire, http })
    }

    /// Starts it again after it was killed, under the same name and at the same addresses.
    ///
    /// # Errors
    /// When it still runs, or can't be started.
    pub fn start_again(&mut self, scene: &Scene) -> anyhow::Result<()> {
        ensure!(self.child.ended()?.is_some(), "the replica {} still runs", self.identity);
        self.child = scene.start(&self.program)?;
        Ok(())
    }

    /// The process, to be paused or killed.
    #[must_use]
    pub fn process(&self) -> &Child {
        &self.child
    }

    /// The name in the Lease.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Where agents reach it.
    #[must_use]
    pub fn wire(&self) -> String {
        format!("{}:{}", self.address, self.wire)
    }

    /// Where its page and metrics are.
    #[must_use]
    pub fn page(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// What it answers to an HTTP GET: status and body.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", self.http)).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Waits until it says that it is ready: it sees the whole cluster.
    ///
    /// # Errors
    /// When it ends or that takes too long.
    pub async fn wait_ready(&self) -> anyhow::Result<()> {
        let ready = until(&format!("the replica {} is ready", self.identity), READY_WITHIN, || async {
            if let Some(status) = self.child.ended()? {
                return Ok(Look::Done(Err(status)));
            }
            let (status, text) = self.get("/readyz").await?;
            Ok(if status == 200 { Look::Done(Ok(())) } else { Look::NotYet(text) })
        })
        .await?;
        if let Err(status) = ready {
            bail!("the replica {} ended ({status}):\n{}", self.identity, self.child.tail(20));
        }
        Ok(())
    }
}

/// Waits until one of the replicas leads, and says which.
///
/// # Errors
/// When none of them does in time.
pub async fn wait_for_leader<'a>(scene: &Scene, replicas: &[&'a Replica]) -> anyhow::Result<&'a Replica> {
    let leases: Api<Lease> = Api::namespaced(scene.admin(), scene.namespace());
    until("a replica leads", READY_WITHIN, || async {
        let lease = leases.get(ours::LEASE).await?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).context("nobody holds the lease")?;
        let leader = replicas.iter().copied().find(|replica| replica.identity == holder);
        Ok(Look::some(leader, format!("{holder} holds the lease")))
    })
    .await
}
