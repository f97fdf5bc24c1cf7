//! Tells every replica of the operator what was read, and hears from it whether to go on.

use super::Board;
use crate::stream::{Connection, Dial, Replicas, TlsDialer};
use futures::future::join_all;
use miyako_api::wire::{
    MAX_MESSAGE_BYTES, MAX_READINGS, TELL_INTERVAL,
    load::{Readings, Wanted, load_client::LoadClient},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::Request;

/// How long dialling and one call may take: a replica that hangs keeps the others waiting no longer.
const PATIENCE: Duration = Duration::from_secs(4);

/// A connection is dialled anew after this time, to show a fresh token.
const LIFETIME: Duration = Duration::from_secs(600);

/// Calls replicas.
pub struct Teller<D: Dial> {
    dial: D,
    board: Board,
    lines: BTreeMap<D::Address, Line>,
    /// What each replica that can't be told said last: logged once.
    problems: BTreeMap<D::Address, String>,
}

/// A connection to a replica.
struct Line {
    connection: Connection,
    since: Instant,
    /// The number of the last reading that it was told.
    told: u64,
}

impl<D: Dial> Teller<D> {
    /// Tells what is on `board`.
    #[must_use]
    pub fn new(dial: D, board: Board) -> Self {
        Self { dial, board, lines: BTreeMap::new(), problems: BTreeMap::new() }
    }

    /// Calls each of these replicas once, all at the same time.
    pub async fn call(&mut self, replicas: &BTreeSet<D::Address>) {
        if !self.board.is_measured() {
            self.lines.clear();
            return;
        }
        let mut lines = std::mem::take(&mut self.lines);
        let calls = replicas.iter().map(|replica| {
            let line = lines.remove(replica);
            let call = timeout(PATIENCE, tell(&self.dial, replica, line, &self.board));
            async { (replica.clone(), call.await.unwrap_or_else(|_| Err("no answer in time".to_owned()))) }
        });
        for (replica, outcome) in join_all(calls).await {
            let problem = match outcome {
                Ok((line, refused)) => {
                    self.lines.insert(replica.clone(), line);
                    refused
                }
                Err(problem) => Some(problem),
            };
            if problem.as_ref() != self.problems.get(&replica) {
                match &problem {
                    Some(problem) => tracing::warn!(%replica, problem, "could not tell what nodes draw"),
                    None => tracing::info!(%replica, "is told what nodes draw"),
                }
            }
            match problem {
                Some(problem) => drop(self.problems.insert(replica, problem)),
                None => drop(self.problems.remove(&replica)),
            }
        }
        self.problems.retain(|replica, _| replicas.contains(replica));
    }
}

impl Teller<TlsDialer> {
    /// Calls whatever `replicas` resolves to, for ever.
    pub async fn follow(mut self, replicas: Replicas) {
        let mut known = BTreeSet::new();
        loop {
            match replicas.look_up().await {
                Ok(found) => known = found,
                // Those that are known may well be there.
                Err(error) => tracing::debug!(targets = ?replicas.targets, %error, "could not look up the operator"),
            }
            self.call(&known).await;
            sleep(TELL_INTERVAL).await;
        }
    }
}

/// Tells one replica everything that is new to it. Returns the connection, and what it refused.
async fn tell<D: Dial>(
    dial: &D,
    replica: &D::Address,
    line: Option<Line>,
    board: &Board,
) -> Result<(Line, Option<String>), String> {
    let told = line.as_ref().map_or(0, |line| line.told);
    let mut line = match line.filter(|line| line.since.elapsed() < LIFETIME) {
        Some(line) => line,
        None => {
            let connection = dial.dial(replica).await.map_err(|error| error.to_string())?;
            Line { connection, since: Instant::now(), told }
        }
    };
    let mut refused = None;
    loop {
        let (readings, last) = board.after(line.told, MAX_READINGS, Instant::now());
        let is_all = readings.len() < MAX_READINGS;
        let Wanted { read, refusals } = send(&line.connection, readings).await?;
        board.answered(read, Instant::now());
        refused = refused.or_else(|| refusals.into_iter().next().map(|first| format!("refused: {first}")));
        line.told = last;
        if is_all {
            return Ok((line, refused));
        }
    }
}

async fn send(connection: &Connection, readings: Vec<miyako_api::wire::load::Reading>) -> Result<Wanted, String> {
    let mut request = Request::new(Readings { readings });
    if let Some(authorization) = &connection.authorization {
        request.metadata_mut().insert("authorization", authorization.clone());
    }
    let mut client = LoadClient::new(connection.channel.clone()).max_encoding_message_size(MAX_MESSAGE_BYTES);
    let answer = client.tell(request).await;
    let answer = answer.map_err(|status| format!("{}: {}", status.code(), status.message()))?;
    Ok(answer.into_inner())
}
