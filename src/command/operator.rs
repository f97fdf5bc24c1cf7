//! `miyako operator`: one replica of the operator in a cluster.

use crate::act::{Actor, Fence};
use crate::certificate::kept::Keeper;
use crate::certificate::mounted::{self, MountedError};
use crate::certificate::presented::{Presented, PresentedError};
use crate::clock::{Clock, SystemClock, machine_uptime};
use crate::command::prometheus::PrometheusArgs;
use crate::controller::{Candidate, Leadership, LeaseTimes, Metrics, Operator, Options, View};
use crate::observe::load::SharedLoadStore;
use crate::observe::load::agents::{AgentAccount, LoadService, TokenReviewer, serve};
use crate::observe::load::prometheus::ConnectError;
use crate::observe::{Observer, Settings};
use crate::web;
use clap::Args;
use kube::Client;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Flags of `miyako operator`.
#[derive(Debug, Clone, Args)]
pub struct OperatorArgs {
    /// The operator's own namespace: its Lease, its certificate, the switches of `miyako pause` and `hold`.
    #[arg(long, env = "POD_NAMESPACE", default_value = "miyako-system")]
    pub namespace: String,
    /// The Lease that tells the replicas who leads.
    #[arg(long, default_value = miyako_api::names::ours::LEASE)]
    pub lease_name: String,
    /// This replica's name in the Lease and in Events; each replica needs its own.
    #[arg(long, env = "POD_NAME", default_value = "miyako-operator")]
    pub identity: String,
    /// Where agents report.
    #[arg(long, default_value = "0.0.0.0:9443", value_name = "ADDRESS:PORT")]
    pub wire_listen: SocketAddr,
    /// Where health, metrics and the page are served.
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS:PORT")]
    pub http_listen: SocketAddr,
    /// The ServiceAccount of the agents, in the operator's namespace.
    #[arg(long, default_value = "miyako-agent", value_name = "NAME")]
    pub agent_service_account: String,
    /// The ServiceAccount of the wakers, in the operator's namespace: they tell what the nodes' BMCs measure.
    #[arg(long, default_value = "miyako-waker", value_name = "NAME")]
    pub waker_service_account: String,
    /// A directory with tls.crt and tls.key for the agents' endpoint (a cert-manager Secret, mounted). Without it the
    /// operator makes and renews its own certificate.
    #[arg(long, value_name = "DIR")]
    pub tls_dir: Option<PathBuf>,
    /// Load from Prometheus.
    #[command(flatten)]
    pub prometheus: PrometheusArgs,
    /// Decides where a policy asks for randomness; replicas may share it.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Why the operator could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No way to the API server.
    #[error("cannot tell how to reach the API server: run in a pod with a ServiceAccount, or set KUBECONFIG")]
    Config(#[source] kube::config::InferConfigError),
    /// The client could not be built.
    #[error("cannot build a client for the API server")]
    Client(#[source] kube::Error),
    /// An address is taken.
    #[error("cannot listen on {address} (--{flag}); is another process there?")]
    Listen {
        /// The flag that names it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificate's place.
    #[error("cannot prepare the agents' endpoint")]
    Tls(#[source] PresentedError),
    /// The mounted certificate.
    #[error("cannot use the certificate in --tls-dir")]
    Mounted(#[source] MountedError),
    /// The metrics clash: a mistake of ours.
    #[error("cannot register the metrics")]
    Metrics(#[source] prometheus::Error),
    /// The Prometheus server's flags.
    #[error("cannot ask Prometheus for load (--prometheus-url)")]
    Prometheus(#[source] ConnectError),
    /// Signals.
    #[error("cannot listen for signals")]
    Signal(#[source] std::io::Error),
}

/// The longest that one answer of the API server may take. Shorter than the lease's renew deadline, so that one hung
/// request does not cost the lead.
const PATIENCE: Duration = Duration::from_secs(8);

/// Runs until it is told to stop (SIGTERM, Ctrl-C); the lease is then given back.
///
/// # Errors
/// When it cannot start: see [`OperatorError`].
pub async fn run(args: OperatorArgs) -> Result<(), OperatorError> {
    let mut config = kube::Config::infer().await.map_err(OperatorError::Config)?;
    config.write_timeout = Some(PATIENCE);
    let client = Client::try_from(config).map_err(OperatorError::Client)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Metrics::new().map_err(OperatorError::Metrics)?;
    let store = SharedLoadStore::default();
    let leadership = Leadership::new(LeaseTimes::default(), machine_uptime());

    let mut candidate = Candidate::new(
        client.clone(),
        &args.namespace,
        &args.lease_name,
        &args.identity,
        leadership.clone(),
        clock.clone(),
    );
    let actor = Actor::new(client.clone(), leadership.clone(), clock.clone(), args.identity.clone());
    let settings = Settings { namespace: args.namespace.clone(), seed: args.seed };
    let observer = Observer::start(client.clone(), clock.clone(), &settings);
    let options = Options { seed: args.seed, ..Options::default() };
    let operator =
        Operator::new(actor, observer, store.clone(), leadership.clone(), metrics.clone(), clock.clone(), options);
    let (view, onlookers) = (operator.view(), operator.onlookers());

    let wire = listen("wire-listen", args.wire_listen).await?;
    let http = listen("http-listen", args.http_listen).await?;
    tracing::info!(wire = %args.wire_listen, http = %args.http_listen, "listening");
    let presented = present(&args, &client, &clock, &leadership).await?;
    let tls = presented.server_config().map_err(OperatorError::Tls)?;
    let reviewer = |name: &String| {
        let account = AgentAccount { namespace: args.namespace.clone(), name: name.clone() };
        Arc::new(TokenReviewer::new(client.clone(), account))
    };
    let (agents, wakers) = (reviewer(&args.agent_service_account), reviewer(&args.waker_service_account));
    if let Some(poller) = args.prometheus.poller(store.clone(), clock.clone()).map_err(OperatorError::Prometheus)? {
        tokio::spawn(poller.poll());
    }
    let service = LoadService::new(agents, store, clock).with_wakers(wakers);

    let mut terminate = signal(SignalKind::terminate()).map_err(OperatorError::Signal)?;
    let stop = async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let ready = {
        let view = view.clone();
        move || is_ready(&view.borrow())
    };
    tokio::select! {
        biased;
        () = stop => tracing::info!("stopping"),
        () = operator.run() => {}
        () = candidate.run() => {}
        ended = serve(service, wire, tls, std::future::pending()) => {
            if let Err(error) = ended {
                tracing::error!(error = crate::error_chain(&error), "the agents' endpoint ended");
            }
        }
        ended = web::serve(http, web::Site { metrics, view, onlookers, ready: Arc::new(ready), speed: None }) => {
            if let Err(error) = ended {
                tracing::error!(%error, "the web server ended");
            }
        }
    }
    if let Err(error) = candidate.release().await {
        tracing::warn!(error = crate::error_chain(&error), "could not give the lease back; it ends by itself");
    }
    Ok(())
}

/// Ready: the picture of the cluster is complete, so that this replica could lead.
fn is_ready(view: &View) -> Result<(), String> {
    match &view.incomplete {
        _ if view.at == miyako_core::model::Timestamp::default() => Err("no pass yet".to_owned()),
        Some(missing) => Err(missing.clone()),
        None => Ok(()),
    }
}

async fn listen(flag: &'static str, address: SocketAddr) -> Result<TcpListener, OperatorError> {
    TcpListener::bind(address).await.map_err(|source| OperatorError::Listen { flag, address, source })
}

async fn present(
    args: &OperatorArgs,
    client: &Client,
    clock: &Arc<dyn Clock>,
    leadership: &Arc<Leadership>,
) -> Result<Presented, OperatorError> {
    let presented = Presented::default();
    if let Some(directory) = &args.tls_dir {
        mounted::show(directory, &presented).await.map_err(OperatorError::Mounted)?;
        tokio::spawn(mounted::follow(directory.clone(), presented.clone()));
    } else {
        let (clock, leadership) = (clock.clone(), leadership.clone());
        let keeper = Keeper {
            client: client.clone(),
            namespace: args.namespace.clone(),
            presented: presented.clone(),
            clock,
            may_write: Arc::new(move || leadership.holds()),
        };
        tokio::spawn(keeper.keep());
    }
    Ok(presented)
}
