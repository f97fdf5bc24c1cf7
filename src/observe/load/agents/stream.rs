//! One agent's stream, from its token to its last sample; and a waker's calls.

use super::{
    super::{SharedLoadStore, StreamId},
    Authenticate, Speaker,
    authenticate::bearer,
    delays::Delays,
};
use crate::clock::Clock;
use futures::{Stream, stream};
use miyako_api::wire::{
    MAX_READINGS,
    load::{Ack, Control, NodeSample, Readings, Wanted, control, load_server::Load},
};
use miyako_core::model::{NodeName, Span};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

/// An agent that sends nothing for this long is gone; it will dial again.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// The shortest time between two samples of a stream that are read: a hurried agent is held back, and by HTTP/2's
/// flow control it notices. An honest one catches up after a stall well within its bounds.
const SHORTEST_GAP: Duration = Duration::from_millis(100);

/// A stream ends after this long, so that the agent shows a fresh token. Kubelets renew projected tokens of an hour
/// at 48 minutes.
const LIFETIME: Duration = Duration::from_secs(45 * 60);

/// The gRPC service `Load`.
pub struct LoadService {
    authenticate: Arc<dyn Authenticate>,
    store: SharedLoadStore,
    clock: Arc<dyn Clock>,
    /// Judges wakers; without it none may speak.
    wakers: Option<Arc<dyn Authenticate>>,
}

impl LoadService {
    /// A service that lets in whom `authenticate` knows, and keeps what they say in `store`.
    pub fn new(authenticate: Arc<dyn Authenticate>, store: SharedLoadStore, clock: Arc<dyn Clock>) -> Self {
        Self { authenticate, store, clock, wakers: None }
    }

    /// Lets wakers in too, as far as `wakers` knows them.
    #[must_use]
    pub fn with_wakers(mut self, wakers: Arc<dyn Authenticate>) -> Self {
        self.wakers = Some(wakers);
        self
    }

    /// Whoever calls.
    async fn admit(&self, by: &dyn Authenticate, metadata: &MetadataMap) -> Result<Speaker, Status> {
        let who = match bearer(metadata) {
            Ok(token) => by.authenticate(token).await,
            Err(error) => Err(error),
        };
        who.map_err(|error| {
            tracing::warn!(reason = error.reason(), %error, "refused a caller");
            self.store.lock().count(error.reason());
            Status::from(&error)
        })
    }
}

#[tonic::async_trait]
impl Load for LoadService {
    type ReportStream = Pin<Box<dyn Stream<Item = Result<Control, Status>> + Send>>;

    async fn report(&self, request: Request<Streaming<NodeSample>>) -> Result<Response<Self::ReportStream>, Status> {
        let Speaker { node, pod } = self.admit(&*self.authenticate, request.metadata()).await?;
        let now = Instant::now();
        let session = Session {
            stream: self.store.lock().open_stream_of(&node, pod.as_deref(), self.clock.now()),
            node,
            inbound: request.into_inner(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            delays: Delays::new(now),
            ends: now + LIFETIME,
            next: now,
        };
        tracing::debug!(node = %session.node, "an agent's stream begins");
        Ok(Response::new(Box::pin(stream::unfold(Some(session), |session| async { session?.step().await }))))
    }

    async fn tell(&self, request: Request<Readings>) -> Result<Response<Wanted>, Status> {
        let Some(wakers) = &self.wakers else { return Err(Status::unimplemented("no waker is known here")) };
        let Speaker { node: waker, .. } = self.admit(&**wakers, request.metadata()).await?;
        let told = request.into_inner();
        if told.readings.len() > MAX_READINGS {
            let count = told.readings.len();
            return Err(Status::invalid_argument(format!("{count} readings in one call; send at most {MAX_READINGS}")));
        }
        let wanted = self.store.lock().accept_readings(&waker, &told, self.clock.now());
        Ok(Response::new(wanted))
    }
}

/// The state of one stream. It is driven by the answers' being asked for, so a client that reads no answers sends
/// no samples.
struct Session {
    stream: StreamId,
    node: NodeName,
    inbound: Streaming<NodeSample>,
    store: SharedLoadStore,
    clock: Arc<dyn Clock>,
    delays: Delays,
    ends: Instant,
    next: Instant,
}

impl Session {
    /// Takes in the next sample and answers it; `None` ends the stream.
    async fn step(mut self) -> Option<(Result<Control, Status>, Option<Self>)> {
        sleep_until(self.next).await;
        if Instant::now() >= self.ends {
            return None;
        }
        let sample = match timeout(LONGEST_SILENCE, self.inbound.message()).await {
            Ok(Ok(Some(sample))) => sample,
            Ok(Ok(None)) => return None,
            Ok(Err(status)) => {
                tracing::debug!(node = %self.node, %status, "an agent's stream broke");
                return Some((Err(status), None));
            }
            Err(_) => {
                let text = format!("no sample within {} s", LONGEST_SILENCE.as_secs());
                return Some((Err(Status::deadline_exceeded(text)), None));
            }
        };
        let arrived = Instant::now();
        self.next = arrived + SHORTEST_GAP;
        let under_way = sample.sent_boot_ms.map_or(Span::ZERO, |sent| self.delays.of(sent, arrived));
        let now = self.clock.now();
        let verdict = self.store.lock().accept_late(self.stream, &self.node, &sample, now, under_way);
        if let Some(refusal) = verdict.refused.as_ref().filter(|refusal| refusal.ends_stream()) {
            tracing::warn!(node = %self.node, reason = refusal.reason(), %refusal, "ended an agent's stream");
            return Some((Err(Status::permission_denied(refusal.to_string())), None));
        }
        let refusals = verdict.refusals().map(ToString::to_string).collect();
        let ack = Ack { sequence: sample.sequence, refusals };
        Some((Ok(Control { message: Some(control::Message::Ack(ack)) }), Some(self)))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.store.lock().close_stream(&self.node, self.stream);
    }
}
