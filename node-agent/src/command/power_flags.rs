//! The flags of `miyako-agent run` for the node's sleep.

use super::power::wake_after;
use anyhow::Context as _;
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};
use miyako_agent::{
    power::{self, KubeletProbe, LinuxHost, preflight::WakeSource},
    stream::{SampleLog, WallClock},
};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// How the node sleeps and wakes.
#[derive(Args)]
pub(crate) struct PowerFlags {
    /// Obey the operator's orders to sleep. The agent must run as root in a privileged container, in the host's process
    /// namespace, with the host's /run/dbus.
    #[arg(long = "power", env = "MIYAKO_POWER")]
    enabled: bool,
    /// Where the machine's proc, sys and run are.
    #[arg(long, default_value = "/", value_name = "DIR")]
    host_root: PathBuf,
    /// What wakes this node. With network-card, it refuses to sleep while none is set to (Wake-on-LAN).
    #[arg(long, env = "MIYAKO_WAKE_SOURCE", value_enum, default_value = "controller")]
    wake_source: WakeSource,
    /// When the node's own clock wakes it if nothing else does, as in 90m or 12h; at most 23h.
    #[arg(
        long,
        env = "MIYAKO_LONGEST_SLEEP",
        default_value = "12h",
        value_name = "TIME",
        value_parser = wake_after
    )]
    longest_sleep: Duration,
    /// Where the kubelet's /healthz listens on the node.
    #[arg(long, env = "MIYAKO_KUBELET_HEALTHZ", default_value = KubeletProbe::DEFAULT, value_name = "ADDRESS:PORT")]
    kubelet_healthz: SocketAddr,
}

impl PowerFlags {
    /// Obeys orders for ever, if it is to.
    pub(crate) async fn obey(
        self,
        node: String,
        kubeconfig: Option<PathBuf>,
        (clock, samples): (WallClock, SampleLog),
        seed: u64,
    ) -> anyhow::Result<()> {
        if !self.enabled {
            return Ok(());
        }
        let config = match kubeconfig {
            None => kube::Config::infer().await.context("--power needs the API server")?,
            Some(path) => {
                let file = Kubeconfig::read_from(&path).with_context(|| path.display().to_string())?;
                kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
            }
        };
        let connect = Box::new(move || kube::Client::try_from(config.clone()));
        let kubelet = KubeletProbe::on_host(self.kubelet_healthz, &self.host_root.join("proc"));
        let host = Arc::new(LinuxHost::new(self.host_root, kubelet));
        let settings = power::Settings {
            node,
            wake_source: self.wake_source,
            longest_sleep: self.longest_sleep,
            samples: Some(samples),
            version: env!("CARGO_PKG_VERSION"),
        };
        match power::run(connect, settings, host, clock, seed).await.context("--power needs the API server")? {}
    }
}
