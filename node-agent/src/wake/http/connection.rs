//! One connection to a BMC's web server.

use super::{Endpoint, Trust};
use crate::wake::DriverError;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::{fmt, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
};
use tokio_rustls::TlsConnector;

/// No BMC has more to say: the largest answer that is read.
pub(crate) const LARGEST_ANSWER: usize = 1 << 20;

/// Makes connections to one web server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    endpoint: Endpoint,
    trust: Trust,
}

impl Client {
    /// A client that trusts nobody else.
    #[must_use]
    pub(crate) fn new(endpoint: Endpoint, trust: Trust) -> Self {
        Self { endpoint, trust }
    }

    /// A connection for the exchanges of one call, made when the first is asked for.
    #[must_use]
    pub(crate) fn connection(&self) -> Connection<'_> {
        Connection { client: self, open: None }
    }

    fn unreachable(&self, why: &dyn fmt::Display) -> DriverError {
        DriverError::Unreachable { address: self.endpoint.authority(), why: why.to_string() }
    }

    async fn connect(&self) -> Result<Open, DriverError> {
        let address = (self.endpoint.host.as_str(), self.endpoint.port);
        let stream = TcpStream::connect(address).await.map_err(|error| self.unreachable(&error))?;
        if !self.endpoint.tls {
            return self.shake_hands(stream).await;
        }
        let (config, seen) = self.trust.client_config()?;
        let name =
            ServerName::try_from(self.endpoint.host.clone()).map_err(|error| DriverError::Tls(error.to_string()))?;
        match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            Ok(stream) => self.shake_hands(stream).await,
            Err(error) => Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(error) => self.trust.explain(error, seen.get()),
                None => self.unreachable(&format!("TLS: {error}")),
            }),
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
pub(crate) struct Connection<'a> {
    client: &'a Client,
    open: Option<Open>,
}

impl Connection<'_> {
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
