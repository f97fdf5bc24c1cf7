//! `miyako-agent waker`: the agent in its waker role.

use anyhow::Context as _;
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};
use miyako_agent::{stream::WallClock, wake::KeptDrivers, waker};
use std::{path::PathBuf, sync::Arc};

#[derive(Args)]
pub(crate) struct Waker {
    /// What this replica is called, which no other may be: the pod's name, from the downward API.
    #[arg(long, env = "POD_NAME")]
    pub(crate) name: String,
    /// How to reach the API server. By default the pod's ServiceAccount, or what KUBECONFIG names.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Wakes nodes for ever.
pub(crate) async fn run(flags: Waker, clock: WallClock, seed: u64) -> anyhow::Result<()> {
    let config = match flags.kubeconfig {
        None => kube::Config::infer().await.context("the waker needs the API server")?,
        Some(path) => {
            let file = Kubeconfig::read_from(&path).with_context(|| path.display().to_string())?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
        }
    };
    let client = kube::Client::try_from(config).context("the waker needs the API server")?;
    tracing::info!(name = flags.name, "waking nodes on order");
    waker::Waker::new(client, flags.name, clock, Arc::new(KeptDrivers::default()), seed).run().await;
    Ok(())
}
