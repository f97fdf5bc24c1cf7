//! Getting a connection to one replica, and showing who we are.

use miyako_api::wire::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, SERVER_NAME};
use std::{fmt, io, net::SocketAddr, path::PathBuf, time::Duration};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

/// How long TCP and TLS together may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// A connection, and what to show on it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The HTTP/2 connection.
    pub channel: Channel,
    /// The `authorization` metadata, if there is any to show.
    pub authorization: Option<MetadataValue<Ascii>>,
}

/// Dials replicas.
pub trait Dial: Send + Sync + 'static {
    /// What tells one replica from another.
    type Address: Clone + Ord + fmt::Display + Send + Sync + 'static;

    /// A new connection to `replica`.
    fn dial(&self, replica: &Self::Address) -> impl Future<Output = Result<Connection, DialError>> + Send;
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// A file that is needed could not be read.
    #[error("could not read {}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The token contains what no token contains.
    #[error("{} holds no token: it must be one line of printable ASCII", .0.display())]
    Token(PathBuf),
    /// The connection or the TLS handshake failed.
    #[error("could not connect: {}", chain(.0))]
    Connect(#[from] tonic::transport::Error),
}

/// tonic's own text says only "transport error"; what happened is among its sources.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Dials over TCP and TLS. It trusts the operator's CA and nothing else, and shows a ServiceAccount token. Both
/// files are read at each dial: they change while we run.
#[derive(Debug, Clone)]
pub struct TlsDialer {
    /// The CA certificates that the operator publishes, as PEM.
    pub ca_file: PathBuf,
    /// The projected ServiceAccount token.
    pub token_file: PathBuf,
}

impl Dial for TlsDialer {
    type Address = SocketAddr;

    async fn dial(&self, replica: &SocketAddr) -> Result<Connection, DialError> {
        let ca = read(&self.ca_file).await?;
        let token = read(&self.token_file).await?;
        let mut authorization: MetadataValue<Ascii> = std::str::from_utf8(&token)
            .ok()
            .map(str::trim)
            .filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))
            .and_then(|token| format!("Bearer {token}").parse().ok())
            .ok_or_else(|| DialError::Token(self.token_file.clone()))?;
        authorization.set_sensitive(true);
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name(SERVER_NAME);
        let endpoint = endpoint(format!("https://{replica}"))?.tls_config(tls)?;
        Ok(Connection { channel: endpoint.connect().await?, authorization: Some(authorization) })
    }
}

/// The settings that every connection to an operator has, whatever carries it.
///
/// # Errors
/// When `uri` is none.
pub fn endpoint(uri: String) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(uri)?
        .connect_timeout(CONNECT_PATIENCE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

async fn read(path: &PathBuf) -> Result<Vec<u8>, DialError> {
    tokio::fs::read(path).await.map_err(|source| DialError::File { path: path.clone(), source })
}
