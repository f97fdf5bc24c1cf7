//! A node's virt-handler as the stand sees it: a process that is told what to do through a socket.

use super::error::NodeError;
use super::proxy::{Answer, Carried, Port, Request};
use crate::child::Child;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// How long an answer may take. A frozen node never answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running virt-handler.
#[derive(Debug)]
pub struct Handler {
    node: String,
    control: PathBuf,
    process: Child,
}

impl Handler {
    pub(super) fn new(node: &str, control: PathBuf, process: Child) -> Self {
        Self { node: node.to_owned(), control, process }
    }

    /// The process, to be paused or killed.
    #[must_use]
    pub fn process(&self) -> &Child {
        &self.process
    }

    /// Makes it the target of a migration. Returns its ports.
    ///
    /// # Errors
    /// When it does not answer or can't.
    pub async fn receive(
        &self,
        migration: &str,
        sockets: BTreeMap<Port, PathBuf>,
    ) -> Result<BTreeMap<Port, u16>, NodeError> {
        match self.ask(&Request::Receive { migration: migration.to_owned(), sockets }).await? {
            Answer::Listening(ports) => Ok(ports),
            other => Err(self.unexpected(other)),
        }
    }

    /// Makes it the source of a migration.
    ///
    /// # Errors
    /// When it does not answer or can't.
    pub async fn send(
        &self,
        migration: &str,
        sockets: BTreeMap<Port, PathBuf>,
        address: IpAddr,
        ports: BTreeMap<Port, u16>,
    ) -> Result<(), NodeError> {
        let request = Request::Send { migration: migration.to_owned(), sockets, address, ports };
        match self.ask(&request).await? {
            Answer::Done => Ok(()),
            other => Err(self.unexpected(other)),
        }
    }

    /// What a migration's connections carried so far.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn carried(&self, migration: &str) -> Result<Carried, NodeError> {
        match self.ask(&Request::Look { migration: migration.to_owned() }).await? {
            Answer::Carried(carried) => Ok(carried),
            other => Err(self.unexpected(other)),
        }
    }

    /// Ends its part in a migration.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn close(&self, migration: &str) -> Result<(), NodeError> {
        self.ask(&Request::Close { migration: migration.to_owned() }).await.map(drop)
    }

    async fn ask(&self, request: &Request) -> Result<Answer, NodeError> {
        let answer = tokio::time::timeout(PATIENCE, exchange(&self.control, request)).await;
        match answer {
            Ok(Ok(Answer::Refused(message))) => Err(self.error(message)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.error(error.to_string())),
            Err(_) => Err(self.error(format!("no answer within {PATIENCE:?}"))),
        }
    }

    fn unexpected(&self, answer: Answer) -> NodeError {
        self.error(format!("an answer to another question: {answer:?}"))
    }

    fn error(&self, message: String) -> NodeError {
        NodeError::Handler { node: self.node.clone(), message }
    }
}

async fn exchange(control: &Path, request: &Request) -> std::io::Result<Answer> {
    let mut stream = BufReader::new(UnixStream::connect(control).await?);
    let text = serde_json::to_string(request)? + "\n";
    stream.write_all(text.as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(serde_json::from_str(&line)?)
}
