//! `miyako-agent waker`: the agent in its waker role.

use anyhow::Context as _;
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};
use miyako_agent::{
    stream::{Replicas, TlsDialer, WallClock},
    wake::{AllowedHosts, KeptDrivers},
    waker::{
        Waker as Role,
        meters::{Board, Meters, Teller},
    },
};
use std::{path::PathBuf, sync::Arc};

#[derive(Args)]
pub(crate) struct Waker {
    /// What this replica is called, which no other may be: the pod's name, from the downward API.
    #[arg(long, env = "POD_NAME")]
    pub(crate) name: String,
    /// How to reach the API server. By default the pod's ServiceAccount, or what KUBECONFIG names.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Where the operator listens, as host:port: it is told what the nodes' BMCs measure. A headless Service's name stands
    /// for all replicas behind it. Without it no BMC is asked for watts.
    #[arg(long = "operator", env = "MIYAKO_OPERATOR", value_name = "HOST:PORT", value_delimiter = ',')]
    targets: Vec<String>,
    /// The hosts that BMC accounts may be shown to, whatever classes say: names, *.DOMAIN, addresses and networks, apart by
    /// commas. Without it a Secret's annotation miyako.dev/allowed-hosts alone narrows them.
    #[arg(long, env = "MIYAKO_ALLOWED_HOSTS", default_value = "", value_name = "HOSTS")]
    allowed_hosts: AllowedHosts,
    /// The CA certificates that the operator publishes (PEM). Nothing else is trusted.
    #[arg(long, env = "MIYAKO_CA_FILE", default_value = "/var/run/miyako/ca/ca.crt", value_name = "FILE")]
    ca_file: PathBuf,
    /// The projected ServiceAccount token with the audience `miyako.dev`.
    #[arg(long, env = "MIYAKO_TOKEN_FILE", default_value = "/var/run/miyako/token/token", value_name = "FILE")]
    token_file: PathBuf,
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
    // Waking and reading share the drivers: a password that was refused to one is not tried by the other.
    let drivers = Arc::new(KeptDrivers::within(flags.allowed_hosts));
    let role = Role::new(client.clone(), flags.name, clock, drivers.clone(), seed);
    let scene = role.scene();
    let measuring = async {
        if flags.targets.is_empty() {
            return std::future::pending().await;
        }
        let board = Board::default();
        let meters = Meters::new(client, drivers, scene, board.clone());
        let teller = Teller::new(TlsDialer { ca_file: flags.ca_file, token_file: flags.token_file }, board);
        tokio::join!(meters.run(), teller.follow(Replicas { targets: flags.targets }));
    };
    tokio::select! {
        () = role.run() => {}
        () = measuring => {}
    }
    Ok(())
}
