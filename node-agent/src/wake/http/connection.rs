//! One connection to a BMC's web server.

use super::Trust;
use crate::wake::{DriverError, Endpoint};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::AbortHandle,
};
use tokio_rustls::TlsConnector;

/// No BMC has more to say: the largest answer that is read.
pub(crate) const LARGEST_ANSWER: usize = 1 << 20;

/// Makes connections to one web server.
#[derive(Debug)]
pub(crate) struct Client {
    endpoint: Endpoint,
    trust: Trust,
    /// The server's key is short RSA: found out by the first handshake.
    short_rsa: AtomicBool,
}

impl Client {
    /// A client that trusts nobody else.
    #[must_use]
    pub(crate) fn new(endpoint: Endpoint, trust: Trust) -> Arc<Self> {
        Arc::new(Self { endpoint, trust, short_rsa: AtomicBool::new(false) })
    }

    /// Where it connects to.
    #[must_use]
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A connection for the exchanges of one call, made when the first is asked for.
    #[must_use]
    pub(crate) fn connection(self: &Arc<Self>) -> Connection {
        Connection { client: Arc::clone(self), open: None }
    }

    fn unreachable(&self, why: &dyn fmt::Display) -> DriverError {
        DriverError::Unreachable { address: self.endpoint.authority(), why: why.to_string() }
    }

    async fn connect(&self) -> Result<Open, DriverError> {
        match self.connect_once().await {
            // The first handshake showed that the key is short RSA; the next is made for it, if the server speaks TLS 1.2.
            Err(first) if self.short_rsa.load(Ordering::Relaxed) => match self.connect_once().await {
                Err(DriverError::Tls(_)) => Err(first),
                second => second,
            },
            connected => connected,
        }
    }

    async fn connect_once(&self) -> Result<Open, DriverError> {
        let host = self.endpoint.to_resolve();
        let stream =
            TcpStream::connect((host.as_str(), self.endpoint.port)).await.map_err(|error| self.unreachable(&error))?;
        if !self.endpoint.tls {
            return self.shake_hands(stream).await;
        }
        let short_rsa = self.short_rsa.load(Ordering::Relaxed);
        let (config, seen) = self.trust.client_config(short_rsa)?;
        let name =
            ServerName::try_from(self.endpoint.host.clone()).map_err(|error| DriverError::Tls(error.to_string()))?;
        match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            Ok(stream) => self.shake_hands(HangsUp(stream)).await,
            Err(error) => {
                // After a handshake for a short key that fails, another certificate may have taken its place.
                self.short_rsa.store(seen.wants_short_rsa() && !short_rsa, Ordering::Relaxed);
                Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    Some(error) => self.trust.explain(error, &seen),
                    None => self.unreachable(&format!("TLS: {error}")),
                })
            }
        }
    }

    async fn shake_hands(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Open, DriverError> {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(&error))?;
        // Ends with the sender; its errors come back through the exchange.
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Open { sender, task: task.abort_handle() })
    }
}

/// A stream whose other side hangs up without a word: many BMCs end TLS without its `close_notify`. What that cuts short is
/// seen by HTTP where an answer has a length, and by JSON or XML where it has none.
struct HangsUp<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for HangsUp<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(context, buffer) {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HangsUp<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

struct Open {
    sender: SendRequest<Full<Bytes>>,
    task: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection that is made anew when the server closes it between two exchanges.
pub(crate) struct Connection {
    client: Arc<Client>,
    open: Option<Open>,
}

impl Connection {
    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    ///
    /// No connection, a certificate that isn't trusted, a broken or endless answer. A request is sent at most once.
    pub(crate) async fn exchange(&mut self, mut request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, DriverError> {
        let host = HeaderValue::try_from(self.client.endpoint.authority())
            .map_err(|error| DriverError::Local(error.to_string()))?;
        request.headers_mut().insert(header::HOST, host);
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.client.connect().await?,
        };
        if open.sender.ready().await.is_err() {
            open = self.client.connect().await?;
        }
        let answer = match open.sender.try_send_request(request).await {
            Ok(answer) => answer,
            Err(mut failed) => match failed.take_message() {
                // The server closed while idle; nothing was written.
                Some(request) => {
                    open = self.client.connect().await?;
                    open.sender.send_request(request).await.map_err(|error| self.client.unreachable(&error))?
                }
                None => return Err(self.broken(&failed.into_error())),
            },
        };
        let (head, body) = answer.into_parts();
        let body = match Limited::new(body, LARGEST_ANSWER).collect().await {
            Ok(body) => body.to_bytes().to_vec(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(DriverError::Garbled(format!("more than {LARGEST_ANSWER} bytes")));
            }
            Err(error) => return Err(self.client.unreachable(&format!("the answer broke off: {error}"))),
        };
        self.open = Some(open);
        Ok(Response::from_parts(head, body))
    }

    fn broken(&self, error: &hyper::Error) -> DriverError {
        if error.is_parse() {
            DriverError::Garbled(format!("no HTTP: {error}"))
        } else {
            self.client.unreachable(error)
        }
    }
}
