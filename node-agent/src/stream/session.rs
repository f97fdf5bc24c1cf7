//! One stream to one replica, from the first sample to the reason it ended.

use super::{Connection, LONGEST_SILENCE, WallClock, newest::Reader};
use miyako_api::wire::{
    MAX_IN_FLIGHT, MAX_MESSAGE_BYTES,
    load::{Ack, NodeSample, control, load_client::LoadClient},
};
use std::sync::Arc;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionEnd {
    /// The operator refused us or the connection broke.
    #[error("{}: {}", .0.code(), .0.message())]
    Status(#[from] Status),
    /// The operator ended the stream in good order: it stops, or wants to see a fresh token.
    #[error("the operator ended the stream")]
    Closed,
    /// The operator answers no more, although the connection stands.
    #[error("no answer for {} s", LONGEST_SILENCE.as_secs())]
    Silent,
    /// There will be no more samples.
    #[error("sampling ended")]
    NoMoreSamples,
}

/// Sends what `samples` yields until something ends it. `on_ack` sees each answer.
///
/// At most [`MAX_IN_FLIGHT`] samples are unanswered at any time; meanwhile `samples` drops the oldest.
pub async fn run_session(
    connection: Connection,
    samples: &mut Reader,
    clock: &WallClock,
    mut on_ack: impl FnMut(&Ack),
) -> SessionEnd {
    let (outbound, queue) = mpsc::channel::<NodeSample>(MAX_IN_FLIGHT);
    let mut request = Request::new(ReceiverStream::new(queue));
    if let Some(authorization) = connection.authorization {
        request.metadata_mut().insert("authorization", authorization);
    }
    let mut client = LoadClient::new(connection.channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let opened = tokio::time::timeout(LONGEST_SILENCE, client.report(request)).await;
    let mut answers = match opened {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return status.into(),
        Err(_) => return SessionEnd::Silent,
    };
    let mut in_flight = 0_usize;
    let mut patience_ends = Instant::now() + LONGEST_SILENCE;
    loop {
        tokio::select! {
            biased;
            answer = answers.message() => match answer {
                Ok(Some(answer)) => {
                    patience_ends = Instant::now() + LONGEST_SILENCE;
                    if let Some(control::Message::Ack(ack)) = answer.message {
                        in_flight = in_flight.saturating_sub(1);
                        on_ack(&ack);
                    }
                }
                Ok(None) => return SessionEnd::Closed,
                Err(status) => return status.into(),
            },
            () = sleep_until(patience_ends), if in_flight > 0 => return SessionEnd::Silent,
            sample = samples.next(), if in_flight < MAX_IN_FLIGHT => {
                let Some(sample) = sample else { return SessionEnd::NoMoreSamples };
                let mut sample = Arc::unwrap_or_clone(sample);
                samples.add_past(&mut sample);
                sample.sent_unix_ms = clock();
                samples.note_sent(&mut sample);
                if in_flight == 0 {
                    patience_ends = Instant::now() + LONGEST_SILENCE;
                }
                in_flight += 1;
                // The queue holds as many as may be in flight, so this fails only when the stream has ended; the
                // reason comes with the answers.
                if outbound.try_send(sample).is_err() {
                    return answers.message().await.map_or_else(Into::into, |_| SessionEnd::Closed);
                }
            }
        }
    }
}
