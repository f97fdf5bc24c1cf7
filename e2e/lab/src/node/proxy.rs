//! The part of virt-handler that carries migrations between nodes, as a process in its node's network.
//!
//! As KubeVirt has it (`pkg/virt-handler/migration-proxy/`): at the source it listens on the Unix sockets in the
//! launcher's mount namespace and opens one connection to the target for each that it accepts, TLS at both ends; at the
//! target it listens on random ports and connects each of their connections to the Unix socket of the target's launcher.
//! It copies bytes and understands none of them.

use super::certificates::{SERVER_NAME, configurations};
use anyhow::Context as _;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Which of a launcher's sockets: 0 is libvirt's control connection, [`DIRECT_PORT`] QEMU's.
pub type Port = u16;
/// QEMU's migration.
pub const DIRECT_PORT: Port = 49152;

/// What the stand asks of a virt-handler: one line of JSON, answered by one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Be the target of a migration.
    Receive {
        /// The migration's name.
        migration: String,
        /// Where the target launcher's sockets are, seen from the host.
        sockets: BTreeMap<Port, PathBuf>,
    },
    /// Be the source of a migration.
    Send {
        /// The migration's name.
        migration: String,
        /// Where the source launcher's sockets will be, seen from the host.
        sockets: BTreeMap<Port, PathBuf>,
        /// The target virt-handler's address.
        address: IpAddr,
        /// Its ports.
        ports: BTreeMap<Port, u16>,
    },
    /// How far a migration is.
    Look {
        /// Its name.
        migration: String,
    },
    /// Ends a migration's connections and listeners. One that is not known is fine.
    Close {
        /// Its name.
        migration: String,
    },
}

/// What a virt-handler answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// It is done.
    Done,
    /// It listens on these of its TCP ports.
    Listening(BTreeMap<Port, u16>),
    /// What a migration's connections carried.
    Carried(Carried),
    /// It can't.
    Refused(String),
}

/// What a migration's connections carried so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that are over.
    pub ended: u64,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    ended: AtomicU64,
}

/// A migration's listeners and connections; they end when it is dropped.
#[derive(Default)]
struct Migration {
    listeners: JoinSet<()>,
    counts: Arc<Counts>,
    /// Sockets of ours in a launcher's folder.
    made: Vec<PathBuf>,
}

impl Drop for Migration {
    fn drop(&mut self) {
        for socket in &self.made {
            // It is gone already when its launcher is.
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// How to run one.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// The node's address, where connections of other virt-handlers arrive.
    #[arg(long)]
    pub address: IpAddr,
    /// The socket at which it is told what to do.
    #[arg(long)]
    pub control: PathBuf,
    /// The folder with its certificate, key and authority.
    #[arg(long)]
    pub certificates: PathBuf,
}

/// Proxies until it is killed.
///
/// # Errors
/// When it can't listen or has no certificate.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let (server, client) = configurations(&settings.certificates).context("certificates")?;
    let mut proxy = Proxy {
        address: settings.address,
        acceptor: TlsAcceptor::from(server),
        connector: TlsConnector::from(client),
        migrations: BTreeMap::new(),
    };
    let control = UnixListener::bind(&settings.control).context("the control socket")?;
    loop {
        let (stream, _) = control.accept().await.context("the control socket")?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
            let answer = match serde_json::from_str(&line) {
                Ok(request) => {
                    proxy.answer(request).await.unwrap_or_else(|error| Answer::Refused(format!("{error:#}")))
                }
                Err(error) => Answer::Refused(format!("not a request: {error}")),
            };
            line.clear();
            let text = serde_json::to_string(&answer)? + "\n";
            if stream.write_all(text.as_bytes()).await.is_err() {
                break;
            }
        }
    }
}

struct Proxy {
    address: IpAddr,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    migrations: BTreeMap<String, Migration>,
}

impl Proxy {
    async fn answer(&mut self, request: Request) -> anyhow::Result<Answer> {
        match request {
            Request::Receive { migration, sockets } => {
                let mut ports = BTreeMap::new();
                let mut receiving = Migration::default();
                for (port, socket) in sockets {
                    let listener = TcpListener::bind((self.address, 0)).await.context("a port")?;
                    ports.insert(port, listener.local_addr()?.port());
                    let counts = Arc::clone(&receiving.counts);
                    receiving.listeners.spawn(receive(listener, self.acceptor.clone(), socket, counts));
                }
                self.migrations.insert(migration, receiving);
                Ok(Answer::Listening(ports))
            }
            Request::Send { migration, sockets, address, ports } => {
                let mut sending = Migration::default();
                for (port, socket) in sockets {
                    let to = *ports.get(&port).with_context(|| format!("no port of the target for {port}"))?;
                    // One of an earlier migration from this launcher, which failed.
                    let _ = std::fs::remove_file(&socket);
                    let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
                    sending.made.push(socket);
                    let target = SocketAddr::new(address, to);
                    let counts = Arc::clone(&sending.counts);
                    sending.listeners.spawn(send(listener, self.connector.clone(), target, counts));
                }
                self.migrations.insert(migration, sending);
                Ok(Answer::Done)
            }
            Request::Look { migration } => {
                let counts = self.migrations.get(&migration).map(|migration| &migration.counts);
                Ok(Answer::Carried(counts.map_or_else(Carried::default, |counts| Carried {
                    connections: counts.connections.load(Ordering::Relaxed),
                    ended: counts.ended.load(Ordering::Relaxed),
                })))
            }
            Request::Close { migration } => {
                self.migrations.remove(&migration);
                Ok(Answer::Done)
            }
        }
    }
}

/// At the target: from the network to the launcher's socket.
async fn receive(listener: TcpListener, acceptor: TlsAcceptor, socket: PathBuf, counts: Arc<Counts>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, socket) = (acceptor.clone(), socket.clone());
        connections.spawn(counted(Arc::clone(&counts), async move {
            let stream = acceptor.accept(stream).await.context("TLS")?;
            join(stream, connect(&socket).await?).await
        }));
        while connections.try_join_next().is_some() {}
    }
}

/// At the source: from the launcher's socket to the network.
async fn send(listener: UnixListener, connector: TlsConnector, target: SocketAddr, counts: Arc<Counts>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let connector = connector.clone();
        connections.spawn(counted(Arc::clone(&counts), async move {
            let tcp = TcpStream::connect(target).await.with_context(|| target.to_string())?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from(SERVER_NAME)?;
            join(connector.connect(name, tcp).await.context("TLS")?, stream).await
        }));
        while connections.try_join_next().is_some() {}
    }
}

async fn counted(counts: Arc<Counts>, connection: impl Future<Output = anyhow::Result<()>>) {
    counts.connections.fetch_add(1, Ordering::Relaxed);
    if let Err(error) = connection.await {
        tracing::info!("a connection ended: {error:#}");
    }
    counts.ended.fetch_add(1, Ordering::Relaxed);
}

async fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    UnixStream::connect(socket).await.with_context(|| socket.display().to_string())
}

async fn join(mut one: impl AsyncRead + AsyncWrite + Unpin, mut other: UnixStream) -> anyhow::Result<()> {
    copy_bidirectional(&mut one, &mut other).await?;
    Ok(())
}
