//! Listening for agents: TCP and TLS, or whatever a simulation offers as connections.

use super::{LoadService, connection::Placed};
use futures::{FutureExt, Stream, StreamExt};
use miyako_api::wire::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_MESSAGE_BYTES, load::load_server::LoadServer};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Server, server::Connected};

/// How long a peer may take for its TLS handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// TLS handshakes under way at once; others wait in the kernel's queue.
const HANDSHAKES_AT_ONCE: usize = 64;

/// Connections at once, agents' and strangers': a thousand nodes with room to grow and to reconnect.
const CONNECTIONS_AT_ONCE: usize = 8_192;

/// Streams that one connection may open. An agent needs one.
const STREAMS_PER_CONNECTION: u32 = 4;

/// How long to wait after `accept` failed, out of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long streams may go on after the end was asked for. Agents' streams never end by themselves.
const GRACE: Duration = Duration::from_secs(1);

/// Why the wire's endpoint ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The HTTP/2 server gave up.
    #[error("the wire's HTTP/2 server ended: {0}")]
    Http(#[from] tonic::transport::Error),
}

/// Serves agents on `listener` over TLS until `stop` completes.
///
/// `tls` decides about the certificate at each handshake, so a renewed one is used without a restart.
///
/// # Errors
/// When the HTTP/2 server gives up; single connections that fail end alone.
pub async fn serve(
    service: LoadService,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (connections, incoming) = mpsc::channel(HANDSHAKES_AT_ONCE);
    let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(tls), connections));
    let served = serve_connections(service, ReceiverStream::new(incoming), stop).await;
    accepting.abort();
    served
}

/// Serves agents on connections that come from anywhere: TLS streams, or in-memory duplex streams.
///
/// # Errors
/// When the HTTP/2 server gives up.
pub async fn serve_connections<C>(
    service: LoadService,
    connections: impl Stream<Item = C>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let service = LoadServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let stop = stop.shared();
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .serve_with_incoming_shutdown(service, connections.map(Ok::<_, io::Error>), stop.clone());
    let patience = async {
        stop.await;
        sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        served = serving => Ok(served?),
        () = patience => Ok(()),
    }
}

type Connection = Placed<TlsStream<TcpStream>>;

/// Accepts connections and shakes hands, each on its own so that a slow peer delays nobody.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor, connections: mpsc::Sender<Connection>) {
    let shaking = Arc::new(Semaphore::new(HANDSHAKES_AT_ONCE));
    let open = Arc::new(Semaphore::new(CONNECTIONS_AT_ONCE));
    loop {
        let Ok(place) = open.clone().acquire_owned().await else { return };
        let Ok(handshake) = shaking.clone().acquire_owned().await else { return };
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept an agent's connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, connections) = (acceptor.clone(), connections.clone());
        tokio::spawn(async move {
            let _handshake = handshake;
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(%peer, %error, "could not set TCP_NODELAY");
            }
            match timeout(HANDSHAKE_PATIENCE, acceptor.accept(socket)).await {
                Ok(Ok(stream)) => drop(connections.send(Placed::new(stream, place)).await),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            }
        });
    }
}
