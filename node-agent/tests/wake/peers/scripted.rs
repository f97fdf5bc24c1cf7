//! A small HTTP/1.1 server that answers as a test says, byte by byte.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// Such as `GET /redfish/v1/`.
    pub(crate) line: String,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// An answer that never comes, on a connection that stays open.
pub(crate) const HANG: &[u8] = b"hang";

/// The server; it ends with the test.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    task: AbortHandle,
}

impl Scripted {
    /// Answers every request with the bytes that `answer` returns. The connection stays open unless they hold
    /// `Connection: close`; no bytes at all close it without an answer.
    pub(crate) async fn start(
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1:0", tls, answer).await
    }

    /// The same at an address of the test's choice.
    pub(crate) async fn start_at(
        address: &str,
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, tls) = (answer.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &*answer).await,
                        Some(config) => {
                            // A client that dislikes the certificate ends the handshake.
                            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                                serve(stream, &*answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, task: task.abort_handle() }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, answer: &(dyn Fn(&Received) -> Vec<u8> + Send + Sync)) {
    let mut stream = BufReader::new(stream);
    while let Some(received) = receive(&mut stream).await {
        let bytes = answer(&received);
        if bytes == HANG {
            return std::future::pending().await;
        }
        // The client may have hung up already.
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if bytes.is_empty() || text.contains("connection: close") {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

async fn receive(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<Received> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let line = line.trim_end().strip_suffix(" HTTP/1.1").expect("HTTP/1.1").to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        match header.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Received { line, headers, body: String::from_utf8(body).unwrap() })
}

/// An answer with a length.
pub(crate) fn answer(status: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
