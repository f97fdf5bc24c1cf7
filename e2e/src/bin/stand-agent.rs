//! A node's agent for the control-plane stand: the real one's streams and its power room, on a machine that the stand
//! plays ([`miyako_e2e::machine`]) and with loads that the stand writes into a file.

// An edge: it runs by the real clock.
#![allow(clippy::disallowed_methods)]

use clap::Parser;
use futures::FutureExt as _;
use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use miyako_agent::generator::{Carry, Generator, Scenario};
use miyako_agent::power::{self, Settings, order::LONGEST_ALARM, preflight::WakeSource};
use miyako_agent::stream::{Fleet, Replicas, TlsDialer, WallClock};
use miyako_e2e::machine::RemoteHost;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often the file of loads is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Speaks for one node and obeys its orders.
#[derive(Parser)]
struct Flags {
    /// The Node's name.
    #[arg(long)]
    node: String,
    /// The socket of its machine.
    #[arg(long)]
    machine: PathBuf,
    /// The kubeconfig of its agent's pod.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// What it is to tell, as a generator's scenario of one node.
    #[arg(long)]
    load: PathBuf,
    /// Where the operator's replicas listen.
    #[arg(long = "operator", required = true)]
    targets: Vec<String>,
    /// The operator's certificate authority.
    #[arg(long)]
    ca_file: PathBuf,
    /// Makes its waits differ from other agents'.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let flags = Flags::parse();
    let clock: WallClock = Arc::new(|| Timestamp::now().as_millisecond());
    let file = Kubeconfig::read_from(&flags.kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    let settings = Settings {
        node: flags.node,
        wake_source: WakeSource::Controller,
        longest_sleep: LONGEST_ALARM,
        samples: None,
        version: env!("CARGO_PKG_VERSION"),
    };
    let connect = Box::new(move || kube::Client::try_from(config.clone()));
    let host = Arc::new(RemoteHost::new(flags.machine));
    let obeying = power::run(connect, settings, host, Arc::clone(&clock), flags.seed);
    let (targets, ca_file) = (flags.targets, flags.ca_file);
    let carry: Carry = Box::new(move |node, newest, clock, seed| {
        let dialer = TlsDialer { ca_file: ca_file.clone(), token_file: node.token_file.clone() };
        Fleet::new(dialer, newest, clock, seed).follow(Replicas { targets: targets.clone() }).boxed()
    });
    tokio::select! {
        () = speak(Generator::new(carry, clock, flags.seed), &flags.load) => Ok(()),
        Err(error) = obeying => Err(error.into()),
    }
}

/// Says what the file says, whenever it changes. It is replaced by a rename, so there is never half of it.
async fn speak(mut generator: Generator, file: &Path) {
    let mut said = String::new();
    loop {
        match std::fs::read_to_string(file) {
            Ok(text) if text != said => match Scenario::parse(&text) {
                Ok(scenario) => {
                    generator.set_scenario(scenario);
                    said = text;
                }
                Err(error) => tracing::error!(%error, "kept the loads before"),
            },
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "no loads"),
        }
        tokio::time::sleep(LOOK).await;
    }
}
